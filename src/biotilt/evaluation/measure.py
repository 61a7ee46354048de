"""A number of the panel: how it is called, computed, written and explained, and the limit that it should keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

from biotilt.digits import NOTHING, count, duration, percent, pretty
from biotilt.errors import ConfigError, DataError, suggest
from biotilt.evaluation.judged import Judged
from biotilt.options import shown

Row = Mapping[str, Any]
Values = Sequence[float | None]
Value = float | dict[str, float | None] | None
Written = Literal["number", "percent", "count", "duration", "scores"]
Place = Literal["panel", "hidden", "more"]


def _scores(values: Mapping[str, float | None]) -> str:
    return f"{pretty(values['median'])} ({pretty(values['p5'])} to {pretty(values['p95'])})"


WRITERS: dict[str, Callable[[Any], str]] = {
    "number": pretty, "percent": percent, "count": count, "duration": duration, "scores": _scores,
}  # fmt: skip
"""How a value becomes text: four digits, a share as a percentage, a whole number, seconds, or median (p5 to p95)."""


@dataclass(frozen=True)
class Limit:
    """How far a measure may go before the page warns; all that are given must hold.

    `at_least` and `at_most` are bounds of its own. The others are relative to the base's value: `fall` and `rise`, at
    most so much below, or above, it; `kept` and `grown`, at least, or at most, so many times it.

    >>> Limit(fall=0.15).broken(0.69, 1.00), Limit(kept=0.8, grown=1.2).broken(1.0, 1.1), Limit(at_most=3).broken(4, 9)
    (True, False, True)
    """

    fall: float | None = None
    rise: float | None = None
    kept: float | None = None
    grown: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def relative(self) -> bool:
        """Whether it needs the base's value."""
        return any(bound is not None for bound in (self.fall, self.rise, self.kept, self.grown))

    def broken(self, value: float, base: float | None = None) -> bool:
        """Return whether a row's value is out of bounds, given the base's."""
        low, high = [self.at_least], [self.at_most]
        if base is not None:
            low += [None if self.fall is None else base - self.fall, None if self.kept is None else base * self.kept]
            high += [None if self.rise is None else base + self.rise, None if self.grown is None else base * self.grown]
        lowest = max((bound for bound in low if bound is not None), default=-math.inf)
        highest = min((bound for bound in high if bound is not None), default=math.inf)
        return value < lowest or value > highest

    def says(self) -> str:
        """Return the limit in words."""
        parts = [
            (self.at_least, "at least {}"),
            (self.at_most, "at most {}"),
            (self.fall, "at most {} below the base's"),
            (self.rise, "at most {} above the base's"),
            (self.kept, "at least {} times the base's"),
            (self.grown, "at most {} times the base's"),
        ]
        return " and ".join(text.format(f"{bound:g}") for bound, text in parts if bound is not None)


@dataclass(frozen=True)
class Check:
    """One look at a row: `look(row, base)` is a sentence when it fires, "" when not, None where a number is missing.

    `says`: what is looked at; `because` and `to_get`: why it may be impossible, and what would make it possible.
    """

    says: str
    because: str
    to_get: str
    look: Callable[[Row, Row | None], str | None]


@dataclass(frozen=True)
class Measure:
    """One number about a set of designs, as page, terminal, tables and checks know it.

    Args:
        key: under which `summary.json` keeps it, and the name of its column in tables.
        header: a few words, its name in the table.
        meaning: a sentence or two for the page: what it is, and which way is good.
        compute: of the designs of a row, a list that also knows their scores (`Judged`); returns a number, or None (or
            NaN) where there is none.
        each: of every design by itself, one number or None a design, for the tables; None where there is no such.
        limit: how far it may go; None where no value is a sign of anything.
        natural: whether it tells how natural designs are, so that the verdict names it.
        written: how its value becomes text.
        place: "panel" for those of every panel, "hidden" for those that only checks need, "more" for all others, which
            have a table of their own, and stand in a row's "more".
        columns: what tables hold of it besides `each`, name -> meaning.

    >>> gc = Measure("gc", "GC", "Share of G and C.", lambda designs: sum(d.count("G") + d.count("C") for d in designs)
    ...     / sum(map(len, designs)), limit=Limit(rise=0.1), written="percent")
    >>> gc(["ACGG", "AA"]), gc.check.says
    (0.5, "GC at most 0.1 above the base's")
    """

    key: str
    header: str
    meaning: str
    compute: Callable[[Judged], Any]
    each: Callable[[list[Any]], Values] | None = None
    limit: Limit | Check | None = None
    natural: bool = False
    written: Written = "number"
    place: Place = "more"
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.written not in WRITERS:
            raise ConfigError(
                f'measure "{self.key}": written = {shown(self.written)}{suggest(str(self.written), WRITERS)}'
            )

    def __call__(self, designs: Iterable[Any]) -> Value:
        """Return the value of some designs: a float, statistics of scores, or None, never NaN.

        Raises DataError when `compute` returns what is no number.
        """
        found = self.compute(designs if isinstance(designs, Judged) else Judged(designs))
        if isinstance(found, Mapping):
            return {key: plain(value) for key, value in found.items()}
        return self._number(found)

    def of_each(self, designs: list[Any]) -> Values:
        """Return the value of every design; None where there is none. Raises DataError unless there is one a design."""
        assert self.each is not None
        found = list(self.each(designs))
        if len(found) != len(designs):
            raise DataError(f"{self.key}: {len(found)} numbers for {len(designs)} designs")
        return [self._number(value) for value in found]

    def of(self, row: Row) -> Any:
        """Return its value in a row of the panel, None where there is none."""
        return ((row.get("more") or {}) if self.place == "more" else row).get(self.key)

    def put(self, row: dict[str, Any], value: Value) -> None:
        """Write its value into a row of the panel."""
        (row.setdefault("more", {}) if self.place == "more" else row)[self.key] = value

    def text(self, row: Row) -> str:
        """Return its value in a row as people read it, a dash where there is none."""
        value = self.of(row)
        return NOTHING if value is None else WRITERS[self.written](value)

    @property
    def meanings(self) -> dict[str, str]:
        """What its columns in the tables of designs mean."""
        return {**self.columns, **({} if self.each is None else {self.key: self.meaning})}

    @property
    def check(self) -> Check | None:
        """The look at its value that its limit asks for; None where it has none."""
        limit = self.limit
        if limit is None or isinstance(limit, Check):
            return limit
        because = f"there is no {self.header} of these designs"
        to_get = "see the problems named on the page, and what is said of this measure"
        return Check(f"{self.header} {limit.says()}", because, to_get, lambda row, base: self._look(limit, row, base))

    def _look(self, limit: Limit, row: Row, base: Row | None) -> str | None:
        value, before = self.of(row), None if base is None else self.of(base)
        if value is None or (limit.relative and before is None):
            return None
        if not limit.broken(value, before):
            return ""
        compared = "" if before is None else f", base {WRITERS[self.written](before)}"
        written = WRITERS[self.written](value)
        return f"{row['name']}: {self.header} {written}{compared} (limit: {limit.says()}). {self.meaning}".rstrip()

    def _number(self, value: Any) -> float | None:
        try:
            if isinstance(value, str):
                raise TypeError
            if isinstance(value, Integral):
                return int(value)
            return None if value is None else plain(float(value))
        except (TypeError, ValueError, RuntimeError, OverflowError):
            said = "one number a design" if self.each is not None else "a number"
            raise DataError(f"{self.key} returned {type(value).__name__}, not {said}") from None


def plain(value: float | None) -> float | None:
    """Return a float, or None for what strict JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def describe(measures: Iterable[Measure]) -> list[dict[str, str]]:
    """Return what a summary keeps of measures, as JSON: all that `described` needs to show their values again."""
    kept = ("key", "header", "meaning", "written")
    return [{name: getattr(measure, name) for name in kept} for measure in measures]


def described(about: Iterable[Mapping[str, str]]) -> list[Measure]:
    """Return measures as a summary describes them: they show the values of its rows, and cannot be computed."""
    found = []
    for one in about:
        written: Any = one.get("written") if one.get("written") in WRITERS else "number"  # the first versions had none
        key, header, meaning = (one.get(name, "") for name in ("key", "header", "meaning"))
        found.append(Measure(key, header, meaning, _only_described, written=written))
    return found


def _only_described(designs: Judged) -> None:
    raise DataError("this measure was read from a summary, which does not say how to compute it")
