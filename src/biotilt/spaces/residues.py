"""Sequences for a backbone: letters that know their places in a structure, and what stood there before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.space import Constrained, Pictured
from biotilt.errors import ConfigError
from biotilt.options import Number, Text, Whole, check_options
from biotilt.spaces.alphabet import PROTEIN, Alphabet
from biotilt.spaces.letters import OfLetters
from biotilt.spaces.traces import traces


@dataclass(frozen=True)
class Residues(OfLetters, Constrained[str], Pictured[str]):
    """Protein sequences of a backbone of N residues, of which L positions are designed.

    Args:
        native: the letters of the structure at the L positions.
        labels: what each position is called, such as "A12".
        held: L signs: a letter that is held, or "." where a design may differ.
        omitted: for each position the letters that it may not have; () where all may have all.
        trace: the Cα places of the N residues one after the other, 3 N numbers in Å; () where they are not known.
        owner: the position of each of the N residues, −1 for one that is not designed; tied residues have the same.
        chains: the chain of each of the N residues.

    Raises:
        ConfigError: parts of different lengths, a sign that is no residue, or nothing to design.

    >>> space = Residues("MKV", ("A1", "A2", "A3"), held="M..", omitted=("", "C", "C"))
    >>> space.limits.mask.tolist(), space.changes("MRV")
    ([True, False, False], ['A2K>R'])
    """

    native: Text
    labels: tuple[Text, ...]
    held: Text = ""
    omitted: tuple[Text, ...] = ()
    trace: tuple[Number, ...] = ()
    owner: tuple[Whole, ...] = ()
    chains: tuple[Text, ...] = ()

    kind: ClassVar[str] = "residues"
    alphabet: ClassVar[Alphabet] = PROTEIN

    def __post_init__(self) -> None:
        check_options(self, "residues")
        held = self.held or "." * len(self.native)
        object.__setattr__(self, "held", held)
        if {len(self.labels), len(held), len(self.omitted) or len(held)} != {len(self.native)}:
            raise ConfigError("residues: native, labels, held and omitted must be of one length")
        if {len(self.chains), len(self.trace) / 3} - {len(self.owner)}:
            raise ConfigError("residues: trace, owner and chains must be of one number of residues")
        if self.owner and not -1 <= min(self.owner) <= max(self.owner) < len(self.native):
            raise ConfigError("residues: owner must name positions of the design")
        if not self.native or PROTEIN.wrong_columns(self.native + held.replace(".", "") + "".join(self.omitted)):
            raise ConfigError("residues: native, held and omitted must be letters of the 20 residues")
        _ = self.limits  # raises where nothing is free

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(PROTEIN.letters)

    @property
    def length(self) -> int:
        """The number of positions, L."""
        return len(self.native)

    @cached_property
    def limits(self) -> Fixed:
        """Return the letters that are held, and those that other positions may have."""
        mask = torch.tensor([sign != "." for sign in self.held])
        letters = PROTEIN.encode("".join(a if a != "." else b for a, b in zip(self.held, self.native)))
        if not any(self.omitted):
            return Fixed(mask, letters)
        allowed = torch.tensor([[letter not in bad for letter in PROTEIN.letters] for bad in self.omitted])
        return Fixed(mask, letters, allowed)

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)` int8; DataError where lengths differ, or a letter is no residue."""
        return PROTEIN.encode_many(designs)

    def decode(self, states: Tensor) -> list[str]:
        self._check_states(states, self.length)
        return PROTEIN.decode_many(states)

    def spec(self) -> dict[str, Any]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": self.kind} | {name: list(x) if isinstance(x, tuple) else x for name, x in given.items()}

    def changes(self, design: str) -> list[str]:
        """Return the mutations of a design against the structure's own sequence, such as "A12K>R"."""
        return [f"{at}{a}>{b}" for at, a, b in zip(self.labels, self.native, design) if a != b]

    def picture(self, sets: Mapping[str, Sequence[str]]) -> str:
        """Return the Cα trace once a set, coloured by the share of its designs that differ from the structure's."""
        shares = {
            title: [sum(d[i] != a for d in designs) / max(len(designs), 1) for i, a in enumerate(self.native)]
            for title, designs in sets.items()
        }
        places = torch.tensor(self.trace).view(-1, 3).tolist()
        return traces(places, self.chains, self.owner, shares, [sign != "." for sign in self.held])
