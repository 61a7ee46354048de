"""A number about a set of designs that one task adds to the panel, and the limit that it should keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from biotilt.digits import pretty

Values = Sequence[float | None]


@dataclass(frozen=True)
class Limit:
    """How far a measure of a row may be from the base's before the page warns; all that are given must hold.

    `fall` and `rise`: at most so much below, or above, the base's. `kept` and `grown`: at least, or at most, so many
    times the base's.

    >>> Limit(fall=0.15).broken(0.69, 1.00), Limit(kept=0.8, grown=1.2).broken(1.0, 1.1)
    (True, False)
    """

    fall: float | None = None
    rise: float | None = None
    kept: float | None = None
    grown: float | None = None

    def broken(self, value: float, base: float) -> bool:
        """Return whether a row's value is out of bounds, given the base's."""
        low = [base - self.fall] if self.fall is not None else []
        low += [base * self.kept] if self.kept is not None else []
        high = [base + self.rise] if self.rise is not None else []
        high += [base * self.grown] if self.grown is not None else []
        return value < max(low, default=-math.inf) or value > min(high, default=math.inf)

    def says(self) -> str:
        """Return the limit in words."""
        parts = [
            (self.fall, "at most {} below the base's"),
            (self.rise, "at most {} above the base's"),
            (self.kept, "at least {} times the base's"),
            (self.grown, "at most {} times the base's"),
        ]
        return " and ".join(text.format(f"{bound:g}") for bound, text in parts if bound is not None)


@dataclass(frozen=True)
class Measure:
    """One more line of the panel: `compute(designs)` returns a number, or None (or NaN) where there is none.

    Args:
        key: under which `summary.json` keeps it, in the row's "more", and the name of its column in tables.
        header: a few words, its name in the table.
        meaning: a sentence or two for the page: what it is, and which way is good.
        compute: of all designs of a row, as texts.
        each: of every design by itself, one number or None a design, for the tables; None where there is no such.
        limit: how far it may move from the base's; None where no value is a sign of anything.
        natural: whether it tells how natural designs are, so that the verdict names it.
    """

    key: str
    header: str
    meaning: str
    compute: Callable[[list[str]], float | None]
    each: Callable[[list[str]], Values] | None = None
    limit: Limit | None = None
    natural: bool = False

    @property
    def check(self) -> str:
        """What its limit asks, in words."""
        return "" if self.limit is None else f"{self.header} {self.limit.says()}"

    def warning(self, name: str, value: float, base: float) -> str:
        """Return the sentence for a row whose value broke the limit."""
        assert self.limit is not None
        return (
            f"{name}: {self.header} {pretty(value)}, base {pretty(base)} (limit: {self.limit.says()}). {self.meaning}"
        )


def measure_all(measures: Iterable[Measure], designs: list[str]) -> dict[str, float | None]:
    """Return each measure of the designs by its key; None where there is no number, never NaN."""
    return {measure.key: plain(measure.compute(designs)) for measure in measures}


def plain(value: float | None) -> float | None:
    """Return a float, or None for what strict JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def describe(measures: Iterable[Measure]) -> list[dict[str, str]]:
    """Return what the page and the terminal say of each measure, as JSON."""
    return [{"key": measure.key, "header": measure.header, "meaning": measure.meaning} for measure in measures]
