"""How like a reference ligand a molecule is: by the pharmacophores of its graph, and laid over it in space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import Field

from biotilt.errors import ConfigError, needs_extra
from biotilt.options import Few, Whole
from biotilt.rewards.generic.base import NotScored
from biotilt.rewards.molecule.properties import EXTRA, OfMolecule, Ranged, chem, parse
from biotilt.rewards.molecule.terms import Term, similar_to


@dataclass(frozen=True)
class Pharmacophore(Ranged):
    """Tanimoto similarity in [0, 1] of two-dimensional pharmacophores to one molecule (Gobbi and Poppinger 1998).

    Pairs and triples of donors, acceptors, hydrophobic groups, aromatic rings and charges, with the bonds between them:
    another skeleton with the same groups in the same places scores high, where Morgan fingerprints do not. About 30 ms
    a molecule.

    `reference`: its SMILES, required. With `low` or `high`, minus the distance to that range. Raises `ConfigError`
    when the reference is no molecule.

    >>> same, other = Pharmacophore(reference="NCCc1ccccc1")(["c1ccccc1CCN", "CCO"])
    >>> same, other < 0.1
    (1.0, True)
    """

    reference: str = ""

    name = "pharmacophore"
    units = "Tanimoto"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_reference(self.name, self.reference)

    def property(self, molecule: Any) -> float:
        return _pharmacophores(self.reference)(molecule)


@dataclass(frozen=True)
class Overlay(OfMolecule):
    """How well a molecule can be laid over a reference ligand, in [0, 1]: mean of shape and feature Tanimoto.

    Of `conformers` of each (ETKDG, Wang et al. 2020) the pair that fits best, aligned by gaussian shapes and coloured
    features (RDKit's port of PubChem's alignment). It reads the same claim as `pharmacophore` in space: which groups
    can be in the same places at once. Ten conformers do not cover a flexible molecule. About 0.1 s a molecule.

    Args:
        reference: SMILES, required.
        conformers: of the reference and of each design.
        seed: of the conformers; the same seed gives the same score.

    Raises `ConfigError` when the reference is no molecule, or no conformer of it can be made.

    >>> same, other = Overlay(reference="NCCc1ccccc1")(["c1ccccc1CCN", "CCO"])
    >>> same > 0.9 > 0.6 > other
    True
    """

    reference: str = ""
    conformers: Few = 5
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 1

    name: ClassVar[str] = "overlay"
    units: ClassVar[str] = "shape and features"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_reference(self.name, self.reference)
        heavy = parse(self.reference).GetNumHeavyAtoms()
        if heavy == 0 or not _shapes(self.reference, self.conformers, self.seed):
            raise ConfigError(f'reward "overlay": no conformer of the reference {self.reference} can be made')

    def measure(self, molecule: Any) -> float:
        align = needs_extra("rdkit.Chem.rdShapeAlign", EXTRA).AlignMol
        if molecule.GetNumHeavyAtoms() == 0:  # the alignment would end the process
            return NotScored("there is no heavy atom to lay over the reference")
        probe, places = _embedded(molecule, self.conformers, self.seed)
        if not places:
            return NotScored("no conformer of the molecule can be made")
        shapes = _shapes(self.reference, self.conformers, self.seed)
        best = max(sum(align(shape, probe, place, True, _EQUAL)) for shape in shapes for place in places)
        return min(best / 2, 1.0)  # of itself it may be more by rounding


_EQUAL = 0.5  # weight of the shape while aligning, beside that of the features


def _check_reference(name: str, reference: str) -> None:
    if parse(reference) is None:
        raise ConfigError(f'reward "{name}": reference = "{reference}" is not valid SMILES')


@cache  # what is made of a reference is kept once a process
def _pharmacophores(reference: str) -> Term:
    return similar_to(reference, "pharmacophores")


@cache
def _shapes(reference: str, conformers: int, seed: int) -> list[Any]:
    prepare = needs_extra("rdkit.Chem.rdShapeAlign", EXTRA).PrepareConformer
    molecule, places = _embedded(parse(reference), conformers, seed)
    return [prepare(molecule, place) for place in places]


def _embedded(molecule: Any, conformers: int, seed: int) -> tuple[Any, list[int]]:
    """Return the molecule with hydrogens and conformers, and the numbers of these; none where there is no way."""
    geometry = needs_extra("rdkit.Chem.rdDistGeom", EXTRA)
    with needs_extra("rdkit.rdBase", EXTRA).BlockLogs():
        whole = chem().AddHs(molecule)
        parameters = geometry.ETKDGv3()
        parameters.randomSeed, parameters.numThreads = seed, 1
        parameters.maxIterations = 10  # a cage that has no conformer would take minutes
        return whole, list(geometry.EmbedMultipleConfs(whole, conformers, parameters))
