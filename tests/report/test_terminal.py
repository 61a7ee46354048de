from __future__ import annotations

import io

from report_samples import make_row
from rich.console import Console
from rich.table import Table

from biotilt.report import aggregate_table, comparison_table, panel_table, panel_text
from biotilt.report.terminal import best_row


def text(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(table)
    return out.getvalue()


def rows() -> list[dict]:
    large = {"median": -1234.6, "p5": -2345.6, "p95": -1000.1, "mean": -1234.5}
    return [
        make_row("base", 6.0, calls=0),
        make_row("best_of_n", 7.6),
        make_row("tuned", 7.5, optimised=large),
    ]


def test_the_panel_fits_a_terminal_of_100_columns_and_cuts_nothing() -> None:
    shown = panel_text(rows())
    assert max(map(len, shown.splitlines())) <= 100
    assert "…" not in shown
    for cell in ("−1,235", "−2,346 to −1,000", "7.600", "6.600 to 8.600", "2,048", "3 min 20 s", "–"):
        assert cell in shown


def test_the_best_held_out_score_is_bold() -> None:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=True, color_system="standard").print(panel_table(rows()))
    assert "\x1b[1;32m7.600" in out.getvalue()


def test_the_best_row_is_the_the_first_of_equals_and_skips_the_unjudged() -> None:
    assert best_row([make_row("a", 9.0, held_out=None), make_row("b", 5.0), make_row("c", 5.0)]) == 1
    assert best_row([make_row("a", 9.0, held_out=None)]) is None


def test_failures_are_shown_only_when_there_are_some() -> None:
    assert "Not scored" not in panel_text(rows())
    shown = panel_text([make_row("base", 6.0), make_row("tuned", 7.0, unscored=3, infeasible=17)])
    assert "Not scored" in shown and "Infeasible" in shown and "17" in shown


def test_names_with_brackets_are_not_markup() -> None:
    assert "[red]x" in panel_text([make_row("[red]x", 6.0)])


def test_a_line_a_run_fits_too() -> None:
    numbers = {"optimised": 8.0, "held_out": 7.25, "beyond_measured": 0.015, "distance": 36.9}
    line = {"run": "runs/a[b]", "task": "utr", "objective": "vidd", "alpha": 0.3, "seed": 2, "calls": 2048}
    shown = text(comparison_table([line | numbers | {"kl_policy_base": None}]))
    assert max(map(len, shown.splitlines())) <= 100
    for cell in ("runs/a[b]", "0.3", "7.250", "1.5%", "36.9", "2,048"):
        assert cell in shown


def test_seeds_show_mean_and_range() -> None:
    spread = {"mean": 7.5, "low": 7.0, "high": 8.25, "n": 3}
    numbers = {"optimised": spread, "held_out": spread, "distance": {"mean": 36.9}, "kl_policy_base": None}
    shown = text(aggregate_table([{"task": "utr", "objective": "ppo", "alpha": 0.1, "seeds": [0, 1, 2]} | numbers]))
    assert "7.500 (7.000 to 8.250)" in shown and "│     3 │" in shown and "36.9" in shown
