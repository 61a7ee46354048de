"""Rows as people read them: by a title, with scores in the sign of the field, where an energy is better if lower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
_ROW_TITLES = {
    "base": "Base", "best_of_n": "Best of N", "tuned": "Tuned", "harvest": "Harvest", "steered": "Steered",
}  # fmt: skip


def row_title(name: str) -> str:
    """Return the name of a row as people read it.

    >>> row_title("best_of_n"), row_title("alpha 0.1")
    ('Best of N', 'alpha 0.1')
    """
    return _ROW_TITLES.get(name, name)


def in_field(values: Iterable[float | None], sign: int) -> list[Any]:
    """Return scores times `sign`; None stays None."""
    return [None if value is None else sign * value for value in values]


def shown_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panel rows of a summary with scores in the field's sign; those of older summaries as they are."""
    reward, judge = sign_of(summary.get("reward")), sign_of(summary.get("held_out"))
    return [
        {
            **row,
            "optimised": _statistics(row.get("optimised"), reward),
            "held_out": _statistics(row.get("held_out"), judge),
            "gap": None if row.get("gap") is None else reward * row["gap"],
        }
        for row in summary["rows"]
    ]


def sign_of(about: Mapping[str, Any] | None) -> int:
    """Return the sign of a quantity, as `evaluation.quantity` describes it; 1 for none."""
    return 1 if about is None else about["sign"]


def _statistics(values: Mapping[str, float | None] | None, sign: int) -> dict[str, float | None] | None:
    if values is None or sign == 1:
        return None if values is None else dict(values)
    turned = {key: None if value is None else -value for key, value in values.items()}
    return turned | {"p5": turned["p95"], "p95": turned["p5"]}
