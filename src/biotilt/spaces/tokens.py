"""Designs of tokens from any vocabulary, each written with one sign or more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from biotilt.errors import ConfigError, DataError
from biotilt.options import Vocabulary
from biotilt.spaces.text import AlignedText


@dataclass(frozen=True)
class TokensOptions:
    """What a file says of tokens."""

    vocabulary: Vocabulary
    separator: Annotated[str, Field(max_length=1)] = ""


@dataclass(frozen=True)
class Tokens(AlignedText):
    """Designs of one length, whatever it is, in a vocabulary of your own, with `separator` between tokens in texts.

    Texts are read as they are: case matters. With `separator` "" tokens of one sign are letters, and longer ones must
    be told apart without it: no token may be the beginning of another.

    Args:
        vocabulary: at least 2 different tokens, none empty.
        separator: "" or one sign that is in no token.

    Raises:
        ConfigError: tokens repeat, are empty, or cannot be told apart in a text.

    >>> space = Tokens(("Ala", "Gly", "meA"), "-")
    >>> space.encode(["Gly-meA", "Ala-Ala"]).tolist(), space.decode(torch.tensor([[2, 0]]))
    ([[1, 2], [0, 0]], ['meA-Ala'])
    """

    vocabulary: tuple[str, ...]
    separator: str = ""

    kind: ClassVar[str] = "tokens"
    Options: ClassVar[type] = TokensOptions

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        words = self.vocabulary
        if len(words) < 2 or len(set(words)) < len(words) or "" in words:
            raise ConfigError(f"tokens: at least 2 different tokens are needed, none empty; got {list(words)[:5]}")
        if len(self.separator) > 1:
            raise ConfigError(f'tokens: the separator is one sign or none, not "{self.separator}"')
        if self.separator and (wrong := [word for word in words if self.separator in word]):
            raise ConfigError(f'tokens: "{wrong[0]}" has the separator "{self.separator}" in it; take another')
        if not self.separator:
            ordered = sorted(words)  # what begins with a token comes right after it
            if pair := next(((a, b) for a, b in itertools.pairwise(ordered) if b.startswith(a)), None):
                raise ConfigError(f'tokens: "{pair[1]}" begins with "{pair[0]}": give a separator, such as " "')

    @property
    def name(self) -> str:
        return "tokens"

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.vocabulary

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)`; DataError names the text with another length or an unknown token."""
        rows = [self._tokens(text, row) for row, text in enumerate(designs, 1)]
        if not rows or not rows[0]:
            raise DataError("there are no designs to encode" if not rows else "design 1 is empty")
        if other := [row for row, tokens in enumerate(rows, 1) if len(tokens) != len(rows[0])]:
            found = f"design 1 has {len(rows[0])} tokens, but design {other[0]} has {len(rows[other[0] - 1])}"
            raise DataError(f"designs differ in length: {found}")
        return torch.tensor(rows, dtype=self.token_type)

    def decode(self, states: Tensor) -> list[str]:
        self._check_states(states)
        return [self.separator.join(self.vocabulary[token] for token in row) for row in states.tolist()]

    def spec(self) -> dict[str, Any]:
        return {"kind": "tokens", "vocabulary": list(self.vocabulary), "separator": self.separator}

    def signs(self, design: str) -> list[int]:
        """Return the tokens of a text: they are its signs, however many letters each is written with."""
        return self._tokens(design, 1)

    @property
    def sign_count(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def _token_of(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary)}

    @cached_property
    def _lengths(self) -> list[int]:
        return sorted({len(word) for word in self.vocabulary})

    def _tokens(self, text: str, row: int) -> list[int]:
        words = text.split(self.separator) if self.separator else self._cut(text)
        if wrong := [word for word in words if word not in self._token_of]:
            raise DataError(f'design {row}: "{wrong[0][:20]}" is no token of the vocabulary: {text[:80]}')
        return [self._token_of[word] for word in words]

    def _cut(self, text: str) -> list[str]:
        """Cut a text without separators; what is no token is the last piece."""
        words, start = list[str](), 0
        while start < len(text):
            ends = (start + length for length in self._lengths)
            end = next((end for end in ends if text[start:end] in self._token_of), len(text))
            words.append(text[start:end])
            start = end
        return words
