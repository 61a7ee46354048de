"""A number about a set of designs that one task adds to the panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True)
class Measure:
    """One more line of the panel: `compute(designs)` returns a number, or None (or NaN) where there is none.

    Args:
        key: under which `summary.json` keeps it, in the row's "more".
        header: a few words, its name in the table.
        meaning: a sentence or two for the page: what it is, and which way is good.
        compute: of all designs of a row, as texts.
    """

    key: str
    header: str
    meaning: str
    compute: Callable[[list[str]], float | None]


def measure_all(measures: Iterable[Measure], designs: list[str]) -> dict[str, float | None]:
    """Return each measure of the designs by its key; None where there is no number, never NaN."""
    values = {measure.key: measure.compute(designs) for measure in measures}
    return {key: None if value is None or not isfinite(value) else float(value) for key, value in values.items()}


def describe(measures: Iterable[Measure]) -> list[dict[str, str]]:
    """Return what the page and the terminal say of each measure, as JSON."""
    return [{"key": measure.key, "header": measure.header, "meaning": measure.meaning} for measure in measures]
