"""Structures by formula: helices, strands, and what puts them into files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biotilt.rewards.protein.pdb import RESIDUE_NAMES
from biotilt.spaces import PROTEIN


def helix(length: int) -> np.ndarray:
    """Cα of an α-helix: 100° and 1.5 Å a residue, 2.3 Å from the axis, right-handed."""
    turn = np.deg2rad(100) * np.arange(length)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], 1)


def strand(length: int) -> np.ndarray:
    """Cα of an extended strand: a flat zigzag of 3.2 Å a residue."""
    places = np.arange(length)
    return np.stack([0.9 * (-1.0) ** places, 0.0 * places, 3.2 * places], 1)


def atoms_of(sequence: str, places: np.ndarray, chain: str = "A", plddt: float = 0.5, names: tuple[str, ...] = ("CA",)):
    """An AtomArray with `names` atoms a residue; places `(L, 3)`, or `(L, len(names), 3)`."""
    import biotite.structure as structure

    spread = places[:, None] if places.ndim == 2 else places
    return structure.array([
        structure.Atom(spread[i, j], chain_id=chain, res_id=i + 1, atom_name=name, element=name[0],
                       res_name=RESIDUE_NAMES[PROTEIN.letters.index(letter)], b_factor=plddt)
        for i, letter in enumerate(sequence) for j, name in enumerate(names)
    ])  # fmt: skip


def write_pdb(path: Path, atoms) -> Path:
    from biotite.structure.io.pdb import PDBFile

    file = PDBFile()
    file.set_structure(atoms)
    file.write(path)
    return path


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """A rotation for row vectors, by Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross).T
