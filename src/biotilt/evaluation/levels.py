"""What it took to reach a level: calls, seconds and network rows, from the figures of a run and the scores in order."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from biotilt.digits import count

BEST = 10  # designs: the top 10, as benchmarks of molecules count it
COSTS = ("calls", "seconds", "network_rows")
Point = Mapping[str, float | None]
Level = Mapping[str, Any]


class BestSoFar:
    """The median of the `BEST` best different designs scored so far.

    >>> best = BestSoFar()
    >>> for place in range(12):
    ...     best.add(f"design {place}", float(place))
    >>> best.add("design 11", 11.0)  # known already
    >>> best.median  # of 2 to 11
    6.5
    """

    def __init__(self) -> None:
        self._known: set[Hashable] = set()
        self._best: list[float] = []

    def add(self, design: Hashable, score: float) -> None:
        """Take in a design with its score; one that is not finite does not count."""
        if not math.isfinite(score) or design in self._known:
            return
        self._known.add(design)
        bisect.insort(self._best, score)
        del self._best[:-BEST]

    @property
    def median(self) -> float | None:
        """None before there are so many."""
        return statistics.median(self._best) if len(self._best) == BEST else None


def points_of(history: Iterable[Mapping[str, Any]], scored: Iterable[tuple[str, float]]) -> list[Point]:
    """Return a point a round: what it had cost, `round`, the mean reward of its designs, and `best`, of all so far.

    Args:
        history: rows with calls, seconds and where they are known network_rows and reward, those of the run so far.
        scored: each design that cost a call, with its score, in order.
    """
    best, asked, done, points = BestSoFar(), iter(scored), 0, []
    for row in history:
        while done < row["calls"] and (one := next(asked, None)) is not None:
            best.add(*one)
            done += 1
        points.append(point(row, row.get("reward"), best))
    return points


def point(cost: Mapping[str, Any], mean: float | None, best: BestSoFar) -> Point:
    """Return one point of the curve; `mean` of the designs of this round, None where there is no such thing."""
    known: dict[str, float | None] = {key: cost.get(key) for key in COSTS}
    return known | {"round": mean if mean is not None and math.isfinite(mean) else None, "best": best.median}


def levels_of(base: Sequence[float], chosen: Sequence[float] = ()) -> list[Level]:
    """Return the levels that people compare with, each with `name`, `title` and `value`; higher is better.

    Args:
        base: scores of designs of the base; NaN are left out. Quantiles that ten designs do not reach beyond are not
            levels: the 99th percentile needs 100 designs.
        chosen: of those that best-of-N chose, where all of `base` are the N that it chose from.
    """
    known = [score for score in base if not math.isnan(score)]
    found = []
    for percent, least in ((90, 10), (99, 100)):
        if len(known) >= least:
            value = float(np.quantile(known, percent / 100, method="lower"))
            found.append((f"base_p{percent}", f"{percent}th percentile of the base", value))
    if chosen := [score for score in chosen if math.isfinite(score)]:
        title = f"median of best-of-N's row, N = {count(len(base))}"
        found.append(("best_of_n", title, statistics.median(chosen)))
        best = BestSoFar()
        for place, score in enumerate(known):
            best.add(place, score)
        if best.median is not None:
            found.append(("best_of_n_best", f"best {BEST} of those N, their median", best.median))
    return [{"name": name, "title": title, "value": value} for name, title, value in found if math.isfinite(value)]


def reached(points: Sequence[Point], level: float, key: str) -> Point | None:
    """Return what it had cost when `key`, "round" or "best", first came up to a level; None where it never did."""
    for each in points:
        value = each[key]
        if value is not None and value >= level:
            return {cost: each[cost] for cost in COSTS}
    return None


def took(points: Sequence[Point], levels: Sequence[Level]) -> dict[str, Any]:
    """Return as JSON can hold it the curve, and what each level took by the mean of a round and by the best so far."""

    def at(level: Level) -> dict[str, Any]:
        return {f"by_{key}": reached(points, level["value"], key) for key in ("round", "best")}

    told = [{key: level[key] for key in ("name", "title", "value")} | at(level) for level in levels]
    return {"best_of": BEST, "points": list(points), "levels": told}
