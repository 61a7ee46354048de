"""The signs of reward hacking: which checks were made on the rows of a panel, which fired, which were not possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biotilt.evaluation.common import PANEL
from biotilt.evaluation.measure import Check, Measure, Row

NOT_SCORED = "no design was scored"


def made_and_not(
    rows: Sequence[Row], measures: Sequence[Measure] = PANEL, reasons: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return `made`: checks with the rows `looked_at` and the sentences of those that `fired`; and `not_possible`.

    The row named "base" is what others are compared to, and is not judged. A check is made when a row has its number.
    `reasons`: key -> (because, to_get), what is known about why a number of the panel is missing.
    """
    base = next((row for row in rows if row["name"] == "base"), None)
    judged = [row for row in rows if row is not base]
    made, impossible = [], []
    for measure in measures:
        check = measure.check
        if check is None:
            continue
        looks = {row["name"]: check.look(row, base) for row in judged}
        seen = {name: said for name, said in looks.items() if said is not None}
        if seen:
            fired = {name: said for name, said in seen.items() if said}
            made.append({"key": measure.key, "check": check.says, "looked_at": list(seen), "fired": fired})
        else:
            known = {} if measure.place == "more" else reasons or {}
            because, to_get = _reason(measure.key, check, judged, known)
            impossible.append({"key": measure.key, "check": check.says, "because": because, "to_get": to_get})
    return {"made": made, "not_possible": impossible}


def warnings(rows: Sequence[Row], measures: Sequence[Measure] = PANEL) -> list[str]:
    """Return plain-language signs of reward hacking in panel rows, row by row; an empty list when no check fires."""
    return sentences(rows, made_and_not(rows, measures))


def sentences(rows: Sequence[Row], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the sentences of the checks that fired, row by row, from what `made_and_not` returned."""
    return [check["fired"][row["name"]] for row in rows for check in found["made"] if row["name"] in check["fired"]]


def _reason(key: str, check: Check, judged: Sequence[Row], reasons: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if not judged:
        return "there is no row but the base", "tune with more oracle calls"
    if key in reasons:
        return reasons[key]
    if key in ("beyond_measured", "gap") and not any(_scored(row) for row in judged):
        return NOT_SCORED, "see why in failures.csv, and mend the reward"
    return check.because, check.to_get


def _scored(row: Row) -> bool:
    return (row.get("optimised") or {}).get("median") is not None
