"""The oracles of practical molecular optimisation, against their definitions worked out by hand."""

import math

import pytest

pytest.importorskip("rdkit")

from rdkit.Chem import AllChem, Crippen, GraphDescriptors, MolFromSmiles
from rdkit.Chem.AtomPairs import Pairs

from biotilt.errors import ConfigError
from biotilt.rewards import NotScored, build
from biotilt.rewards.molecule import pmo, terms
from biotilt.rewards.molecule.pmo import ORACLES, PMO


def score(oracle: pmo.OracleName, smiles: str) -> float:
    (found,) = PMO(oracle=oracle)([smiles])
    return found


def tanimoto(one: dict[int, int], two: dict[int, int]) -> float:
    keys = one.keys() | two.keys()
    return sum(min(one.get(k, 0), two.get(k, 0)) for k in keys) / sum(max(one.get(k, 0), two.get(k, 0)) for k in keys)


def circles(smiles: str, radius: int, features: bool = False) -> dict[int, int]:
    # the older interface of RDKit, which the benchmark was written with
    return AllChem.GetMorganFingerprint(MolFromSmiles(smiles), radius, useFeatures=features).GetNonzeroElements()


@pytest.mark.parametrize(
    ("oracle", "drug"),
    [
        ("albuterol_similarity", pmo.ALBUTEROL), ("mestranol_similarity", pmo.MESTRANOL),
        ("celecoxib_rediscovery", pmo.CELECOXIB), ("thiothixene_rediscovery", pmo.THIOTHIXENE),
        ("troglitazone_rediscovery", pmo.TROGLITAZONE),
    ],
)  # fmt: skip
def test_the_drug_that_is_asked_for_scores_one(oracle: pmo.OracleName, drug: str) -> None:
    assert score(oracle, drug) == 1.0
    assert 0 < score(oracle, "CC(=O)Nc1ccc(O)cc1") < 0.5


def test_similarities_are_of_counts_and_level_off() -> None:
    near = "CC(C)NCC(O)c1ccc(O)c(CO)c1"  # a methyl less
    likeness = tanimoto(circles(near, 2, True), circles(pmo.ALBUTEROL, 2, True))
    assert likeness > 0.5
    assert score("albuterol_similarity", near) == pytest.approx(min(likeness / 0.75, 1.0))
    far = "CCCCc1ccccc1"
    likeness = tanimoto(circles(far, 2, True), circles(pmo.ALBUTEROL, 2, True))
    assert score("albuterol_similarity", far) == pytest.approx(likeness / 0.75)
    assert score("celecoxib_rediscovery", far) == pytest.approx(tanimoto(circles(far, 2), circles(pmo.CELECOXIB, 2)))
    found = [Pairs.GetAtomPairFingerprint(MolFromSmiles(m)).GetNonzeroElements() for m in (far, pmo.MESTRANOL)]
    # a code's last five bits are the distance; mestranol has pairs of atoms that are further apart
    pairs = [{code: count for code, count in codes.items() if code % 32 <= 10} for codes in found]
    assert len(pairs[1]) < len(found[1])
    assert score("mestranol_similarity", far) == pytest.approx(tanimoto(*pairs) / 0.75)


def test_a_median_is_the_geometric_mean_of_two_likenesses() -> None:
    between = "CC1CCC(C)(C)CC1=O"
    two = [tanimoto(circles(between, 2), circles(drug, 2)) for drug in (pmo.CAMPHOR, pmo.MENTHOL)]
    assert score("median1", between) == pytest.approx(math.sqrt(two[0] * two[1]))
    likeness = tanimoto(circles(pmo.TADALAFIL, 3), circles(pmo.SILDENAFIL, 3))
    assert score("median2", pmo.TADALAFIL) == pytest.approx(math.sqrt(likeness))


def test_isomers_by_the_deviations_of_each_element() -> None:
    # benzene, C6H6: one carbon, two H, N and O less, 12 atoms in place of 19
    exponent = -(1**2 + 2**2 + 2**2 + 2**2 + (7 / 2) ** 2) / 2
    assert score("isomers_c7h8n2o2", "c1ccccc1") == pytest.approx(math.exp(exponent / 5))
    assert score("isomers_c7h8n2o2", "Nc1ccc(C(=O)NO)cc1") == 1.0
    # the same of C9H10N2O2PF2Cl without its chlorine, which a hydrogen replaces
    with_all, without = "CP(=O)(Nc1ccc(F)c(F)c1)NC(=O)CCl", "CP(=O)(Nc1ccc(F)c(F)c1)NC(=O)C"
    assert score("isomers_c9h10n2o2pf2cl", with_all) == 1.0
    assert score("isomers_c9h10n2o2pf2cl", without) == pytest.approx(math.exp(-(1 + 1) / 2 / 8))


def test_hydrogens_count_as_isotopes_and_at_charges() -> None:
    hydrogens = terms.number_of("H")
    assert hydrogens(MolFromSmiles("[2H]C")) == 4
    assert hydrogens(MolFromSmiles("C[NH3+]")) == 6
    assert terms.elements_of("C16H15F6N5O") == {"C": 16, "H": 15, "F": 6, "N": 5, "O": 1}


def test_drugs_miss_what_is_asked_of_them_by_this_much() -> None:
    # each is like itself: what is left are the other terms
    assert score("perindopril_mpo", pmo.PERINDOPRIL) == pytest.approx(math.exp(-((2 / 0.5) ** 2) / 2 / 2))
    assert score("amlodipine_mpo", pmo.AMLODIPINE) == pytest.approx(math.exp(-((1 / 0.5) ** 2) / 2 / 2))
    # C17H15N5O, 38 atoms, where C19H17N3O2, 41 atoms, is asked for
    formula = -(2**2 + 2**2 + 2**2 + 1**2 + (3 / 2) ** 2) / 2 / 5
    assert score("zaleplon_mpo", pmo.ZALEPLON) == pytest.approx(math.exp(formula / 2))
    assert score("sitagliptin_mpo", pmo.SITAGLIPTIN) == pytest.approx(math.exp(-((1 / 0.1) ** 2) / 2 / 4))


def test_properties_of_drugs_count_up_to_their_limits() -> None:
    # polar surfaces by the contributions of Ertl et al. 2000, log P by Crippen
    surface = 37.30 + 2 * 20.23 + 3.24  # acid, two hydroxyls, a tertiary amine
    log_p = Crippen.MolLogP(MolFromSmiles(pmo.FEXOFENADINE))
    exponent = -(((90 - surface) / 10) ** 2 + (log_p - 4) ** 2) / 2
    assert score("fexofenadine_mpo", pmo.FEXOFENADINE) == pytest.approx(math.exp(exponent / 3), rel=1e-4)
    # a diarylamine, an amide, pyrimidine, pyrrole, two tertiary amines, an ether
    surface = 12.03 + 29.10 + 2 * 12.89 + 4.93 + 2 * 3.24 + 9.23
    log_p = Crippen.MolLogP(MolFromSmiles(pmo.OSIMERTINIB))
    exponent = -(((1 - 0.85) / 0.1) ** 2 + ((100 - surface) / 10) ** 2 + (log_p - 1) ** 2) / 2
    assert score("osimertinib_mpo", pmo.OSIMERTINIB) == pytest.approx(math.exp(exponent / 4), rel=1e-3)
    # an amide, a hydroxyl, two ethers, two tertiary amines; no fluorine
    surface = 29.10 + 20.23 + 2 * 9.23 + 2 * 3.24
    log_p = Crippen.MolLogP(MolFromSmiles(pmo.RANOLAZINE))
    exponent = -(((95 - surface) / 20) ** 2 + (7 - log_p) ** 2 + 1) / 2
    assert score("ranolazine_mpo", pmo.RANOLAZINE) == pytest.approx(math.exp(exponent / 4), rel=1e-3)


def test_hops_add_what_is_kept_and_what_is_changed() -> None:
    # like itself; both decorations are there, which should not; the scaffold is there
    assert score("deco_hop", pmo.QUINAZOLINE) == pytest.approx((1 + 0 + 0 + 1) / 4)
    # like itself; the decoration is there; the scaffold too, which should not
    assert score("scaffold_hop", pmo.QUINAZOLINE) == pytest.approx((1 + 1 + 0) / 3)
    assert score("deco_hop", "C") == pytest.approx((0 + 1 + 1 + 0) / 4)
    assert score("scaffold_hop", "C") == pytest.approx((0 + 0 + 1) / 3)


def test_valsartan_needs_its_pattern_and_sitagliptins_properties() -> None:
    assert score("valsartan_smarts", pmo.SITAGLIPTIN) == 0.0
    made = "CN(C(=O)C(N)=O)Cc1ccc(-c2ccccc2F)cc1"
    molecules = [MolFromSmiles(m) for m in (made, pmo.SITAGLIPTIN)]
    log_p, bertz = ([of(m) for m in molecules] for of in (Crippen.MolLogP, GraphDescriptors.BertzCT))
    # polar surfaces: a tertiary and a primary amide; a primary amine, a tertiary amide and a triazole
    surface = [20.31 + 43.09, 26.02 + 20.31 + 30.71]
    exponent = ((log_p[0] - log_p[1]) / 0.2) ** 2 + ((bertz[0] - bertz[1]) / 30) ** 2
    exponent += ((surface[0] - surface[1]) / 5) ** 2
    assert score("valsartan_smarts", made) == pytest.approx(math.exp(-exponent / 2 / 4))


def test_each_is_named_scored_and_between_zero_and_one() -> None:
    assert len(ORACLES) == 20
    drugs = ["CC(=O)Nc1ccc(O)cc1", "Fc1ccc(-c2ccccc2)cc1", "CCCCCCCC", "C"]
    for name in ORACLES:
        reward = build("pmo", {"oracle": name})
        assert all(0 <= found <= 1 for found in reward(drugs))
    assert len({PMO(oracle=name).version for name in ORACLES}) == 20
    assert isinstance(PMO(oracle="qed")([""])[0], NotScored)


def test_an_oracle_that_is_none_of_them() -> None:
    with pytest.raises(ConfigError, match=r'"pmo".*oracle.*drd2'):
        build("pmo", {"oracle": "drd2"})
    with pytest.raises(ConfigError, match='"pmo": option "oracle" is missing'):
        build("pmo", {})
