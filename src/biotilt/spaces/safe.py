"""Molecules as SAFE: pieces of fragments joined by numbers; designs are canonical SMILES."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from biotilt.spaces.fragments import open_safe, pieces, safe_of, smiles_of
from biotilt.spaces.molecule_text import MoleculeText


@dataclass(frozen=True)
class Safe(MoleculeText):
    """Molecules of up to `length` pieces of SAFE (Noutahi et al. 2023): atoms, bonds, numbers, branches, dots.

    Unlike SELFIES a state may stand for no molecule: a number left open, a valence exceeded, parts that nothing joins.
    Such a state decodes to "", which rewards do not score, and which every table and panel counts.

    Args:
        vocabulary: different pieces such as "c", "[nH]", "%10" and ".", at least one.
        length: of a state, ≥ 1.

    Raises:
        ConfigError: a piece repeats, there is none, or `length` is below 1.

    >>> space = Safe.of_molecules(["CCOC(=O)c1ccccc1"])
    >>> space.symbols, space.length
    (('.', '1', '2', '3', '4', '=', 'C', 'O', 'c', '-'), 23)
    >>> space.decode(space.encode(["CCOC(=O)c1ccccc1"]))
    ['CCOC(=O)c1ccccc1']
    """

    kind: ClassVar[str] = "safe"

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
