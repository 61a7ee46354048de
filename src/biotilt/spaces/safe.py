"""Molecules as SAFE: pieces of fragments joined by numbers; designs are canonical SMILES."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, ClassVar

from biotilt.errors import ConfigError
from biotilt.options import Vocabulary
from biotilt.spaces.fragments import open_safe, pieces, safe_of, smiles_of
from biotilt.spaces.molecule_text import MoleculeOptions, MoleculeText


@dataclass(frozen=True)
class SafeOptions(MoleculeOptions):
    """What a file says of SAFE."""

    merges: Vocabulary = field(default_factory=list)


@dataclass(frozen=True)
class Safe(MoleculeText):
    """Molecules of up to `length` pieces of SAFE (Noutahi et al. 2023): atoms, bonds, numbers, branches, dots.

    One more symbol, "_", stands for none.

    Unlike SELFIES a state may stand for no molecule: a number left open, a valence exceeded, parts that nothing joins.
    Such a state decodes to "", which rewards do not score, and which every table and panel counts.

    Args:
        vocabulary: different pieces such as "c", "[nH]", "%10" and ".", at least one.
        length: of a state, ≥ 1.
        merges: of a tokeniser of others, byte-pair encoding: "a b" for two parts of a piece that become one, the first
            of them first. With them a piece may be several tokens; without, each is one.

    Raises:
        ConfigError: a piece repeats, there is none, `length` is below 1, or a merge is not of two parts.

    >>> space = Safe.of_molecules(["CCOC(=O)c1ccccc1"])
    >>> space.symbols, space.length
    (('.', '1', '2', '3', '4', '=', 'C', 'O', 'c', '_'), 23)
    >>> space.decode(space.encode(["CCOC(=O)c1ccccc1"]))
    ['CCOC(=O)c1ccccc1']
    """

    merges: tuple[str, ...] = ()

    kind: ClassVar[str] = "safe"
    Options: ClassVar[type] = SafeOptions
    empty: ClassVar[str] = "_"  # "-" is a bond

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "merges", tuple(self.merges))
        if wrong := [merge for merge in self.merges if len(merge.split(" ")) != 2]:
            raise ConfigError(f'safe: a merge is two parts with a space between them, not "{wrong[0]}"')

    @classmethod
    def words_of(cls, smiles: str, row: int) -> list[str]:
        return pieces(safe_of(smiles, row))

    @staticmethod
    def smiles_of(text: str) -> str:
        return smiles_of(text)

    def held_words(self, scaffold: str) -> list[str]:
        """Return the pieces of fragments to hold, each "*" a number that the rest of a design has to close.

        `scaffold`: SMILES with a "*" wherever something is to be joined. One "*": a motif is extended; several: a
        scaffold is decorated; two fragments, "*c1ccncc1.*N1CCOCC1": a linker is designed. What `fragments.without`
        leaves of a molecule asks for another fragment in the place of one. Designs that are molecules have them all.
        Raises DataError where it is no SMILES, or a fragment has no "*": the message says where it could have one.

        >>> import torch
        >>> space = Safe.of_molecules(["Cc1ccncc1CCCC", "CCOC(=O)c1ccccc1"], length=20)
        >>> held = space.fixed("*c1ccncc1", space.length)
        >>> "".join(space.symbols[token] for token in held.letters[held.mask])
        'c12ccncc1.'
        """
        return pieces(open_safe(scaffold))

    def split(self, word: str) -> Sequence[str]:
        """Return the tokens of a piece, by the merges where there are some."""
        parts = list(word) if self.merges else [word]
        while len(parts) > 1:
            ranks = [self._ranks.get(f"{left} {right}", inf) for left, right in itertools.pairwise(parts)]
            first = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[first] == inf:
                break
            parts[first : first + 2] = [parts[first] + parts[first + 1]]
        return parts

    def spec(self) -> dict[str, Any]:
        return super().spec() | ({"merges": list(self.merges)} if self.merges else {})

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return {merge: rank for rank, merge in enumerate(self.merges)}
