"""Designs of a given RNA structure: a token is an unpaired base, or both bases of a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.space import Held, Shaped, Targeted
from biotilt.errors import DataError
from biotilt.options import Structure
from biotilt.spaces.alphabet import RNA, Alphabet
from biotilt.spaces.text import AlignedText

PAIRS = ("GC", "CG", "AU", "UA", "GU", "UG")
UNPAIRED = ("A", "G", "U", "C", "A", "A")


@dataclass(frozen=True)
class PairedOptions:
    """What a file says of pairs."""

    target: Structure


@dataclass(frozen=True)
class Paired(AlignedText, Held[str], Shaped[str], Targeted[str]):
    """RNAs whose paired positions in a `target` structure are complementary, whatever the tokens.

    There is one token a loop position and one a pair, in the order of the (first) position: 6 symbols, of the
    target's number of positions less its number of pairs. At a pair they are GC, CG, AU, UA, GU and UG; where nothing
    pairs they are A, G, U, C, A and A again, so that every state is a design. The chances of the three tokens of A
    add up; encoding writes the first.

    Raises:
        DataError: the target is empty, has other signs than "(", ")" and ".", or is not balanced.

    >>> space = Paired("((...)).")
    >>> space.encode(["GACUUUCA"]).tolist()
    [[0, 2, 3, 2, 2, 0]]
    >>> space.decode(torch.tensor([[1, 4, 0, 5, 1, 3]]))
    ['CGAAGUGC']
    """

    target: str

    kind: ClassVar[str] = "paired"
    Options: ClassVar[type] = PairedOptions
    held_by: ClassVar[Literal["fixed", "scaffold"]] = "scaffold"

    def __post_init__(self) -> None:
        partners_of(self.target)

    @property
    def name(self) -> str:
        return "rna"

    @property
    def written_in(self) -> Alphabet:
        return RNA

    @property
    def symbols(self) -> tuple[str, ...]:
        return PAIRS

    @property
    def length(self) -> int:
        """The number of tokens, L."""
        return len(self._places)

    def for_target(self, target: str) -> Paired:
        """Return the space of another structure."""
        return Paired(target)

    @cached_property
    def _places(self) -> tuple[tuple[int, int], ...]:
        """Position and partner of each token, −1 for none."""
        return tuple((i, j) for i, j in enumerate(partners_of(self.target)) if j < 0 or j > i)

    @cached_property
    def near(self) -> tuple[tuple[int, ...], ...]:
        """For each token all of them by their steps along the chain and across pairs, those of one loop together."""
        token_at = {k: number for number, place in enumerate(self._places) for k in place if k >= 0}
        beside = [
            sorted({token_at[k + step] for k in place if k >= 0 for step in (-1, 1) if k + step in token_at})
            for place in self._places
        ]
        found = []
        for start in range(self.length):
            order, seen = [start], {start}
            for token in order:  # it grows: nearer ones are gone through first
                order += [other for other in beside[token] if other not in seen]
                seen.update(beside[token])
            found.append(tuple(order))
        return tuple(found)

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)` in [0, 6).

        Raises:
            DataError: there is no text, one has another length or letter, or cannot form a pair of the target.
        """
        if not designs:
            raise DataError("there are no sequences to encode")
        rows = [self._encoded(text, number) for number, text in enumerate(designs, start=1)]
        return torch.tensor(rows, dtype=self.token_type)

    def _encoded(self, text: str, number: int) -> list[int]:
        if len(text) != len(self.target):
            raise DataError(f"sequence {number} has {len(text)} letters, and the target {len(self.target)}: {text}")
        try:
            letters = RNA.normalise(text)
        except DataError as error:
            raise DataError(f"sequence {number}, {error}") from None
        return [_token(letters, i, j, f"sequence {number}") for i, j in self._places]

    def decode(self, states: Tensor) -> list[str]:
        """Return the RNAs of complete states `(B, L)`; raises DataError for another shape, a mask or no token."""
        self._check_states(states, self.length)
        return [self._decoded(row) for row in states.tolist()]

    def _decoded(self, tokens: list[int]) -> str:
        letters = [""] * len(self.target)
        for token, (i, j) in zip(tokens, self._places):
            if j < 0:
                letters[i] = UNPAIRED[token]
            else:
                letters[i], letters[j] = PAIRS[token]
        return "".join(letters)

    def fixed(self, given: str | Mapping[str, str], length: int) -> Fixed:
        """Return what a pattern such as "GG......CC" holds: a letter or "." (free) for each position of the target.

        Raises:
            DataError: another length or sign, letters that cannot pair, or a letter whose partner is free.
        """
        scaffold = str(given)
        if len(scaffold) != len(self.target):
            raise DataError(f"the scaffold has {len(scaffold)} signs, and the target {len(self.target)}: {scaffold}")
        letters = RNA.normalise(scaffold.replace(".", "A"))
        mask, tokens = torch.zeros(self.length, dtype=torch.bool), torch.zeros(self.length, dtype=self.token_type)
        for number, (i, j) in enumerate(self._places):
            held = [scaffold[k] != "." for k in (i, j) if k >= 0]
            if any(held) and not all(held):
                raise DataError(f"the scaffold, column {i + 1} pairs with column {j + 1}: give both or none")
            if all(held):
                mask[number], tokens[number] = True, _token(letters, i, j, "the scaffold")
        return Fixed(mask, tokens)

    def spec(self) -> dict[str, Any]:
        return {"kind": "paired", "target": self.target}


def _token(letters: str, i: int, j: int, where: str) -> int:
    """Return the token of position `i` that pairs with `j`, or with none if −1."""
    if j < 0:
        return UNPAIRED.index(letters[i])
    if (pair := letters[i] + letters[j]) not in PAIRS:
        raise DataError(
            f"{where}: {letters[i]} in column {i + 1} and {letters[j]} in column {j + 1} do not pair, as the target "
            f"asks; pairs: {', '.join(PAIRS)}"
        )
    return PAIRS.index(pair)


@lru_cache(maxsize=1024)
def partners_of(structure: str) -> tuple[int, ...]:
    """Return the partner of each position of a structure in dot-bracket notation, −1 where it has none.

    Raises:
        DataError: the structure is empty, has other signs, or is not balanced; with the 1-based column.

    >>> partners_of("((..).)")
    (6, 4, -1, -1, 1, -1, 0)
    """
    if not structure:
        raise DataError("the structure is empty")
    partners, opened = [-1] * len(structure), list[int]()
    for i, sign in enumerate(structure):
        if sign == "(":
            opened.append(i)
        elif sign == ")":
            if not opened:
                raise DataError(f'column {i + 1}: ")" closes nothing in {structure}')
            j = opened.pop()
            partners[i], partners[j] = j, i
        elif sign != ".":
            raise DataError(f'column {i + 1}: "{sign}" is not a sign of a structure; they are "(", ")" and "."')
    if opened:
        raise DataError(f'column {opened[-1] + 1}: "(" is not closed in {structure}')
    return tuple(partners)
