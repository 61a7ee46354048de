"""Designs of letters: of one length, or of any length up to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.space import Held, Varying
from biotilt.errors import ConfigError, DataError
from biotilt.options import Length, Name, build_options, shown
from biotilt.spaces.alphabet import KNOWN, PAD, Alphabet
from biotilt.spaces.alphabet import alphabet as alphabet_called
from biotilt.spaces.fixed import fixed_from_positions, parse_fixed
from biotilt.spaces.text import AlignedText


class OfLetters(AlignedText, Held[str]):
    """What spaces of letters share: a pattern of letters holds positions."""

    held_by: ClassVar[Literal["fixed", "scaffold"]] = "fixed"
    alphabet: Alphabet

    def __post_init__(self) -> None:
        if not isinstance(self.alphabet, Alphabet):
            raise ConfigError(
                f"{type(self).__name__}: {shown(self.alphabet)} is no Alphabet; give "
                'biotilt.alphabet("dna"), or one of your own: biotilt.Alphabet("mine", "ACGT")'
            )

    @property
    def name(self) -> str:
        return self.alphabet.name

    @property
    def written_in(self) -> Alphabet:
        return self.alphabet

    def fixed(self, given: str | Mapping[str, str], length: int) -> Fixed:
        """Return what a pattern ("GCC...") or a table {"1-3": "GCC"} holds; see `parse_fixed`."""
        if isinstance(given, str):
            return parse_fixed(given, self.alphabet, length, len(self.symbols))
        return fixed_from_positions(given, self.alphabet, length, len(self.symbols))


@dataclass(frozen=True)
class LettersOptions:
    """What a file says of letters."""

    alphabet: Name | dict[str, Any]


@dataclass(frozen=True)
class Letters(OfLetters):
    """Designs of one length, whatever it is, in the letters of an alphabet; ConfigError for what is no `Alphabet`.

    >>> from biotilt.spaces import DNA
    >>> space = Letters(DNA)
    >>> space.encode(["AC", "GT"]).tolist(), space.decode(torch.tensor([[3, 0]]))
    ([[0, 1], [2, 3]], ['TA'])
    """

    alphabet: Alphabet

    kind: ClassVar[str] = "alphabet"
    Options: ClassVar[type] = LettersOptions

    @classmethod
    def of_options(cls, options: LettersOptions) -> Letters:
        return cls(_alphabet(options.alphabet))

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.alphabet.letters)

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)` int8; DataError where lengths differ, or a letter is not of the alphabet."""
        return self.alphabet.encode_many(designs)

    def decode(self, states: Tensor) -> list[str]:
        return self.alphabet.decode_many(states)

    def spec(self) -> dict[str, Any]:
        return {"kind": "alphabet", "alphabet": alphabet_spec(self.alphabet)}


@dataclass(frozen=True)
class PaddedOptions:
    """What a file says of padded letters."""

    alphabet: Name | dict[str, Any]
    length: Length
    side: Literal["left", "right"]


@dataclass(frozen=True)
class Padded(OfLetters, Varying[str]):
    """Designs of any length up to `length`: one more letter, "-", stands where a design has none.

    Pads are dropped wherever they stand, so every state is a valid design, and a generator learns lengths as it learns
    letters. `encode` puts them on the `side` named; "left" keeps the ends of designs in one place.

    Raises:
        ConfigError: `length` is below 1, another side, or the alphabet is none.

    >>> from biotilt.spaces import RNA
    >>> space = Padded(RNA, 4)
    >>> space.encode(["AC", "GGUA"]).tolist()
    [[0, 1, 4, 4], [2, 2, 3, 0]]
    >>> space.decode(torch.tensor([[4, 0, 4, 1]]))
    ['AC']
    """

    alphabet: Alphabet
    length: int
    side: Literal["left", "right"] = "right"

    kind: ClassVar[str] = "padded"
    Options: ClassVar[type] = PaddedOptions

    @classmethod
    def of_options(cls, options: PaddedOptions) -> Padded:
        return cls(_alphabet(options.alphabet), options.length, options.side)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 1 or self.side not in ("left", "right"):
            raise ConfigError(
                f'padded designs need a length ≥ 1 and a side "left" or "right", got {self.length}, "{self.side}"'
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*self.alphabet.letters, PAD)

    @property
    def pad(self) -> int:
        """The token that stands for no letter."""
        return len(self.alphabet.letters)

    @property
    def pads_first(self) -> bool:
        return self.side == "left"

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)` int8 in [0, len(symbols)).

        Raises:
            DataError: there is no text, one is empty or too long, or has a letter outside the alphabet.
        """
        if not designs:
            raise DataError("there are no sequences to encode")
        tokens = torch.full((len(designs), self.length), self.pad, dtype=self.token_type)
        for row, text in enumerate(designs):
            if len(text) > self.length:
                raise DataError(f"sequence {row + 1} has {len(text)} letters, and at most {self.length} fit: {text}")
            start = self.length - len(text) if self.side == "left" else 0
            try:
                tokens[row, start : start + len(text)] = self.alphabet.encode(text)
            except DataError as error:
                raise DataError(f"sequence {row + 1}, {error}") from None
        return tokens

    def decode(self, states: Tensor) -> list[str]:
        """Return the texts of `(B, L)` tokens, without their pads; raises DataError for a mask."""
        self._check_states(states)
        return ["".join(self.symbols[token] for token in row if token != self.pad) for row in states.tolist()]

    def align(self, designs: Sequence[str]) -> list[str]:
        """Return texts filled up with "-" to `length`, for pictures of one column a position."""
        fill = str.rjust if self.side == "left" else str.ljust
        return [fill(text, self.length, PAD) for text in designs]

    def spec(self) -> dict[str, Any]:
        spec = alphabet_spec(self.alphabet)
        return {"kind": "padded", "alphabet": spec, "length": self.length, "side": self.side}


def alphabet_spec(alphabet: Alphabet) -> str | dict[str, Any]:
    """Return what names an alphabet in a file: the name of one of ours, or all of another."""
    if KNOWN.get(alphabet.name) == alphabet:
        return alphabet.name
    return {"name": alphabet.name, "letters": alphabet.letters, "aliases": dict(alphabet.aliases)}


@dataclass(frozen=True)
class _OneAlphabet:
    """The letters of an alphabet that is not one of ours."""

    name: Name
    letters: Annotated[str, Field(max_length=26)]
    aliases: dict[str, str] = field(default_factory=dict)


def _alphabet(said: str | dict[str, Any]) -> Alphabet:
    if isinstance(said, str):
        return alphabet_called(said)
    spec = build_options(_OneAlphabet, said, "alphabet")
    return Alphabet(spec.name, spec.letters, spec.aliases)
