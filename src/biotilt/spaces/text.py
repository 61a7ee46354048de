"""What spaces of texts share: a design is its own key, and tokens are the symbols it is written with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from biotilt.core.space import Aligned, Counted, Measured, Medium, Record, token_type
from biotilt.errors import DataError
from biotilt.spaces.alphabet import Alphabet
from biotilt.spaces.distances import mean_pairwise_distance, nearest_distances
from biotilt.spaces.kmers import kmer_counts
from biotilt.spaces.told import ToldText
from biotilt.spaces.writing import check_designs_output, write_designs


@runtime_checkable
class OneLength(Protocol):
    """A space whose states all have one length, which it knows."""

    @property
    def length(self) -> int: ...


class Text(Measured[str], Counted[str]):
    """Designs as text, written with `symbols`: token t of a state stands for `symbols[t]`."""

    medium: ClassVar[Medium] = "text"
    distance_is: ClassVar[str] = "the number of positions at which they differ"

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]: ...

    @property
    def written_in(self) -> Alphabet | None:
        """The alphabet of the texts; None where they are not made of its letters alone."""
        return None

    @property
    def token_type(self) -> torch.dtype:
        """The type of states: the smallest that holds the symbols and the mask after them."""
        return token_type(len(self.symbols))

    def sizes(self, states: Tensor) -> dict[str, int]:
        return {"letters": len(self.symbols), "length": states.shape[1]}

    def key(self, design: str) -> str:
        return str(design)

    def design_of(self, key: str) -> str:
        return ToldText.of_key(key)

    def nearest(self, relaxed: Tensor) -> Tensor:
        """Return the most likely letters `(B, L)` of weights of letters `(B, L, V)`."""
        return relaxed.detach().argmax(-1).to(self.token_type)

    def align(self, designs: Sequence[str]) -> list[str]:
        """Return texts for pictures of one column a position."""
        return list(designs)

    def signs(self, design: str) -> list[int]:
        """Return the numbers of the signs of a text, those that its symbols are written with; all others are one."""
        return [self._sign_of.get(sign, len(self._sign_of)) for sign in design]

    @property
    def sign_count(self) -> int:
        """How many different numbers `signs` returns."""
        return len(self._sign_of) + 1

    def counts(self, designs: Sequence[str]) -> Tensor:
        """Return how often every word of 1 to 3 signs is in each text, `(N, F)`."""
        return kmer_counts([self.signs(design) for design in designs], self.sign_count)

    @cached_property
    def _sign_of(self) -> dict[str, int]:
        return {sign: number for number, sign in enumerate(dict.fromkeys("".join(self.symbols)))}

    def apart(self, distance: str) -> str:
        return f"differ at {distance} positions"

    def mean_distance(self, designs: Sequence[str]) -> float:
        return mean_pairwise_distance(designs)

    def nearest_distances(self, designs: Sequence[str]) -> list[float]:
        return nearest_distances(designs)

    def check_output(self, path: Path) -> None:
        check_designs_output(path)

    def write(self, path: Path, records: Sequence[Record[str]]) -> None:
        write_designs(path, records)

    def _check_states(self, states: Tensor, length: int | None = None) -> None:
        """Raise DataError for states of another shape, or with a number that is no token (a mask among them)."""
        if states.ndim != 2 or states.shape[1] == 0 or length not in (None, states.shape[1]):
            wanted = "L) with L > 0" if length is None else f"{length})"
            raise DataError(f"decode takes tokens of shape (B, {wanted}, not {tuple(states.shape)}")
        if states.dtype == torch.bool or states.is_floating_point() or states.is_complex():
            raise DataError(f"tokens must be integers, not {states.dtype}")
        size = len(self.symbols)
        wrong = (states < 0) | (states >= size)
        if bool(wrong.any()):
            row, column = wrong.nonzero()[0].tolist()
            token = int(states[row, column])
            what = f"{token} is no token, which are 0 to {size - 1}"
            if token == size:
                what = "a mask is left, so the design is not finished"
            raise DataError(f"design {row + 1}, column {column + 1}: {what}")


class AlignedText(Text, Aligned[str]):
    """Texts that `align` writes in one column a position."""

    def columns(self, designs: Sequence[str]) -> Tensor:
        """Return the number of the sign in each column, `(N, L)`; DataError where designs differ in length."""
        rows = [self.signs(text) for text in self.align(designs)]
        if len({len(row) for row in rows}) > 1:
            raise DataError("designs differ in length, so there is nothing to compare position by position")
        return torch.tensor(rows)
