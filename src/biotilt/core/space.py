"""What a design is: a space says how states are designs, by what key a design is known, and how it goes into a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from biotilt.core.fixed import Fixed

Design = TypeVar("Design")
Medium = Literal["text", "points", "images"]
MEDIA: tuple[Medium, ...] = ("text", "points", "images")


@dataclass(frozen=True)
class Record(Generic[Design]):
    """A named design with the other columns of its row.

    Args:
        name: its name in the file, or else its number there, from 1.
        design: what the space says it is: text (upper case, aliases replaced, where it is of letters) or an array.
        values: the other columns as they were written, in order.
        line: the line of its file it starts on, 0 for one made in memory; not compared.
    """

    name: str
    design: Design
    values: dict[str, str] = field(default_factory=dict)
    line: int = field(default=0, compare=False)


class Space(ABC, Generic[Design]):
    """A kind of design, and how the states of a process are read as such.

    `medium` is what its designs are, which is what rewards say they read: "text" (str), "points" (float32 arrays
    `(D,)`) or "images" (float32 arrays `(H, W, C)` of multiples of 1/255 in [0, 1]). What more a space can do is said
    by the classes below. `kind`: the name by which a file says which space it is, and what else the file says of it
    are the options of its class, or of that called `Options`.
    """

    medium: ClassVar[Medium]
    kind: ClassVar[str]

    @classmethod
    def of_options(cls, options: Any) -> Self:
        """Return the space that its `Options`, read from a file, stand for."""
        return cls(**vars(options))

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @abstractmethod
    def encode(self, designs: Sequence[Design]) -> Tensor:
        """Return states `(B, ...)` of designs; DataError names the design that has none."""

    @abstractmethod
    def decode(self, states: Tensor) -> list[Design]:
        """Return the designs of complete states `(B, ...)`; DataError where one is not complete."""

    @abstractmethod
    def key(self, design: Design) -> str:
        """Return the text by which cache and ledger know a design: two designs of one key are one design."""

    @abstractmethod
    def design_of(self, key: str) -> Design:
        """Return the design of a key: the ledger keeps keys, and nothing else."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return what `build_space` rebuilds this space from, as JSON."""

    @abstractmethod
    def check_output(self, path: Path) -> None:
        """Make sure, before any design is made, that `write` could write `path`; DataError says why not."""

    @abstractmethod
    def write(self, path: Path, records: Sequence[Record[Design]]) -> None:
        """Write designs in the format of the suffix, whole or not at all; DataError when that cannot be."""

    def sizes(self, states: Tensor) -> dict[str, Any]:
        """Return what processes and networks are told of states `(B, ...)`: `letters` and `length`, or `size`."""
        return {"size": states.shape[1]}

    def label(self, design: Design) -> str:
        """Return a design in a few signs, as people read it."""
        return self.key(design)

    def nearest(self, relaxed: Tensor) -> Tensor:
        """Return the states next to relaxed designs, as a differentiable reward reads them: the likeliest letters."""
        return relaxed.detach()

    def relaxed(self, designs: Tensor) -> Tensor:
        """Return what a differentiable reward of this medium reads of relaxed designs, with gradients."""
        return designs


class Measured(Space[Design]):
    """A space in which designs have distances, by which the panel tells how diverse a set of them is.

    `distance_is` says of two designs what is measured, and `apart` how far away from each other they are.
    """

    distance_is: ClassVar[str] = "the distance between them"

    def apart(self, distance: str) -> str:
        """Return what two designs at a distance, given as text, do: the end of a sentence."""
        return f"are {distance} apart"

    @abstractmethod
    def mean_distance(self, designs: Sequence[Design]) -> float:
        """Return the mean distance over all pairs; NaN for fewer than two designs."""

    @abstractmethod
    def nearest_distances(self, designs: Sequence[Design]) -> list[float]:
        """Return for each design the distance to the nearest other, in the order given; [] for fewer than two."""


class Held(Space[Design]):
    """A space in which a part of every design can be held; `held_by` is the key of `[design]` that says what."""

    held_by: ClassVar[Literal["fixed", "scaffold"]]

    @abstractmethod
    def fixed(self, given: str | Mapping[str, str], length: int) -> Fixed:
        """Return what a text or table holds of states of `length` L; ConfigError or DataError where it does not fit."""


class Constrained(Space[Design]):
    """A space whose states are designs only under limits that always hold."""

    @property
    @abstractmethod
    def limits(self) -> Fixed: ...


class Targeted(Space[Design]):
    """A space of designs for a target, such as a structure or a protein, that can be had for another target."""

    @property
    @abstractmethod
    def length(self) -> int:
        """The number of coordinates of a state."""

    @abstractmethod
    def for_target(self, target: str) -> Self:
        """Return the space of another target; DataError where it is none."""


class Varying(Space[Design]):
    """A space of designs that differ in length: a token stands for no letter, wherever it is."""

    @property
    @abstractmethod
    def pad(self) -> int:
        """The token that stands for no letter."""

    @property
    def pads_first(self) -> bool:
        """Whether pads are written before the letters, not after them."""
        return False


class Shaped(Space[Design]):
    """A space of designs with a shape, in which tokens lie near others than those beside them in a state."""

    @property
    @abstractmethod
    def near(self) -> tuple[tuple[int, ...], ...]:
        """For each token all of them, itself first, from near to far: what a search changes together."""


class Related(Space[Design]):
    """A space that knows which designs are of one family, of which a search should not be full."""

    @abstractmethod
    def family(self, design: Design) -> str:
        """Return what all designs of the family of a design have in common."""


class Counted(Space[Design]):
    """A space whose designs are alike by the parts they share, as often as each is there."""

    @abstractmethod
    def counts(self, designs: Sequence[Design]) -> Tensor:
        """Return how often each of F parts is in each design: whole numbers ≥ 0, `(N, F)`, F the same every time."""


class Aligned(Space[Design]):
    """A space whose designs have a sign in each of as many positions, so that they can be compared one by one."""

    @abstractmethod
    def columns(self, designs: Sequence[Design]) -> Tensor:
        """Return the number of the sign at each position, whole numbers `(N, L)`."""


class Mending(Space[Design]):
    """A space in which not every state is a design: `decode` mends those that are none until they are."""

    @abstractmethod
    def mended(self, design: Design) -> bool | None:
        """Return whether a design that `decode` returned had to be mended; None where that is not known."""


class Modelled(Space[Design]):
    """Designs whose new generators are of a process and a network that their medium alone does not tell."""

    @property
    @abstractmethod
    def usual_process(self) -> dict[str, Any]:
        """The process where none is named: its name, with options beyond the sizes of designs."""

    @property
    @abstractmethod
    def usual_network(self) -> str:
        """The name of the network where none is named."""


class Particular(ABC):
    """A process that makes designs of some spaces only."""

    @abstractmethod
    def check_space(self, space: Space[Any]) -> None:
        """Raise ConfigError, with the reason, for a space whose designs it does not make."""


class Pictured(Space[Design]):
    """A space whose designs are best shown as a picture."""

    @abstractmethod
    def picture(self, sets: Mapping[str, Sequence[Design]]) -> str:
        """Return one SVG of some sets of designs by their titles: the same text for the same designs."""


def token_type(highest: int) -> torch.dtype:
    """Return the smallest integer type that holds tokens up to `highest`, a mask included.

    >>> token_type(127), token_type(128), token_type(40_000)
    (torch.int8, torch.int16, torch.int32)
    """
    return next(d for d in (torch.int8, torch.int16, torch.int32, torch.int64) if highest <= torch.iinfo(d).max)
