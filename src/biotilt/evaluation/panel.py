"""The panel that every comparison reports: one row a set of designs, a column a measure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from biotilt.errors import Problems, reason_of
from biotilt.evaluation.common import common_measures
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.measure import Measure
from biotilt.evaluation.metrics import summary

Row = dict[str, Any]


def panel(name: str, designs: Judged, problems: Problems | None = None) -> Row:
    """Return one row of `summary.json`: plain numbers, or None where a number does not exist, never NaN.

    It has the measures of every panel (`common_measures`) by their keys. `n` counts the designs, `unscored` and
    `infeasible` those of them by the optimised oracle. A measure that fails is None, with a line in `problems`; without
    `problems` its error is raised.
    """
    counts = summary([] if designs.optimised is None else designs.optimised)
    row: Row = {"name": name, "n": len(designs), "unscored": counts["unscored"], "infeasible": counts["infeasible"]}
    measured = common_measures(designs.space)
    if problems is None:
        for measure in measured:
            measure.put(row, measure(designs))
        return row
    measure_all(measured, [(row, designs)], problems)
    return row


def measure_all(measures: Iterable[Measure], rows: Iterable[tuple[Row, Judged]], problems: Problems) -> None:
    """Put each measure of the designs of each row into the row, None where it fails, with a line in `problems`."""
    rows = list(rows)
    for measure in measures:
        failed: dict[str, str] = {}
        for row, designs in rows:
            measure.put(row, None)
            try:
                measure.put(row, measure(designs))
            except Exception as error:  # whatever the code of a stranger raises
                failed[row["name"]] = reason_of(error)
        if len(failed) > 1 and len(failed) == len(rows) and len(set(failed.values())) == 1:
            failed = {"every row": next(iter(failed.values()))}
        problems += [f"{measure.header} of {name}: {reason}" for name, reason in failed.items()]
