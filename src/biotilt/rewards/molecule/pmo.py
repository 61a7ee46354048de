"""The oracles of practical molecular optimisation that RDKit alone computes (Gao et al. 2022; Brown et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from biotilt.rewards.molecule import terms
from biotilt.rewards.molecule.properties import DrugLikeness, OfMolecule, parse
from biotilt.rewards.molecule.terms import Term, at_least, at_most, bell, geometric_mean, mean, similar_to, up_to

OracleName = Literal[
    "albuterol_similarity", "amlodipine_mpo", "celecoxib_rediscovery", "deco_hop", "fexofenadine_mpo",
    "isomers_c7h8n2o2", "isomers_c9h10n2o2pf2cl", "median1", "median2", "mestranol_similarity", "osimertinib_mpo",
    "perindopril_mpo", "qed", "ranolazine_mpo", "scaffold_hop", "sitagliptin_mpo", "thiothixene_rediscovery",
    "troglitazone_rediscovery", "valsartan_smarts", "zaleplon_mpo",
]  # fmt: skip
ORACLES: tuple[OracleName, ...] = get_args(OracleName)

ALBUTEROL = "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1"
AMLODIPINE = r"Clc1ccccc1C2C(=C(/N/C(=C2/C(=O)OCC)COCCN)C)\C(=O)OC"
CAMPHOR = "CC1(C)C2CCC1(C)C(=O)C2"
CELECOXIB = "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F"
FEXOFENADINE = "CC(C)(C(=O)O)c1ccc(cc1)C(O)CCCN2CCC(CC2)C(O)(c3ccccc3)c4ccccc4"
MENTHOL = "CC(C)C1CCC(C)CC1O"
MESTRANOL = "COc1ccc2[C@H]3CC[C@@]4(C)[C@@H](CC[C@@]4(O)C#C)[C@@H]3CCc2c1"
OSIMERTINIB = "COc1cc(N(C)CCN(C)C)c(NC(=O)C=C)cc1Nc2nccc(n2)c3cn(C)c4ccccc34"
PERINDOPRIL = "O=C(OCC)C(NC(C(=O)N1C(C(=O)O)CC2CCCCC12)C)CCC"
QUINAZOLINE = "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C"  # the start of both hops
RANOLAZINE = "COc1ccccc1OCC(O)CN2CCN(CC(=O)Nc3c(C)cccc3C)CC2"
SILDENAFIL = "CCCC1=NN(C2=C1N=C(NC2=O)C3=C(C=CC(=C3)S(=O)(=O)N4CCN(CC4)C)OCC)C"
SITAGLIPTIN = "Fc1cc(c(F)cc1F)CC(N)CC(=O)N3Cc2nnc(n2CC3)C(F)(F)F"
TADALAFIL = "O=C1N(CC(N2C1CC3=C(C2C4=CC5=C(OCO5)C=C4)NC6=C3C=CC=C6)=O)C"
THIOTHIXENE = "CN(C)S(=O)(=O)c1ccc2Sc3ccccc3C(=CCCN4CCN(C)CC4)c2c1"
TROGLITAZONE = "Cc1c(C)c2OC(C)(COc3ccc(CC4SC(=O)NC4=O)cc3)CCc2c(C)c1O"
ZALEPLON = "O=C(C)N(CC)C1=CC=CC(C2=CC=NC3=C(C=NN23)C#N)=C1"

# Of the hops: what is kept or given up of the quinazoline, as SMARTS.
SULFONYL = "CS([#6])(=O)=O"
BENZOTHIAZOLE = "[#7]-c1ccc2ncsc2c1"
SCAFFOLD = "[#7]-c1n[c;h1]nc2[c;h1]c(-[#8])[c;h0][c;h1]c12"
DECORATION = "[#6]-[#6]-[#6]-[#8]-[#6]~[#6]~[#6]~[#6]~[#6]-[#7]-c1ccc2ncsc2c1"
VALSARTAN = "CN(C=O)Cc1ccc(c2ccccc2)cc1"


@dataclass(frozen=True)
class PMO(OfMolecule):
    """An oracle of the benchmark PMO (Gao et al. 2022), in [0, 1], as GuacaMol defines it (Brown et al. 2019).

    `oracle` is its name there, required. Of the 23 these are the twenty that RDKit alone computes: the three others
    (drd2, gsk3b, jnk3) are models fitted to assays. Similarities, rediscoveries and medians ask for known drugs,
    `isomers_…` for a formula, `…_mpo` for a molecule like a drug with other properties, `…_hop` for another scaffold or
    decoration, `valsartan_smarts` for a pattern of valsartan with the properties of sitagliptin.

    >>> scores = PMO(oracle="albuterol_similarity")(["CC(C)(C)NCC(O)c1ccc(O)c(CO)c1", "C"])
    >>> [round(score, 3) for score in scores]  # methane shares 1 of 45 features; 3/4 count as all
    [1.0, 0.03]
    """

    oracle: OracleName

    name = "pmo"

    def measure(self, molecule: Any) -> float:
        return oracle(self.oracle)(molecule)


@cache  # targets are parsed once a process
def oracle(name: OracleName) -> Term:
    """Return an oracle, of parsed molecules."""
    return _MADE[name]()


def osimertinib() -> Term:
    return geometric_mean(
        up_to(similar_to(OSIMERTINIB, "fcfp4"), 0.8),
        at_most(similar_to(OSIMERTINIB, "ecfp6"), 0.85, 0.1),
        at_least(terms.polar_surface, 100, 10),
        at_most(terms.log_p, 1, 1),
    )


def fexofenadine() -> Term:
    return geometric_mean(
        up_to(similar_to(FEXOFENADINE, "atom_pairs"), 0.8),
        at_least(terms.polar_surface, 90, 10),
        at_most(terms.log_p, 4, 1),
    )


def ranolazine() -> Term:
    return geometric_mean(
        up_to(similar_to(RANOLAZINE, "atom_pairs"), 0.7),
        at_least(terms.log_p, 7, 1),
        at_least(terms.polar_surface, 95, 20),
        bell(terms.number_of("F"), 1, 1),
    )


def perindopril() -> Term:
    return geometric_mean(similar_to(PERINDOPRIL, "ecfp4"), bell(terms.aromatic_rings, 2, 0.5))


def amlodipine() -> Term:
    return geometric_mean(similar_to(AMLODIPINE, "ecfp4"), bell(terms.rings, 3, 0.5))


def sitagliptin() -> Term:
    """Unlike sitagliptin, with its formula, log P and polar surface."""
    return geometric_mean(
        bell(similar_to(SITAGLIPTIN, "ecfp4"), 0, 0.1), *_like_sitagliptin(), terms.formula("C16H15F6N5O")
    )


def zaleplon() -> Term:
    """Like zaleplon, C17H15N5O, with another formula."""
    return geometric_mean(similar_to(ZALEPLON, "ecfp4"), terms.formula("C19H17N3O2"))


def valsartan() -> Term:
    complexity = terms.complexity(parse(SITAGLIPTIN))
    return geometric_mean(terms.with_pattern(VALSARTAN), *_like_sitagliptin(), bell(terms.complexity, complexity, 30))


def deco_hop() -> Term:
    """The scaffold of the quinazoline kept, and other decorations."""
    return mean(
        up_to(similar_to(QUINAZOLINE, "pharmacophores"), 0.85),
        terms.without_pattern(SULFONYL),
        terms.without_pattern(BENZOTHIAZOLE),
        terms.with_pattern(SCAFFOLD),
    )


def scaffold_hop() -> Term:
    """A decoration of the quinazoline kept, and another scaffold."""
    return mean(
        up_to(similar_to(QUINAZOLINE, "pharmacophores"), 0.75),
        terms.with_pattern(DECORATION),
        terms.without_pattern(SCAFFOLD),
    )


def _like_sitagliptin() -> tuple[Term, Term]:
    drug = parse(SITAGLIPTIN)
    return bell(terms.log_p, terms.log_p(drug), 0.2), bell(terms.polar_surface, terms.polar_surface(drug), 5)


_MADE: dict[OracleName, Callable[[], Term]] = {
    "albuterol_similarity": lambda: up_to(similar_to(ALBUTEROL, "fcfp4"), 0.75),
    "amlodipine_mpo": amlodipine,
    "celecoxib_rediscovery": lambda: similar_to(CELECOXIB, "ecfp4"),
    "deco_hop": deco_hop,
    "fexofenadine_mpo": fexofenadine,
    "isomers_c7h8n2o2": lambda: terms.formula("C7H8N2O2"),
    "isomers_c9h10n2o2pf2cl": lambda: terms.formula("C9H10N2O2PF2Cl"),
    "median1": lambda: geometric_mean(similar_to(CAMPHOR, "ecfp4"), similar_to(MENTHOL, "ecfp4")),
    "median2": lambda: geometric_mean(similar_to(TADALAFIL, "ecfp6"), similar_to(SILDENAFIL, "ecfp6")),
    "mestranol_similarity": lambda: up_to(similar_to(MESTRANOL, "atom_pairs"), 0.75),
    "osimertinib_mpo": osimertinib,
    "perindopril_mpo": perindopril,
    "qed": lambda: DrugLikeness().measure,
    "ranolazine_mpo": ranolazine,
    "scaffold_hop": scaffold_hop,
    "sitagliptin_mpo": sitagliptin,
    "thiothixene_rediscovery": lambda: similar_to(THIOTHIXENE, "ecfp4"),
    "troglitazone_rediscovery": lambda: similar_to(TROGLITAZONE, "ecfp4"),
    "valsartan_smarts": valsartan,
    "zaleplon_mpo": zaleplon,
}
