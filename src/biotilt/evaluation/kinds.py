"""Measures by name: ours, those that a user registers, and those that other packages bring."""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from biotilt.core.space import Medium
from biotilt.evaluation.measure import Measure
from biotilt.options import Number, Positive, Text, check_options
from biotilt.registry import Registry

Letters = Annotated[Text, Field(min_length=1)]


class MeasureKind(ABC):
    """A frozen dataclass of options, from which a measure is made; its docstring says in a line what it measures.

    `reads`: of what designs it is, "text", "points" or "images", or "anything".
    """

    name: ClassVar[str]
    reads: ClassVar[Medium | Literal["anything"]] = "text"

    def __post_init__(self) -> None:
        check_options(self, f'measure "{self.name}"')

    @abstractmethod
    def measure(self) -> Measure:
        """Return the measure of these options."""


@dataclass(frozen=True)
class Length(MeasureKind):
    """Mean number of letters of a design."""

    name: ClassVar[str] = "length"

    def measure(self) -> Measure:
        return Measure(
            self.name, "Mean length", "Letters of a design, on average.",
            lambda designs: statistics.fmean(map(len, designs)) if designs else None,
            lambda designs: list(map(len, designs)),
        )  # fmt: skip


@dataclass(frozen=True)
class LetterShare(MeasureKind):
    """Share of some letters, such as "GC", in a design; the mean over designs that have a letter."""

    letters: Letters = "GC"

    name: ClassVar[str] = "letter_share"

    def measure(self) -> Measure:
        def each(designs: list[Any]) -> list[float | None]:
            return [sum(map(design.count, set(self.letters))) / len(design) if design else None for design in designs]

        return Measure(
            self.name, f"Share of {', '.join(self.letters)}", f"Share of the letters {self.letters} in a design, mean.",
            lambda designs: _mean(each(designs)), each, written="percent",
        )  # fmt: skip


@dataclass(frozen=True)
class MotifShare(MeasureKind):
    """Share of designs that hold a word, such as "AATAAA"."""

    motif: Letters

    name: ClassVar[str] = "motif_share"

    def measure(self) -> Measure:
        def each(designs: list[Any]) -> list[float | None]:
            return [float(self.motif in design) for design in designs]

        return Measure(
            self.name, f"With {self.motif}", f"Share of designs that hold {self.motif}.",
            lambda designs: _mean(each(designs)), each, written="percent",
        )  # fmt: skip


@dataclass(frozen=True)
class PositionEntropy(MeasureKind):
    """Mean entropy of a position over designs of one length, in bits: a fall means that they settle on letters."""

    name: ClassVar[str] = "position_entropy"

    def measure(self) -> Measure:
        return Measure(
            self.name, "Entropy", "Entropy of the letters at a position, in bits, averaged over positions. A fall "
            "means that designs have settled on letters.",
            _position_entropy,
        )  # fmt: skip


def _position_entropy(designs: list[Any]) -> float | None:
    if len({len(design) for design in designs}) != 1 or not designs[0]:
        return None
    shares = [[n / len(designs) for n in Counter(column).values()] for column in zip(*designs)]
    return statistics.fmean(0.0 - sum(share * math.log2(share) for share in column) for column in shares)


@dataclass(frozen=True)
class Near(MeasureKind):
    """Share of points within `radius` of a `centre`, such as a mode that designs should not forget."""

    centre: tuple[Number, ...]
    radius: Positive

    name: ClassVar[str] = "near"
    reads: ClassVar[Medium | Literal["anything"]] = "points"

    def measure(self) -> Measure:
        def each(designs: list[Any]) -> list[float | None]:
            return [float(np.linalg.norm(np.subtract(design, self.centre)) <= self.radius) for design in designs]

        place = ", ".join(f"{number:g}" for number in self.centre)
        return Measure(
            self.name, f"Near ({place})", f"Share of points within {self.radius:g} of ({place}).",
            lambda designs: _mean(each(designs)), each, written="percent",
        )  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


KINDS: tuple[type[MeasureKind], ...] = (Length, LetterShare, MotifShare, PositionEntropy, Near)
MEASURES: Registry[MeasureKind] = Registry("measures", "measure", KINDS)
"""What the `kind` of a section of measures may be."""
