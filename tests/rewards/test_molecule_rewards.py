"""Rewards of molecules, against values worked out by hand or by another route."""

import gzip
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import QED

from biotilt.errors import ConfigError, DataError
from biotilt.rewards import NotScored
from biotilt.rewards.molecule.properties import (
    KINDS,
    Alerts,
    DrugLikeness,
    HeavyAtoms,
    Lipinski,
    LogP,
    Novelty,
    PolarSurface,
    Similarity,
    Substructure,
    SyntheticAccessibility,
    read_smiles,
)

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def test_qed_is_the_weighted_geometric_mean_of_bickerton() -> None:
    # eq. 1 and 3 of Bickerton et al. 2012: desirabilities by double sigmoids, mean weights of its table
    molecule = Chem.MolFromSmiles("CCOC(=O)c1ccc(N)cc1Cl")
    properties = QED.properties(molecule)
    weights = {
        "MW": 0.66,
        "ALOGP": 0.46,
        "HBA": 0.05,
        "HBD": 0.61,
        "PSA": 0.06,
        "ROTB": 0.65,
        "AROM": 0.48,
        "ALERTS": 0.95,
    }

    def desirability(x: float, p: Any) -> float:
        rise = 1 + math.exp(-(x - p.C + p.D / 2) / p.E)
        fall = 1 + math.exp(-(x - p.C - p.D / 2) / p.F)
        return (p.A + p.B / rise * (1 - 1 / fall)) / p.DMAX

    logs = {k: math.log(desirability(getattr(properties, k), QED.adsParameters[k])) for k in weights}
    by_hand = math.exp(sum(weights[k] * logs[k] for k in weights) / sum(weights.values()))
    assert DrugLikeness()(["CCOC(=O)c1ccc(N)cc1Cl"]) == [pytest.approx(by_hand, abs=1e-9)]


def test_ease_of_synthesis_is_high_for_what_is_simple() -> None:
    aspirin, steroid = SyntheticAccessibility()([ASPIRIN, "C[C@]12CCC3C(CC[C@H]4CC(=O)CC[C@]34C)C1CCC2O"])
    assert 1 > aspirin > steroid > 0
    # Ertl's own program gives aspirin 1.58
    assert 10 - 9 * aspirin == pytest.approx(1.58, abs=0.01)


def test_logp_of_methane_and_ranges_by_hand() -> None:
    methane = 0.1441 + 4 * 0.1230  # C1 and H1 of Wildman and Crippen 1999, table 1
    assert LogP()(["C"]) == [pytest.approx(methane)]
    assert LogP(low=1.0, high=3.0)(["C", "CCCCCC"]) == [pytest.approx(methane - 1), 0.0]
    assert LogP(high=0.5)(["C", "O"]) == [pytest.approx(0.5 - methane), 0.0]
    assert LogP(low=0.5)(["C"]) == [0.0]


def test_polar_surface_adds_the_contributions_of_ertl() -> None:
    # OH 20.23, NH2 26.02, ester O 9.23 and carbonyl O 17.07 (Ertl et al. 2000, table 1)
    assert PolarSurface()(["NCCO", "COC(C)=O"]) == [pytest.approx(20.23 + 26.02), pytest.approx(9.23 + 17.07)]
    assert PolarSurface(high=20.0)(["NCCO", "C"]) == [pytest.approx(20 - 46.25), 0.0]


def test_sizes_and_broken_rules_are_counted() -> None:
    assert HeavyAtoms()(["CCO", ASPIRIN]) == [3.0, 13.0]
    assert HeavyAtoms(low=4, high=10)(["CCO", ASPIRIN, "CCCCC"]) == [-1.0, -3.0, 0.0]
    heavy_and_greasy = "C" * 40  # 563 Da and log P far above 5
    many_donors = "OCC(O)C(O)C(O)C(O)CO"  # six OH
    many_acceptors = "O=C(O)C(C(=O)O)(C(=O)O)C(C(=O)O)(C(=O)O)C(=O)O"  # 12 O, 6 OH
    assert Lipinski()(["CCO", heavy_and_greasy, many_donors, many_acceptors]) == [0.0, -2.0, -1.0, -2.0]


def test_alerts_of_each_catalogue() -> None:
    acid_chloride, catechol = "CC(=O)Cl", "Cc1ccc(O)c(O)c1"
    assert Alerts()([acid_chloride, "CCO"]) == [-1.0, 0.0]
    assert Alerts(["PAINS"])([acid_chloride, catechol]) == [0.0, -1.0]
    assert Alerts(["PAINS", "BRENK"])([catechol]) == [-2.0]


def test_similarity_is_the_share_of_common_bits(tmp_path: Path) -> None:
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    molecules = ["CC(=O)Nc1ccc(O)cc1", ASPIRIN, "CCO"]
    bits = [set(generator.GetFingerprint(Chem.MolFromSmiles(m)).GetOnBits()) for m in molecules]
    to_aspirin = [len(b & bits[1]) / len(b | bits[1]) for b in bits]
    assert Similarity(reference=ASPIRIN)(molecules) == pytest.approx(to_aspirin)
    assert Similarity(reference=ASPIRIN, low=0.5)(molecules[:1]) == [pytest.approx(to_aspirin[0] - 0.5)]
    known = tmp_path / "known.csv"
    known.write_text(f"name,SMILES\na,{molecules[1]}\nb,{molecules[2]}\n")
    nearest = max(to_aspirin[0], len(bits[0] & bits[2]) / len(bits[0] | bits[2]))
    assert Novelty(str(known))(molecules) == [pytest.approx(1 - nearest), 0.0, 0.0]


def test_substructures_are_asked_for_or_forbidden() -> None:
    pyridine = ["Cc1ccncc1", "Cc1ccccc1"]
    assert Substructure("c1ccncc1")(pyridine) == [0.0, -math.inf]
    assert Substructure("c1ccncc1", present=False)(pyridine) == [-math.inf, 0.0]


@pytest.mark.parametrize(
    "reward",
    [DrugLikeness(), SyntheticAccessibility(), LogP(), PolarSurface(), HeavyAtoms(), Lipinski(), Alerts(),
     Similarity(reference="CCO"), Substructure("C")],
    ids=lambda reward: reward.name,
)  # fmt: skip
def test_what_is_no_molecule_is_not_scored(reward, capfd: pytest.CaptureFixture[str]) -> None:
    empty, broken, fine = reward(["", "C1CC(", "CCO"])
    assert isinstance(empty, NotScored)
    assert empty.reason == "the design is empty"
    assert isinstance(broken, NotScored)
    assert broken.reason == "the design is not a valid molecule"
    assert fine == fine
    assert "Parse Error" not in capfd.readouterr().err
    assert pickle.loads(pickle.dumps(reward))(["CCO"]) == [fine]


def test_versions_tell_options_and_files_apart(tmp_path: Path) -> None:
    known, same, other = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    known.write_text("CCO\nCCN\n")
    same.write_text("CCO\n\nCCN\n")
    other.write_text("CCO\nCCC\n")
    versions = {
        DrugLikeness().version, LogP().version, LogP(low=1).version, LogP(high=1).version, Alerts().version,
        Alerts(["PAINS"]).version, Similarity(reference="C").version, Similarity(reference="CC").version,
        Substructure("C").version, Substructure("C", present=False).version, Novelty(str(known)).version,
        Novelty(str(other)).version,
    }  # fmt: skip
    assert len(versions) == 12
    assert LogP(low=1).version == LogP(low=1.0).version
    assert Novelty(str(known)).version == Novelty(str(same)).version
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_options_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r'"logp": low = 3.0 is above high = 1.0'):
        LogP(low=3, high=1)
    with pytest.raises(ConfigError, match=r'"tpsa": high must be a finite number'):
        PolarSurface(high=math.nan)
    with pytest.raises(ConfigError, match='unknown catalog "PAIN"; did you mean "PAINS"'):
        Alerts(["PAIN"])
    with pytest.raises(ConfigError, match=r'"alerts": catalogs has too few values'):
        Alerts([])
    with pytest.raises(ConfigError, match='"similarity": reference = "C1CC" is not valid SMILES'):
        Similarity(reference="C1CC")
    with pytest.raises(ConfigError, match='"substructure": smarts = "c1cc" is not valid SMARTS'):
        Substructure("c1cc")


def test_files_of_molecules(tmp_path: Path) -> None:
    packed = tmp_path / "m.tsv.gz"
    with gzip.open(packed, "wt") as handle:
        handle.write("id\tSmiles\n1\tCCO\n2\tc1ccccc1\n")
    assert read_smiles(packed) == ["CCO", "c1ccccc1"]
    broken = tmp_path / "m.csv"
    broken.write_text("smiles\nCCO\nC1CC\n")
    with pytest.raises(DataError, match=r'm.csv:3: not valid SMILES: "C1CC"'):
        read_smiles(broken)
    broken.write_text("name,value\nCCO,1\n")
    with pytest.raises(DataError, match=r"no column of SMILES; name one of its columns \(name, value\) smiles"):
        read_smiles(broken)
    for name in ("named.smi", "named.SMI", "named.smiles"):
        (tmp_path / name).write_text("CCO ethanol\nc1ccccc1\nCCC\tpropane gas\r\n")
        assert read_smiles(tmp_path / name) == ["CCO", "c1ccccc1", "CCC"]
    (tmp_path / "named.txt").write_text("CCC\nCCO ethanol\n")
    with pytest.raises(DataError, match=r"named.txt:2: more than a SMILES; a file with names after the SMILES is .smi"):
        read_smiles(tmp_path / "named.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=r"empty.txt holds no molecules"):
        read_smiles(tmp_path / "empty.txt")
