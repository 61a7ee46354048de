"""The panel as a table for a terminal of 100 columns: a line a number, a column a set of designs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from biotilt.report.columns import COLUMNS, NOTHING, measured, number, percent, row_title

Rows = Sequence[Mapping[str, Any]]
_WIDTH = 100


def panel_table(rows: Rows, measures: Sequence[Mapping[str, str]] = ()) -> Table:
    """Return the panel of `rows`, mappings of `summary.json`; the best held-out median is bold.

    `measures`: what the task adds, mappings with key and header.
    """
    table = Table(title="All scores: median (5th to 95th percentile)", title_justify="left")
    table.add_column("")
    for row in rows:
        name = escape(row_title(str(row["name"])))
        table.add_column(f"{name}\nn = {number(row.get('n'), 0)}", justify="right")
    best = best_held_out(rows)
    for column in COLUMNS:
        cells = [column.text(row) for row in rows]
        if column.key == "held_out" and best is not None:
            cells[best] = f"[bold green]{cells[best]}[/bold green]"
        table.add_row(column.header, *cells)
    for measure in measures:
        values = [row.get("more", {}).get(measure["key"]) for row in rows]
        table.add_row(escape(measure["header"]), *[measured(value) for value in values])
    for key, header in (("unscored", "Not scored"), ("infeasible", "Infeasible")):
        if any(row.get(key) for row in rows):
            table.add_row(header, *[number(row.get(key), 0) for row in rows])
    return table


def panel_text(rows: Rows) -> str:
    """Return the panel as plain text of at most 100 columns, for logs and files."""
    out = io.StringIO()
    Console(file=out, width=_WIDTH, color_system=None).print(panel_table(rows))
    return out.getvalue()


def comparison_table(lines: Rows) -> Table:
    """Return one line a run, from `evaluation.comparison`; medians for the two scores."""
    table = Table()
    headers = (
        "Run",
        "Task",
        "Objective",
        "α",
        "Seed",
        "Optim.",
        "Held-out",
        "Beyond",
        "Dist.",
        "KL",
        "Calls",
    )
    for position, header in enumerate(headers):
        _add_column(table, header, named=position < 3)
    for line in lines:
        table.add_row(
            escape(str(line["run"])),
            escape(str(line["task"])),
            escape(str(line["objective"])),
            f"{line['alpha']:g}",
            str(line["seed"]),
            number(line["optimised"]),
            number(line["held_out"]),
            percent(line["beyond_measured"]),
            number(line["distance"], 1),
            number(line["kl_policy_base"], 1),
            number(line["calls"], 0),
        )
    return table


def aggregate_table(lines: Rows) -> Table:
    """Return one line a group of seeds, from `evaluation.aggregate`; scores with their range over seeds."""
    table = Table(title="Means over seeds; scores with (lowest to highest) seed", title_justify="left")
    for position, header in enumerate(("Task", "Objective", "α", "Seeds", "Optimised", "Held-out", "Dist.", "KL")):
        _add_column(table, header, named=position < 2)
    for line in lines:
        scores = [_spread(line[key]) for key in ("optimised", "held_out")]
        means = [number((line[key] or {}).get("mean"), 1) for key in ("distance", "kl_policy_base")]
        names = (escape(str(line["task"])), escape(str(line["objective"])))
        table.add_row(*names, f"{line['alpha']:g}", str(len(line["seeds"])), *scores, *means)
    return table


def _add_column(table: Table, header: str, *, named: bool) -> None:
    """Add a column; names may fold to make room, numbers never break."""
    table.add_column(header, justify="left" if named else "right", overflow="fold", no_wrap=not named)


def best_held_out(rows: Rows) -> int | None:
    """Return the place of the row with the highest held-out median, or None when no row has one."""
    medians = [(row.get("held_out") or {}).get("median") for row in rows]
    known = [(median, -place) for place, median in enumerate(medians) if median is not None]
    return -max(known)[1] if known else None


def _spread(value: Mapping[str, float] | None) -> str:
    if value is None:
        return NOTHING
    return f"{number(value['mean'])} ({number(value['low'])} to {number(value['high'])})"
