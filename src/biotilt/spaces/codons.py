"""Designs that code for one protein: a token is a codon, and each residue leaves the choice between its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.space import Constrained, Targeted
from biotilt.errors import DataError
from biotilt.spaces.alphabet import DNA, PROTEIN, RNA, Alphabet
from biotilt.spaces.text import AlignedText

# NCBI's standard genetic code (translation table 1), codons in the order UUU, UUC, UUA, UUG, UCU, … GGG; * is a stop
STANDARD = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODONS = tuple("".join(bases) for bases in itertools.product("UCAG", repeat=3))


@dataclass(frozen=True)
class CodonsOptions:
    """What a file says of codons."""

    protein: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    dna: bool = False


@dataclass(frozen=True)
class Codons(AlignedText, Constrained[str], Targeted[str]):
    """RNA (or DNA) of `protein`, by the standard genetic code: 64 tokens, of which each residue allows its own.

    A "*" at the end of the protein is a stop codon. Methionine and tryptophan, which have one codon each, are held. A
    generator of coding sequences serves for every protein of the same length (`design.target`).

    Raises:
        DataError: the protein is empty, has another letter, or nothing to choose.

    >>> space = Codons("MKW")
    >>> space.decode(space.encode(["AUGAAGUGG"])), [CODONS[t] for t in space.limits.allowed[1].nonzero().flatten()]
    (['AUGAAGUGG'], ['AAA', 'AAG'])
    """

    protein: str
    dna: bool = False

    kind: ClassVar[str] = "codons"
    Options: ClassVar[type] = CodonsOptions

    def __post_init__(self) -> None:
        body = self.protein.removesuffix("*")
        letters = PROTEIN.normalise(body) if body else ""
        object.__setattr__(self, "protein", letters + self.protein[len(body) :])
        if not body or all(STANDARD.count(residue) == 1 for residue in self.protein):
            raise DataError(f'codons: the protein "{self.protein}" leaves nothing to choose')

    @property
    def name(self) -> str:
        return "codons"

    @property
    def written_in(self) -> Alphabet:
        return DNA if self.dna else RNA

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(codon.replace("U", "T") for codon in CODONS) if self.dna else CODONS

    @property
    def length(self) -> int:
        """The number of codons, L."""
        return len(self.protein)

    @cached_property
    def limits(self) -> Fixed:
        """Return the codons that each residue allows."""
        allowed = torch.tensor([[code == residue for code in STANDARD] for residue in self.protein])
        mask = allowed.sum(-1) == 1
        return Fixed(mask, allowed.int().argmax(-1).to(self.token_type), allowed)

    def for_target(self, target: str) -> Codons:
        """Return the space of another protein."""
        return Codons(target, self.dna)

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)`; DataError names the text that does not code for the protein."""
        if not designs:
            raise DataError("there are no sequences to encode")
        return torch.tensor([self._tokens(text, row) for row, text in enumerate(designs, 1)], dtype=self.token_type)

    def decode(self, states: Tensor) -> list[str]:
        self._check_states(states, self.length)
        return ["".join(self.symbols[token] for token in row) for row in states.tolist()]

    def spec(self) -> dict[str, Any]:
        return {"kind": "codons", "protein": self.protein, "dna": self.dna}

    def _tokens(self, text: str, row: int) -> list[int]:
        try:
            letters = RNA.normalise(text)
        except DataError as error:
            raise DataError(f"sequence {row}, {error}") from None
        if len(letters) != 3 * self.length:
            raise DataError(f"sequence {row} has {len(letters)} letters, and the protein needs {3 * self.length}")
        tokens = [CODONS.index(letters[start : start + 3]) for start in range(0, len(letters), 3)]
        for place, (token, residue) in enumerate(zip(tokens, self.protein), 1):
            if STANDARD[token] != residue:
                raise DataError(
                    f"sequence {row}, codon {place}: {CODONS[token]} codes for {STANDARD[token]}, not for {residue}"
                )
        return tokens
