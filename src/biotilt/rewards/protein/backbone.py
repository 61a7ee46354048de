"""Backbones out of files of structures, and which of their residues are meant."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from biotilt.errors import ConfigError, DataError
from biotilt.rewards.protein.pdb import read_pdb, sequence_of

ATOMS = ("N", "CA", "C", "O")
PEPTIDE_BOND = 2.0  # Å from C to the next N, at most: 1.33, and what coordinates are wrong by
_RANGE = re.compile(r"(-?[0-9]{1,9})([A-Za-z]?)(?:-(-?[0-9]{1,9})([A-Za-z]?))?", re.ASCII)


@dataclass(frozen=True, eq=False)
class Backbone:
    """N residues of which N, CA, C and O are known.

    Args:
        atoms: their places `(N, 4, 3)` in Å, float32.
        letters: the residues, N letters of the 20.
        chains: the chain of each.
        numbers: what the file calls each in its chain, with its insertion code.
    """

    atoms: Tensor
    letters: str
    chains: tuple[str, ...]
    numbers: tuple[tuple[int, str], ...]

    def __len__(self) -> int:
        return len(self.letters)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each residue is called, such as "A12"."""
        return tuple(f"{chain}{number}{code}" for chain, (number, code) in zip(self.chains, self.numbers))

    @property
    def chain_index(self) -> Tensor:
        """The number of each residue's chain, `(N,)`."""
        names = list(dict.fromkeys(self.chains))
        return torch.tensor([names.index(chain) for chain in self.chains])

    @property
    def place(self) -> Tensor:
        """Where each residue is along its chain, `(N,)`: residues that are not there count, by the file's numbers.

        The order is the file's where each fall of the numbers in it is across a peptide bond, since numbers need not
        rise along a chain: what is inserted is lettered either way, or stands before the number it is inserted at.
        Else residues are scattered over the file, and the order is that of their numbers.
        """
        place = torch.zeros(len(self), dtype=torch.long)
        for chain in dict.fromkeys(self.chains):
            rows = [row for row, name in enumerate(self.chains) if name == chain]
            if any(self.numbers[b] < self.numbers[a] and not self._bonded(a, b) for a, b in itertools.pairwise(rows)):
                rows.sort(key=lambda row: self.numbers[row])
            last = at = self.numbers[rows[0]][0] - 1
            for row in rows:
                number, _ = self.numbers[row]
                at += max(1, number - last)  # where a number does not rise, the next place
                place[row], last = at, number
        return place

    def _bonded(self, before: int, after: int) -> bool:
        """Return whether C of a residue is as near as a bond to N of another."""
        return bool((self.atoms[before, 2] - self.atoms[after, 0]).norm() < PEPTIDE_BOND)

    def without(self, rows: Sequence[int]) -> Backbone:
        """Return the backbone with some residues left out."""
        kept = [row for row in range(len(self)) if row not in set(rows)]
        return Backbone(
            self.atoms[kept], "".join(self.letters[row] for row in kept),
            tuple(self.chains[row] for row in kept), tuple(self.numbers[row] for row in kept),
        )  # fmt: skip

    def chosen(self, selection: str, key: str) -> list[int]:
        """Return the residues that a text such as "A", "A12" or "A10-20" means: a chain, one, or a range of it.

        Raises ConfigError, after the `key` of the option, where it means none.
        """
        known = sorted(dict.fromkeys(self.chains), key=len, reverse=True)
        for chain in known:
            rows = [row for row, name in enumerate(self.chains) if name == chain]
            if selection == chain:
                return rows
            found = _RANGE.fullmatch(selection[len(chain) :]) if selection.startswith(chain) else None
            if found is None:
                continue
            first = (int(found[1]), found[2])
            last = first if found[3] is None else (int(found[3]), found[4])
            if chosen := [row for row in rows if first <= self.numbers[row] <= last]:
                return chosen
            span = " and ".join(f"{n}{c}" for n, c in (self.numbers[rows[0]], self.numbers[rows[-1]]))
            raise ConfigError(f'{key}: chain {chain} has no residue "{selection}"; its ends are {span}')
        said = ", ".join(known)
        raise ConfigError(f'{key}: "{selection}" is no residue, such as "A12", "A10-20" or "A"; the chains are {said}')


def read_backbone(path: Path | str) -> Backbone:
    """Return the backbone of a PDB or mmCIF file, its first model.

    Residues that lack one of N, CA, C and O are left out, as if the file did not have them. Raises DataError as
    `read_pdb` does, or when no residue has all four.
    """
    atoms = read_pdb(path)
    places: dict[tuple[str, int, str], dict[str, Tensor]] = {}
    for chain, number, code, name, place in zip(
        atoms.chain_id.tolist(), atoms.res_id.tolist(), atoms.ins_code.tolist(), atoms.atom_name.tolist(),
        torch.from_numpy(atoms.coord),
    ):  # fmt: skip
        places.setdefault((chain, number, code), {})[name] = place
    letters = dict(zip(places, sequence_of(atoms)))
    whole = [key for key, found in places.items() if all(name in found for name in ATOMS)]
    if not whole:
        raise DataError(f"{path}: no residue has all of {', '.join(ATOMS)}: a trace of Cα is no backbone")
    return Backbone(
        torch.stack([torch.stack([places[key][name] for name in ATOMS]) for key in whole]).float(),
        "".join(letters[key] for key in whole),
        tuple(chain for chain, _, _ in whole),
        tuple((number, code) for _, number, code in whole),
    )


def beta_carbons(atoms: Tensor) -> Tensor:
    """Return where Cβ are, or would be, by N, CA and C `(N, 4, 3)`: ideal geometry, `(N, 3)`."""
    n, ca, c = atoms[:, 0], atoms[:, 1], atoms[:, 2]
    first, second = ca - n, c - ca
    across = torch.linalg.cross(first, second)
    return -0.58273431 * across + 0.56802827 * first - 0.54067466 * second + ca
