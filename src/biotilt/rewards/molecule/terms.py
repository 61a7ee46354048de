"""What scores of molecules are made of: numbers read off a parsed molecule, how they are judged, and their means."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

from biotilt.errors import needs_extra
from biotilt.rewards.molecule.properties import EXTRA, chem, parse, pattern

Term = Callable[[Any], float]
"""A number of a parsed molecule."""

Fingerprint = Literal["ecfp4", "ecfp6", "fcfp4", "atom_pairs", "pharmacophores"]


def log_p(molecule: Any) -> float:
    """Return the octanol-water log P of Wildman and Crippen (1999)."""
    return needs_extra("rdkit.Chem.Crippen", EXTRA).MolLogP(molecule)


def polar_surface(molecule: Any) -> float:
    """Return the topological polar surface area in Å² (Ertl et al. 2000)."""
    return _descriptors().CalcTPSA(molecule)


def complexity(molecule: Any) -> float:
    """Return the complexity of Bertz (1981)."""
    return needs_extra("rdkit.Chem.GraphDescriptors", EXTRA).BertzCT(molecule)


def rings(molecule: Any) -> float:
    return _descriptors().CalcNumRings(molecule)


def aromatic_rings(molecule: Any) -> float:
    return _descriptors().CalcNumAromaticRings(molecule)


def number_of(element: str) -> Term:
    """Return the term that counts the atoms of an element, hydrogens too where they are not written."""

    def count(molecule: Any) -> float:
        return _elements(molecule).get(element, 0)

    return count


def with_pattern(smarts: str) -> Term:
    """Return the term that is 1 where a SMARTS pattern is present, and 0 elsewhere."""
    return lambda molecule: float(molecule.HasSubstructMatch(pattern(smarts)))


def without_pattern(smarts: str) -> Term:
    """Return the term that is 0 where a SMARTS pattern is present, and 1 elsewhere."""
    return lambda molecule: 1.0 - molecule.HasSubstructMatch(pattern(smarts))


def similar_to(smiles: str, kind: Fingerprint) -> Term:
    """Return the Tanimoto similarity to a molecule: of counts, not folded; of sets for pharmacophores.

    "ecfp4" and "ecfp6" are Morgan's of radius 2 and 3, "fcfp4" that of radius 2 by features of atoms, "atom_pairs"
    those up to ten bonds apart (Carhart et al. 1985), "pharmacophores" the ones of Gobbi and Poppinger (1998).
    """
    target = _counted(parse(smiles), kind)

    def likeness(molecule: Any) -> float:
        return needs_extra("rdkit.DataStructs", EXTRA).TanimotoSimilarity(_counted(molecule, kind), target)

    return likeness


def formula(text: str) -> Term:
    """Return how close a molecule comes to a formula such as "C7H8N2O2", in [0, 1].

    The geometric mean of a bell around the number of each element, of deviation 1, and one around that of all atoms,
    of deviation 2.
    """
    wanted = elements_of(text)
    terms = [bell(number_of(element), count, 1.0) for element, count in wanted.items()]
    return geometric_mean(*terms, bell(_atoms, sum(wanted.values()), 2.0))


def elements_of(text: str) -> dict[str, int]:
    """Return how many atoms of each element a formula has.

    >>> elements_of("C9H10N2O2PF2Cl")
    {'C': 9, 'H': 10, 'N': 2, 'O': 2, 'P': 1, 'F': 2, 'Cl': 1}
    """
    return {element: int(count or 1) for element, count in re.findall(r"([A-Z][a-z]?)(\d*)", text)}


def bell(term: Term, mean: float, deviation: float) -> Term:
    """Return exp(−½((x − mean)/deviation)²) of a term x."""
    return lambda molecule: math.exp(-0.5 * ((term(molecule) - mean) / deviation) ** 2)


def at_most(term: Term, limit: float, deviation: float) -> Term:
    """Return 1 up to the limit, and the falling half of a bell above it."""
    return bell(lambda molecule: max(term(molecule), limit), limit, deviation)


def at_least(term: Term, limit: float, deviation: float) -> Term:
    """Return 1 from the limit on, and the rising half of a bell below it."""
    return bell(lambda molecule: min(term(molecule), limit), limit, deviation)


def up_to(term: Term, enough: float) -> Term:
    """Return min(x / enough, 1) of a term x ≥ 0."""
    return lambda molecule: min(term(molecule) / enough, 1.0)


def mean(*terms: Term) -> Term:
    return lambda molecule: sum(term(molecule) for term in terms) / len(terms)


def geometric_mean(*terms: Term) -> Term:
    """Return (Π x)^(1/n) of terms ≥ 0, by logarithms: many small ones do not vanish."""

    def of(molecule: Any) -> float:
        values = [term(molecule) for term in terms]
        return math.exp(sum(map(math.log, values)) / len(values)) if min(values) > 0 else 0.0

    return of


def _descriptors() -> Any:
    return needs_extra("rdkit.Chem.rdMolDescriptors", EXTRA)


def _elements(molecule: Any) -> Mapping[str, int]:
    """Return the number of atoms of each element, by the formula; isotopes count as what they are."""
    return elements_of(_descriptors().CalcMolFormula(molecule))


def _atoms(molecule: Any) -> float:
    return sum(_elements(molecule).values())


def _counted(molecule: Any, kind: Fingerprint) -> Any:
    if kind == "pharmacophores":
        factory = needs_extra("rdkit.Chem.Pharm2D.Gobbi_Pharm2D", EXTRA).factory
        return needs_extra("rdkit.Chem.Pharm2D.Generate", EXTRA).Gen2DFingerprint(molecule, factory)
    return _generator(kind).GetSparseCountFingerprint(molecule)


@cache
def _generator(kind: Fingerprint) -> Any:
    chem()
    made = needs_extra("rdkit.Chem.rdFingerprintGenerator", EXTRA)
    if kind == "atom_pairs":
        return made.GetAtomPairGenerator(maxDistance=10)
    features = {"atomInvariantsGenerator": made.GetMorganFeatureAtomInvGen()} if kind == "fcfp4" else {}
    return made.GetMorganGenerator(radius=3 if kind == "ecfp6" else 2, **features)
