"""Backbones of N, CA, C and O by ideal bonds and the torsions that one gives, and files of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biotilt.rewards.protein.pdb import RESIDUE_NAMES
from biotilt.spaces import PROTEIN

HELIX, STRAND = (-57.0, -47.0), (-120.0, 130.0)
_BONDS = {"N": (1.329, 116.2), "CA": (1.458, 121.7), "C": (1.525, 111.0)}  # Å to the atom before, and the angle there


def _placed(a: np.ndarray, b: np.ndarray, c: np.ndarray, bond: float, angle: float, torsion: float) -> np.ndarray:
    """Where the atom after a, b, c is: `bond` from c, at `angle` to b, turned by `torsion` about b–c; degrees."""
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    angle, torsion = np.deg2rad(angle), np.deg2rad(torsion)
    frame = np.stack([along, np.cross(normal, along), normal], 1)
    turned = (-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion))
    return c + bond * frame @ np.array(turned)


def backbone(torsions: Sequence[tuple[float, float]]) -> np.ndarray:
    """Places `(L, 4, 3)` of N, CA, C and O of a chain with these φ and ψ, ω = 180°."""
    atoms = [np.zeros(3), np.array([1.458, 0.0, 0.0]), np.array([2.009, 1.42, 0.0])]
    for (_, psi), (phi, _) in itertools.pairwise(torsions):
        for name, torsion in (("N", psi), ("CA", 180.0), ("C", phi)):
            atoms.append(_placed(*atoms[-3:], *_BONDS[name], torsion))
    places = np.array(atoms).reshape(-1, 3, 3)
    oxygens = [_placed(*row, 1.231, 120.1, psi + 180.0) for row, (_, psi) in zip(places, torsions)]
    return np.concatenate([places, np.array(oxygens)[:, None]], 1)


def wandering(length: int, seed: int) -> np.ndarray:
    """A chain of stretches of helices and strands that turn somewhere else in between."""
    random = np.random.default_rng(seed)
    torsions: list[tuple[float, float]] = []
    while len(torsions) < length:
        kind = HELIX if random.random() < 0.5 else STRAND
        stretch = random.normal(0, 8, (random.integers(4, 9), 2)) + kind
        torsions += [(float(a), float(b)) for a, b in stretch] + [(-70.0, float(random.uniform(-180, 180)))] * 2
    return backbone(torsions[:length])


def lines(sequence: str, places: np.ndarray, chain: str = "A", numbers: Sequence[int] | None = None) -> str:
    """The ATOM records of a chain, in PDB format."""
    found = []
    for row, (letter, atoms) in enumerate(zip(sequence, places)):
        name = RESIDUE_NAMES[PROTEIN.letters.index(letter)]
        number = row + 1 if numbers is None else numbers[row]
        for atom, (x, y, z) in zip(("N", "CA", "C", "O"), atoms):
            found.append(
                f"ATOM  {len(found) + 1:5d}  {atom:<3} {name} {chain}{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00           {atom[0]}\n"
            )
    return "".join(found) + "TER\n"


def write(path: Path, *chains: str) -> Path:
    path.write_text("".join(chains) + "END\n")
    return path
