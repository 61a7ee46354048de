from __future__ import annotations

from typing import Any

import pytest
from report_samples import make_report, make_row

from biotilt.report import plain_summary


def words(**changes: Any) -> str:
    return " ".join(plain_summary(make_report(**changes)))


def test_a_gain_is_told_with_its_price() -> None:
    text = words()
    assert "(task utr) was tuned with VIDD" in text and "higher mean ribosome load" in text
    assert "predicted to reach 7.50 by a held-out oracle" in text
    # base held-out scores are 5, 6, 7, 8: three of four are below 7.5
    assert "reaches 6.25, so tuning gained 1.25; the typical tuned design scores above 75% of" in text
    assert "at the same number of oracle calls, reaches 7.00, which is 0.50 lower." in text
    assert "Tuning cost 2,048 oracle calls and 3 min 20 s." in text


@pytest.mark.parametrize(
    ("tuned", "base", "best"),
    [
        (6.0, "tuning lost 0.25", "which is 1.00 higher"),
        (6.251, "tuning gained nothing", "which is 0.75 higher"),
        (7.0, "tuning gained 0.75", "which is the same"),
    ],
)
def test_no_gain_is_told_as_plainly(tuned: float, base: str, best: str) -> None:
    rows = [make_row("base", 6.25), make_row("best_of_n", 7.0), make_row("tuned", tuned)]
    text = words(rows=rows)
    assert base in text and best in text


def test_unequal_calls_are_not_called_equal() -> None:
    text = words(rows=[make_row("best_of_n", 7.0, calls=640), make_row("tuned", 7.5)])
    assert "at 640 oracle calls" in text and "the same number" not in text


def test_what_is_missing_is_not_compared() -> None:
    assert "untuned generator" not in words(rows=[make_row("tuned", 7.5)])
    assert "There is no held-out oracle" in words(rows=[make_row("tuned", 7.5, held_out=None)])
    assert "no tuned designs" in words(rows=[make_row("base", 6.0)])
    infeasible = dict.fromkeys(("median", "p5", "p95", "mean"))
    text = words(rows=[make_row("base", 6.0), make_row("tuned", 7.5, held_out=infeasible)])
    assert "reach – by" in text and "gained" not in text
