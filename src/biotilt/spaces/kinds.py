"""Kinds of spaces by name, and how one is built from what a file says of it."""

from __future__ import annotations

from typing import Any

from biotilt.core.space import Space
from biotilt.errors import ConfigError
from biotilt.registry import Registry
from biotilt.spaces.alphabet import Alphabet, alphabet
from biotilt.spaces.arrays import Images, Points
from biotilt.spaces.codons import Codons
from biotilt.spaces.graphs import Graphs
from biotilt.spaces.letters import Letters, Padded
from biotilt.spaces.paired import Paired
from biotilt.spaces.residues import Residues
from biotilt.spaces.safe import Safe
from biotilt.spaces.selfies import Selfies
from biotilt.spaces.text import Text
from biotilt.spaces.tokens import Tokens

SPACES: Registry[Space[Any]] = Registry(
    "spaces",
    "space",
    (Letters, Padded, Tokens, Selfies, Safe, Graphs, Codons, Points, Images, Paired, Residues),
    key="kind",
    make=lambda space, options: space.of_options(options),
)
"""Whatever a file may call the space of its designs; a space's `spec()` is its `kind` with its options."""


def build_space(spec: dict[str, Any]) -> Space[Any]:
    """Return the space that `spec` (of `Space.spec`) describes; ConfigError for an unknown kind or key.

    >>> build_space({"kind": "padded", "alphabet": "dna", "length": 9, "side": "left"})
    Padded(alphabet=Alphabet(name='dna', letters='ACGT', aliases={'U': 'T'}), length=9, side='left')
    """
    return SPACES.of_table(spec)


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
