"""A folded design, and what folds one."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from biotilt.errors import BiotiltError

_EDGE = 1 << 20  # bytes of a file of weights that are read to tell it from another
Chains = tuple[str, ...]


class NoStructure(BiotiltError):
    """This design has no structure, for the reason given; others may have one."""


@dataclass(frozen=True)
class Structure:
    """A folded design.

    Args:
        atoms: biotite's AtomArray of amino acids; coordinates in Å. Chains stand in the order they were asked in.
        plddt: confidence of each residue `(L,)` in [0, 1], over all chains; None where the source has none.
        ptm: predicted TM-score of the whole, in [0, 1], or None.
        iptm: predicted TM-score between chains, in [0, 1]; None for one chain.
        pae: expected position error `(L, L)` in Å of residue j when i is superposed, or None.
    """

    atoms: Any
    plddt: np.ndarray | None = None
    ptm: float | None = None
    iptm: float | None = None
    pae: np.ndarray | None = None

    @cached_property
    def alpha_carbons(self) -> np.ndarray:
        """Cα coordinates `(L, 3)`, Å."""
        return np.asarray(self.atoms.coord[self.atoms.atom_name == "CA"], dtype=np.float64)


class Folder(Protocol):
    """What a structure reward asks: `fold` raises NoStructure when a design has none."""

    @property
    def version(self) -> str: ...

    def fold(self, chains: Chains) -> Structure: ...


def file_mark(path: Path) -> str:
    """Return a short hash of a large file: its size, its first and its last megabyte."""
    with path.open("rb") as handle:
        head = handle.read(_EDGE)
        with suppress(OSError):
            handle.seek(-_EDGE, os.SEEK_END)
        tail = handle.read(_EDGE)
    return hashlib.sha256(str(path.stat().st_size).encode() + head + tail).hexdigest()[:12]
