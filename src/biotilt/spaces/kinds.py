"""Kinds of spaces by name, and how one is built from what a file says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from biotilt.core.space import Space
from biotilt.errors import ConfigError, one_line, suggest
from biotilt.options import Length, Name, Number, Structure, Whole, build_options
from biotilt.spaces.alphabet import Alphabet, alphabet
from biotilt.spaces.arrays import Images, Points
from biotilt.spaces.codons import Codons
from biotilt.spaces.letters import Letters, Padded
from biotilt.spaces.text import Text
from biotilt.spaces.tokens import Tokens

Word = Annotated[str, Field(max_length=100)]
Vocabulary = Annotated[list[Word], Field(max_length=1_000_000)]


@dataclass(frozen=True)
class _OneAlphabet:
    """The letters of an alphabet that is not one of ours."""

    name: Name
    letters: Annotated[str, Field(max_length=26)]
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _AlphabetSpec:
    alphabet: Name | dict[str, Any]


@dataclass(frozen=True)
class _PaddedSpec:
    alphabet: Name | dict[str, Any]
    length: Length
    side: Literal["left", "right"]


@dataclass(frozen=True)
class _TokensSpec:
    vocabulary: Vocabulary
    separator: Annotated[str, Field(max_length=1)] = ""


@dataclass(frozen=True)
class _SelfiesSpec:
    vocabulary: Vocabulary
    length: Length


@dataclass(frozen=True)
class _PairedSpec:
    target: Structure


@dataclass(frozen=True)
class _PointsSpec:
    columns: Annotated[list[Word], Field(max_length=65_536)]
    centre: list[Number]
    scale: list[Number]


@dataclass(frozen=True)
class _CodonsSpec:
    protein: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    dna: bool = False


@dataclass(frozen=True)
class _ImagesSpec:
    height: Length
    width: Length
    colours: Annotated[Whole, Field(ge=1, le=4)]


def _alphabet(said: str | dict[str, Any]) -> Alphabet:
    if isinstance(said, str):
        return alphabet(said)
    spec = build_options(_OneAlphabet, said, "alphabet")
    return Alphabet(spec.name, spec.letters, spec.aliases)


def _selfies(spec: _SelfiesSpec) -> Space[str]:
    return import_module("biotilt.spaces.selfies").Selfies(tuple(spec.vocabulary), spec.length)


def _paired(spec: _PairedSpec) -> Space[str]:
    return import_module("biotilt.spaces.paired").Paired(spec.target)


SPACES: dict[str, tuple[type, Callable[[Any], Space[Any]]]] = {
    "alphabet": (_AlphabetSpec, lambda spec: Letters(_alphabet(spec.alphabet))),
    "padded": (_PaddedSpec, lambda spec: Padded(_alphabet(spec.alphabet), spec.length, spec.side)),
    "tokens": (_TokensSpec, lambda spec: Tokens(tuple(spec.vocabulary), spec.separator)),
    "selfies": (_SelfiesSpec, _selfies),
    "codons": (_CodonsSpec, lambda spec: Codons(spec.protein, spec.dna)),
    "points": (_PointsSpec, lambda spec: Points(tuple(spec.columns), tuple(spec.centre), tuple(spec.scale))),
    "images": (_ImagesSpec, lambda spec: Images(spec.height, spec.width, spec.colours)),
    "paired": (_PairedSpec, _paired),
}
"""What a space's `spec()` holds, and how it is built from it, by kind."""


def build_space(spec: dict[str, Any]) -> Space[Any]:
    """Return the space that `spec` (of `Space.spec`) describes; ConfigError for an unknown kind or key.

    >>> build_space({"kind": "padded", "alphabet": "dna", "length": 9, "side": "left"})
    Padded(alphabet=Alphabet(name='dna', letters='ACGT', aliases={'U': 'T'}), length=9, side='left')
    """
    kind = str(spec.get("kind", ""))
    if kind not in SPACES:
        raise ConfigError(f'unknown space "{one_line(kind)}"{suggest(kind, SPACES)}; it may need a newer biotilt')
    keys, make = SPACES[kind]
    return make(build_options(keys, {key: value for key, value in spec.items() if key != "kind"}, f'space "{kind}"'))


def stored_space(about: dict[str, Any]) -> Space[Any]:
    """Return the space that a file's description names; the first files named only an alphabet."""
    return build_space(about.get("codec") or {"kind": "alphabet", "alphabet": about.get("alphabet")})


def as_space(space: Space[Any] | Alphabet | str) -> Space[Any]:
    """Return a space, given itself, an alphabet, or the name of one, whose designs are then of one length."""
    if isinstance(space, Space):
        return space
    return Letters(alphabet(space) if isinstance(space, str) else space)


def as_text(space: Space[Any] | Alphabet | str) -> Text:
    """Return a space of texts as `as_space` does; ConfigError when its designs are none."""
    found = as_space(space)
    if not isinstance(found, Text):
        raise ConfigError(f'designs of the space "{found.name}" are {found.medium}, and text is needed here')
    return found
