"""Molecules as graphs: states are node features and bond orders, and designs are canonical SMILES."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from biotilt.core.graphs import GraphLayout
from biotilt.core.space import Counted, Measured, Medium, Mending, Modelled, Pictured, Record, Related
from biotilt.errors import ConfigError, DataError, suggest
from biotilt.options import Few, Word
from biotilt.spaces.arrays import checked_points
from biotilt.spaces.bonds import VALENCE, molecule_text
from biotilt.spaces.molecules import chem, fingerprints, scaffold_of, sheet, silence, tanimoto
from biotilt.spaces.told import DecodedText, ToldText
from biotilt.spaces.writing import check_designs_output, write_designs

CUTS = (0.5, 1.5, 2.5)  # between bond orders
_TOGETHER = 64  # molecules that are tried at a time


class Unfit(DataError):
    """A molecule is one, and no graph of the space holds it."""


@dataclass(frozen=True)
class GraphsOptions:
    """What a file says of graphs."""

    atoms: Annotated[list[Word], Field(min_length=1, max_length=len(VALENCE))]
    nodes: Few


@dataclass(frozen=True)
class Graphs(Mending[str], Modelled[str], Measured[str], Counted[str], Related[str], Pictured[str]):
    """Molecules of up to `nodes` = N heavy atoms, each one of the `atoms`, F of them.

    A state `(D,)` is flat (`core.graphs`): the features of the nodes, one-hot, the upper triangle of the adjacency,
    bond orders 0 to 3 of kekulised rings, and the number n of nodes that are there. What belongs to a node from n on is
    0 and means nothing.

    Designs are canonical SMILES, as those of the space selfies. Atoms are those with the largest feature, and bonds are
    cut at 0.5, 1.5 and 2.5; hydrogens are implied. Where an atom has more bonds than it can have, some are taken away
    (`bonds.mend`), and of several parts the largest is the design: so nearly every state is a molecule, and `mended`
    says of a design whether it was one by itself. What RDKit refuses, and a state without nodes, decodes to "".

    Graphs hold no stereochemistry and no charges but those that bonds imply (`bonds.charges`). `encode` drops the
    first, and refuses a molecule with others, such as a zwitterion.

    Raises:
        ConfigError: an atom is unknown or repeats, or N is below 1.

    >>> space = Graphs(("C", "O"), 3)
    >>> space.encode(["CCO"]).tolist()
    [[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 3.0]]
    >>> space.decode(torch.tensor([[0.9, 0.2, 0.1, 0.6, 0.0, 0.0, 2.4, 0.0, 0.0, 2.0]]))
    ['C=O']
    """

    atoms: tuple[str, ...]
    nodes: int

    kind: ClassVar[str] = "graphs"
    Options: ClassVar[type] = GraphsOptions
    medium: ClassVar[Medium] = "text"
    distance_is: ClassVar[str] = "1 − Tanimoto similarity (Morgan, radius 2)"

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", tuple(self.atoms))
        if self.nodes < 1 or not self.atoms or len(set(self.atoms)) < len(self.atoms):
            raise ConfigError(
                f"graphs: nodes ≥ 1 and different atoms are needed, got {self.nodes} nodes and the atoms "
                f"{', '.join(self.atoms) or 'none'}"
            )
        for atom in self.atoms:
            if atom not in VALENCE:
                raise ConfigError(f'graphs: atom "{atom}" has no known valence{suggest(atom, VALENCE)}')

    @classmethod
    def of_molecules(cls, smiles: Sequence[str], nodes: int | None = None) -> Graphs:
        """Return the space of the atoms of these molecules, by atomic number; `nodes`: default, of the largest.

        Raises DataError where there is none, one is no molecule, or has an atom whose valence is not known.

        >>> Graphs.of_molecules(["CCO", "C#N"])
        Graphs(atoms=('C', 'N', 'O'), nodes=3)
        """
        found, largest = dict[str, int](), 0
        for row, text in enumerate(smiles, 1):
            molecule = _parsed(text, row)
            largest = max(largest, molecule.GetNumAtoms())
            for atom in molecule.GetAtoms():
                found[atom.GetSymbol()] = atom.GetAtomicNum()
                if atom.GetSymbol() not in VALENCE:
                    raise DataError(f"molecule {row} has the atom {atom.GetSymbol()}, which no graph holds: {text}")
        if not found:
            raise DataError("there are no molecules to take atoms from")
        return cls(tuple(sorted(found, key=found.__getitem__)), nodes or largest)

    @property
    def name(self) -> str:
        return "graphs"

    @property
    def size(self) -> int:
        """The number D of coordinates of a state."""
        return self.layout.size

    @property
    def layout(self) -> GraphLayout:
        """Where a state has its features, edges and number of nodes."""
        return GraphLayout(self.nodes, len(self.atoms))

    def sizes(self, states: Tensor) -> dict[str, Any]:
        """Return what process and network are told; `counts`: the shares of 1 … N nodes among the states."""
        counts = torch.bincount(self.layout.counts(states).clamp(0, self.nodes), minlength=self.nodes + 1)[1:]
        shares = tuple((counts / counts.sum()).tolist())
        return super().sizes(states) | {"nodes": self.nodes, "features": len(self.atoms), "counts": shares}

    def fitting(self, designs: Sequence[str]) -> list[str]:
        """Return those of some molecules that have a state; DataError for a text that is no molecule."""
        kept = list[str]()
        for start in range(0, len(designs), _TOGETHER):
            kept += self._fitting(list(designs[start : start + _TOGETHER]))
        return kept

    def _fitting(self, designs: list[str]) -> list[str]:
        try:
            self.encode(designs)
        except Unfit:
            half = len(designs) // 2
            return self._fitting(designs[:half]) + self._fitting(designs[half:]) if half else []
        return designs

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return states `(B, D)`, float32, of SMILES, with atoms in the order of the canonical SMILES.

        Raises:
            DataError: there is no text; one is no molecule, is of several parts or too large, has another atom, or
                would not come back from its graph. The message names the molecule.
        """
        if not designs:
            raise DataError("there are no molecules to encode")
        molecules = [_parsed(str(text), row) for row, text in enumerate(designs, 1)]
        flat = [chem().MolToSmiles(molecule) for molecule in molecules]
        states = torch.from_numpy(np.stack([self._state(m, f"molecule {i}") for i, m in enumerate(molecules, 1)]))
        for row, (smiles, back) in enumerate(zip(flat, self.decode(states)), 1):
            if back != smiles:
                raise Unfit(
                    f"molecule {row} has charges, hydrogens or bonds that a graph does not hold (it would come back as "
                    f"{back}): {smiles}"
                )
        return states

    def _state(self, molecule: Any, what: str) -> np.ndarray:
        """Return the state `(D,)` of a molecule, whose rings become kekulised; DataError where it does not fit."""
        count, size = molecule.GetNumAtoms(), self.nodes
        if count > size:
            raise Unfit(f"{what} has {count} heavy atoms, and at most {size} fit: {chem().MolToSmiles(molecule)}")
        features, orders = np.zeros((size, len(self.atoms)), np.float32), np.zeros((size, size), np.float32)
        chem().Kekulize(molecule, clearAromaticFlags=True)
        for atom in molecule.GetAtoms():
            if atom.GetSymbol() not in self.atoms:
                raise Unfit(
                    f"{what} has the atom {atom.GetSymbol()}, which is not among {', '.join(self.atoms)}: "
                    f"{chem().MolToSmiles(molecule)}"
                )
            features[atom.GetIdx(), self.atoms.index(atom.GetSymbol())] = 1
        for bond in molecule.GetBonds():
            ends = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            orders[ends[0], ends[1]] = bond.GetBondTypeAsDouble()
        upper = orders[np.triu_indices(size, 1)]  # row by row, as torch.triu_indices
        return np.concatenate([features.ravel(), upper, np.array([count], np.float32)])

    def decode(self, states: Tensor) -> list[str]:
        """Return the canonical SMILES of states `(B, D)`, "" where there is no molecule; they know if they were mended.

        Raises DataError for another shape, or for numbers that are none.
        """
        features, edges, there = self.layout.parts(checked_points(states, self.size))
        orders = torch.bucketize(edges, torch.tensor(CUTS, dtype=edges.dtype))
        found = list[str]()
        for row, bonds, count in zip(features.argmax(-1).tolist(), orders.tolist(), there.sum(-1).tolist()):
            atoms = tuple(self.atoms[kind] for kind in row[:count])
            found.append(molecule_text(atoms, tuple(tuple(bonds[node][:count]) for node in range(count))))
        return found

    def mended(self, design: str) -> bool | None:
        """Return whether bonds were taken away from a design, or it is no molecule; None of one from elsewhere."""
        return design.mended if isinstance(design, DecodedText) else None

    def key(self, design: str) -> str:
        return str(design)

    def design_of(self, key: str) -> str:
        return ToldText.of_key(key)

    def family(self, design: str) -> str:
        """Return the Bemis-Murcko scaffold of a molecule; itself where it has no ring."""
        return scaffold_of(design)

    def counts(self, designs: Sequence[str]) -> Tensor:
        """Return the count Morgan fingerprints `(N, BITS)` of radius 2; zeros for what is no molecule."""
        return fingerprints(designs)

    def apart(self, distance: str) -> str:
        return f"are {distance} apart (1 − Tanimoto)"

    def mean_distance(self, designs: Sequence[str]) -> float:
        return tanimoto(designs)[0]

    def nearest_distances(self, designs: Sequence[str]) -> list[float]:
        return tanimoto(designs)[1]

    def check_output(self, path: Path) -> None:
        check_designs_output(path)

    def write(self, path: Path, records: Sequence[Record[str]]) -> None:
        write_designs(path, records)

    def picture(self, sets: Mapping[str, Sequence[str]]) -> str:
        """Return drawings of the first molecules of each set."""
        return sheet(sets)

    @property
    def usual_process(self) -> dict[str, Any]:
        """Nodes and edges noised by "vp", which forgets the design at t = 1, and a network that says x_0."""
        laws = {"node_law": "vp", "edge_law": "vp", "node_range": (0.1, 20.0), "edge_range": (0.1, 20.0)}
        return {"name": "graph", "prediction": "x0"} | laws

    @property
    def usual_network(self) -> str:
        return "vector_mlp"

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "atoms": list(self.atoms), "nodes": self.nodes}


def _parsed(text: str, row: int) -> Any:
    """Return the molecule of a SMILES without stereo, atoms in canonical order; DataError where it is none."""
    rdkit = chem()
    with silence():
        molecule = rdkit.MolFromSmiles(text)
        if molecule is None or molecule.GetNumAtoms() == 0:
            raise DataError(f'molecule {row} is not valid SMILES: "{text}"')
        if "." in text:
            raise Unfit(f"molecule {row} is of several parts; keep one of them: {text}")
        flat = rdkit.MolFromSmiles(rdkit.MolToSmiles(molecule, isomericSmiles=False))
    if flat is None:
        raise DataError(f"molecule {row} cannot be written without its stereochemistry: {text}")
    return flat
