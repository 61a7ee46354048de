"""Spaces: how the states of a process, integer tokens, are written as designs, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from biotilt.errors import ConfigError, DataError, one_line, suggest
from biotilt.options import Length, Name, Structure, build_options
from biotilt.spaces.alphabet import PAD, Alphabet
from biotilt.spaces.alphabet import alphabet as alphabet_called


class Space(Protocol):
    """Designs as text and as tokens: token t stands for `symbols[t]`.

    `alphabet` is that of the texts, None where they are not made of single letters. A space may also have
    `for_target(target)`, which returns the space of another target, and `fixed_tokens(scaffold)`, which returns
    the mask and tokens `(L,)` that keep a part of a design.
    """

    @property
    def name(self) -> str: ...

    @property
    def symbols(self) -> tuple[str, ...]: ...

    @property
    def alphabet(self) -> Alphabet | None: ...

    def encode_many(self, texts: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)` int8; DataError names the text that cannot be written."""
        ...

    def decode_many(self, tokens: Tensor) -> list[str]:
        """Return the texts of complete states `(B, L)`."""
        ...

    def spec(self) -> dict[str, Any]:
        """Return what `build_space` rebuilds this space from, as JSON."""
        ...


@dataclass(frozen=True)
class Padded:
    """Designs of any length up to `length`: one more letter, "-", stands where a design has none.

    Pads are dropped wherever they stand, so every state is a valid design, and a generator learns lengths as it learns
    letters. `encode_many` puts them on the `side` named; "left" keeps the ends of designs in one place.

    Raises:
        ConfigError: `length` is below 1, or another side.

    >>> from biotilt.spaces import RNA
    >>> space = Padded(RNA, 4)
    >>> space.encode_many(["AC", "GGUA"]).tolist()
    [[0, 1, 4, 4], [2, 2, 3, 0]]
    >>> space.decode_many(torch.tensor([[4, 0, 4, 1]]))
    ['AC']
    """

    alphabet: Alphabet
    length: int
    side: Literal["left", "right"] = "right"

    def __post_init__(self) -> None:
        if self.length < 1 or self.side not in ("left", "right"):
            raise ConfigError(
                f'padded designs need a length ≥ 1 and a side "left" or "right", got {self.length}, "{self.side}"'
            )

    @property
    def name(self) -> str:
        return self.alphabet.name

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*self.alphabet.letters, PAD)

    @property
    def pad(self) -> int:
        """The token that stands for no letter."""
        return len(self.alphabet.letters)

    def encode_many(self, texts: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)` int8 in [0, len(symbols)).

        Raises:
            DataError: there is no text, one is empty or too long, or has a letter outside the alphabet.
        """
        if not texts:
            raise DataError("there are no sequences to encode")
        tokens = torch.full((len(texts), self.length), self.pad, dtype=torch.int8)
        for row, text in enumerate(texts):
            if len(text) > self.length:
                raise DataError(f"sequence {row + 1} has {len(text)} letters, and at most {self.length} fit: {text}")
            start = self.length - len(text) if self.side == "left" else 0
            try:
                tokens[row, start : start + len(text)] = self.alphabet.encode(text)
            except DataError as error:
                raise DataError(f"sequence {row + 1}, {error}") from None
        return tokens

    def decode_many(self, tokens: Tensor) -> list[str]:
        """Return the texts of `(B, L)` tokens, without their pads; raises DataError for a mask."""
        return [text.replace(PAD, "") for text in self._with_pads.decode_many(tokens)]

    def align(self, texts: Sequence[str]) -> list[str]:
        """Return texts filled up with "-" to `length`, for pictures of one column a position."""
        fill = str.rjust if self.side == "left" else str.ljust
        return [fill(text, self.length, PAD) for text in texts]

    def spec(self) -> dict[str, Any]:
        return {"kind": "padded", "alphabet": self.alphabet.name, "length": self.length, "side": self.side}

    @property
    def _with_pads(self) -> _Signs:
        return _Signs(self.alphabet.name, self.alphabet.letters + PAD)


@dataclass(frozen=True)
class _Signs(Alphabet):
    """An alphabet that may hold the pad, which is no letter."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class _AlphabetSpec:
    alphabet: Name


@dataclass(frozen=True)
class _PaddedSpec:
    alphabet: Name
    length: Length
    side: Literal["left", "right"]


@dataclass(frozen=True)
class _SelfiesSpec:
    vocabulary: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=127)]
    length: Length


@dataclass(frozen=True)
class _PairedSpec:
    target: Structure


def _padded(spec: _PaddedSpec) -> Padded:
    return Padded(alphabet_called(spec.alphabet), spec.length, spec.side)


def _selfies(spec: _SelfiesSpec) -> Space:
    return import_module("biotilt.spaces.selfies").Selfies(tuple(spec.vocabulary), spec.length)


def _paired(spec: _PairedSpec) -> Space:
    return import_module("biotilt.spaces.paired").Paired(spec.target)


SPACES: dict[str, tuple[type, Callable[[Any], Space]]] = {
    "alphabet": (_AlphabetSpec, lambda spec: alphabet_called(spec.alphabet)),
    "padded": (_PaddedSpec, _padded),
    "selfies": (_SelfiesSpec, _selfies),
    "paired": (_PairedSpec, _paired),
}
"""What a space's `spec()` holds, and how it is built from it, by kind."""


def build_space(spec: dict[str, Any]) -> Space:
    """Return the space that `spec` (of `Space.spec`) describes; ConfigError for an unknown kind or key.

    >>> build_space({"kind": "padded", "alphabet": "dna", "length": 9, "side": "left"}).symbols
    ('A', 'C', 'G', 'T', '-')
    """
    kind = str(spec.get("kind", ""))
    if kind not in SPACES:
        raise ConfigError(f'unknown space "{one_line(kind)}"{suggest(kind, SPACES)}; it may need a newer biotilt')
    keys, make = SPACES[kind]
    return make(build_options(keys, {key: value for key, value in spec.items() if key != "kind"}, f'space "{kind}"'))


def stored_space(about: dict[str, Any]) -> Space:
    """Return the space that a file's description names; the first files named only an alphabet."""
    return build_space(about.get("codec") or {"kind": "alphabet", "alphabet": about.get("alphabet")})


def as_space(space: Space | str) -> Space:
    """Return a space, given itself or the name of an alphabet."""
    return alphabet_called(space) if isinstance(space, str) else space
