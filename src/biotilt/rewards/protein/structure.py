"""Rewards of folded structures: confidence, secondary structure, shape, symmetry, surface, likeness to a reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from biotilt.errors import ConfigError, needs_extra
from biotilt.options import FewPair, PathText, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.rewards.protein.folded import Chains, NoStructure, Structure, file_mark
from biotilt.rewards.protein.folding_models import FolderKind, Memory, shared_folder
from biotilt.rewards.protein.pdb import read_pdb
from biotilt.rewards.protein.superposition import best_tm_score, superposed_rmsd

HYDROPHOBIC = ("VAL", "ILE", "LEU", "PHE", "MET", "TRP")


@dataclass(frozen=True, kw_only=True)
class _OfStructure(ABC):
    """Options of every structure reward.

    Args:
        model: "esmfold", "pdb", "predicted_pdb" or "program" (`biotilt.rewards.protein.folding_models`).
        path: of the weights (esmfold) or of the PDB files.
        program: words of a command with `{fasta}` and `{pdb}`, for "program".
        device: where esmfold computes.

    Rewards with the same four options share one memory: a sum of them folds a design once.
    """

    model: FolderKind = "esmfold"
    path: PathText = ""
    program: Sequence[str] = ()
    device: str = "cpu"

    name: ClassVar[str]
    units: ClassVar[str] = ""
    differentiable: ClassVar[bool] = False
    batched: ClassVar[bool] = False

    def __post_init__(self) -> None:
        needs_extra("biotite.structure", "protein")
        check_options(self, f'reward "{self.name}"')
        object.__setattr__(self, "program", tuple(self.program))
        _ = self._folder  # what is missing is said before any design is scored

    @property
    def version(self) -> str:
        # where files lie changes no score; what is in them is in the folder's version, and the reference's
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("path", "device", "reference")}
        return f"1-{digest(repr(options) + self._folder.version)}"

    @property
    def _folder(self) -> Memory:
        return shared_folder(self.model, self.path, tuple(self.program), self.device)

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(design) for design in designs]

    def _score(self, design: str) -> float:
        if not design:
            return NotScored("the design is empty")
        try:
            return float(self.measure(self._folder.fold(self.chains(design))))
        except NoStructure as reason:
            return NotScored(str(reason))

    def chains(self, design: str) -> Chains:
        """Return what is folded for a design."""
        return (design,)

    @abstractmethod
    def measure(self, structure: Structure) -> float:
        """Return the score of a structure; raises NoStructure when it has none."""


@dataclass(frozen=True, kw_only=True)
class PLDDT(_OfStructure):
    """The folding model's own confidence: mean pLDDT of the residues, in [0, 1].

    Source: Jumper et al. 2021, Nature 596:583. High confidence is no proof: repetitive sequences get it easily.
    """

    name = "plddt"
    range = (0.0, 1.0)

    def measure(self, structure: Structure) -> float:
        if structure.plddt is None:
            raise NoStructure('this structure has no confidences; "predicted_pdb" reads them from the B-factors')
        return float(structure.plddt.mean())


@dataclass(frozen=True, kw_only=True)
class PTM(_OfStructure):
    """The predicted TM-score of the fold, in [0, 1] (Jumper et al. 2021)."""

    name = "ptm"
    range = (0.0, 1.0)

    def measure(self, structure: Structure) -> float:
        return _given(structure.ptm, "pTM")


@dataclass(frozen=True, kw_only=True)
class InterfacePTM(_OfStructure):
    """ipTM, the predicted TM-score between a design and its partner, in [0, 1] (Evans et al. 2021).

    `partner`: the sequence of the chain to bind; it is folded first, the design second. ESMFold was trained on single
    chains: its ipTM is a weak sign. A program made for complexes ("program") is the better judge.

    Raises ConfigError when the partner is empty.
    """

    partner: str

    name = "iptm"
    range = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not self.partner:
            raise ConfigError('reward "iptm": partner must be the sequence of the chain to bind')
        super().__post_init__()

    def chains(self, design: str) -> Chains:
        return (self.partner, design)

    def measure(self, structure: Structure) -> float:
        return _given(structure.iptm, "ipTM")


@dataclass(frozen=True, kw_only=True)
class FoldContent(_OfStructure):
    """The share of residues in strands ("beta") or helices ("alpha") of the structure, in [0, 1].

    By P-SEA, from Cα alone (Labesse et al. 1997), as in biotite.
    """

    which: Literal["alpha", "beta"] = "beta"

    name = "fold_content"
    range = (0.0, 1.0)
    units = "share of residues"

    def measure(self, structure: Structure) -> float:
        classes = needs_extra("biotite.structure", "protein").annotate_sse(structure.atoms)
        return float((classes == self.which[0]).mean())


@dataclass(frozen=True, kw_only=True)
class Globularity(_OfStructure):
    """How compact the fold is: 0 for the radius of gyration of a globular protein or less, else minus the excess.

    The score is −max(0, R/R₀ − 1), R the radius of gyration of the Cα atoms and R₀ = 2.2 N^0.38 Å the usual one of
    a globular protein of N residues (Skolnick et al. 1997, J Mol Biol 265:217).
    """

    name = "globularity"
    units = "excess radius of gyration"
    negated = True

    def measure(self, structure: Structure) -> float:
        places = structure.alpha_carbons
        return 0.0 - max(0.0, radius_of_gyration(places) / (2.2 * len(places) ** 0.38) - 1.0)


@dataclass(frozen=True, kw_only=True)
class Symmetry(_OfStructure):
    """How close the fold is to cyclic symmetry C_n of `copies` equal stretches of the chain: minus an RMSD in Å, ≤ 0.

    The chain is cut in n stretches of ⌊L/n⌋ residues, what is left over is dropped. The Cα of stretches 1, 2, …, n are
    superposed on those of 2, …, n, 1: the RMSD is 0 exactly when one rotation takes every stretch to the next, and the
    last to the first. A screw does not: it never comes back.

    Raises ConfigError for fewer than two copies. Stretches below 3 residues are not scored.
    """

    copies: FewPair

    name = "symmetry"
    units = "Å"
    negated = True

    def measure(self, structure: Structure) -> float:
        places = structure.alpha_carbons
        stretch = len(places) // self.copies
        if stretch < 3:
            raise NoStructure(f"{len(places)} residues are too few for {self.copies} stretches")
        places = places[: stretch * self.copies]
        return -superposed_rmsd(places, np.roll(places, -stretch, axis=0))


@dataclass(frozen=True, kw_only=True)
class HydrophobicSurface(_OfStructure):
    """Minus the share of the surface that belongs to V, I, L, F, M and W, in [−1, 0].

    The surface is that which a water molecule (1.4 Å) reaches (Shrake and Rupley 1973); structures of Cα atoms alone
    have none and are not scored.
    """

    name = "hydrophobic_surface"
    units = "share of surface"

    def measure(self, structure: Structure) -> float:
        if len(structure.atoms) < 3 * len(structure.alpha_carbons):
            raise NoStructure("the structure has no side chains")
        area = needs_extra("biotite.structure", "protein").sasa(structure.atoms)
        area = np.nan_to_num(area)  # hydrogens and atoms of unknown radius have none
        return 0.0 - float(area[np.isin(structure.atoms.res_name, HYDROPHOBIC)].sum() / area.sum())


@dataclass(frozen=True, kw_only=True)
class _ToReference(_OfStructure):
    """Likeness to the structure of a PDB file: `reference` is its path, `chain` one of its chains (all, if empty)."""

    reference: PathText
    chain: str = ""

    def __post_init__(self) -> None:
        if not Path(self.reference).is_file():
            raise ConfigError(f'reward "{self.name}": reference = "{self.reference}" is not a file')
        if not len(self._reference):
            known = ", ".join(f'"{chain}"' for chain in dict.fromkeys(read_pdb(self.reference).chain_id.tolist()))
            raise ConfigError(f'reward "{self.name}": {self.reference} has no chain "{self.chain}"; it has {known}')
        super().__post_init__()

    @property
    def version(self) -> str:
        return f"{super().version}-{file_mark(Path(self.reference))}"

    @cached_property
    def _reference(self) -> Any:
        atoms = read_pdb(self.reference)
        return atoms[atoms.chain_id == self.chain] if self.chain else atoms

    @property
    def _places(self) -> np.ndarray:
        return Structure(self._reference).alpha_carbons


@dataclass(frozen=True, kw_only=True)
class ReferenceRMSD(_ToReference):
    """Minus the RMSD in Å of the Cα atoms to a reference, residue by residue, after the best superposition (Kabsch).

    Designs of another length than the reference are not scored.
    """

    name = "reference_rmsd"
    units = "Å"
    negated = True

    def measure(self, structure: Structure) -> float:
        found, wanted = structure.alpha_carbons, self._places
        if len(found) != len(wanted):
            raise NoStructure(f"the structure has {len(found)} residues, and the reference {len(wanted)}")
        return -superposed_rmsd(found, wanted)


@dataclass(frozen=True, kw_only=True)
class TMScore(_ToReference):
    """TM-score to a reference, in (0, 1]; above 0.5 two proteins have the same fold (Zhang and Skolnick 2004).

    Designs as long as the reference are compared residue by residue, and the superposition is searched as TM-score
    does. Others are aligned by structure first (biotite's superimpose_structural_homologs). Always over the length of
    the reference.
    """

    name = "tm_score"
    range = (0.0, 1.0)

    def measure(self, structure: Structure) -> float:
        found, wanted = structure.alpha_carbons, self._places
        if len(found) == len(wanted):
            return best_tm_score(found, wanted)
        module = needs_extra("biotite.structure", "protein")
        try:
            moved, _, at_reference, at_design = module.superimpose_structural_homologs(
                self._reference, structure.atoms, max_iterations=5
            )
        except (ValueError, IndexError) as error:
            raise NoStructure(f"it cannot be aligned to the reference: {error}") from error
        return float(module.tm_score(self._reference, moved, at_reference, at_design, reference_length="reference"))


def radius_of_gyration(places: np.ndarray) -> float:
    """Return √ mean |x − x̄|² of points `(N, 3)`, in their unit; all points weigh the same.

    >>> radius_of_gyration(np.array([[0.0, 0, 0], [2.0, 0, 0]]))
    1.0
    """
    return float(np.sqrt(((places - places.mean(0)) ** 2).sum(1).mean()))


def _given(value: float | None, what: str) -> float:
    if value is None:
        raise NoStructure(f"the folding model gives no {what}")
    return value
