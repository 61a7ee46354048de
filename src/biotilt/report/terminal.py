"""The panel as a table for a terminal of 100 columns: a line a number, a column a set of designs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from biotilt.digits import NOTHING, count, percent, pretty
from biotilt.evaluation.common import columns
from biotilt.evaluation.measure import Measure
from biotilt.report.shown import row_title

Rows = Sequence[Mapping[str, Any]]
_WIDTH = 100


def panel_table(
    rows: Rows,
    measures: Sequence[Measure] = (),
    verdict: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Table:
    """Return the panel of `rows`, mappings of `summary.json`; the best median is bold.

    `measures`: what the task and the experiment add; `verdict` and `about` (label and better of the reward) as in the
    summary.
    """
    told = "All scores" if about is None else f"{about['label']}, {about['better']} is better"
    table = Table(title=escape(f"{told}: median, and 5th to 95th percentile"), title_justify="left")
    table.add_column("")
    for row in rows:
        name = escape(row_title(str(row["name"])))
        table.add_column(f"{name}\nn = {count(row.get('n'))}", justify="right")
    best = best_row(rows, verdict, "higher" if about is None else str(about["better"]))
    by = "held_out" if verdict is None else verdict["by"]
    for column in columns():
        cells = [column.text(row).replace(" (", "\n").removesuffix(")") for row in rows]
        if column.key == by and best is not None:
            cells[best] = f"[bold green]{cells[best]}[/bold green]"
        table.add_row(column.header, *cells)
    for measure in measures:
        table.add_row(escape(measure.header), *[measure.text(row) for row in rows])
    for key, header in (("unscored", "Not scored"), ("infeasible", "Infeasible")):
        if any(row.get(key) for row in rows):
            table.add_row(header, *[count(row.get(key)) for row in rows])
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
            _tilt(line),
            str(line["seed"]),
            *[pretty(value) for value in _in_field(line)],
            percent(line["beyond_measured"]),
            pretty(line["distance"]),
            pretty(line["kl_policy_base"]),
            count(line["calls"]),
        )
    return table


def measures_table(lines: Rows, measures: Sequence[Measure]) -> Table:
    """Return one line a run, from `evaluation.comparison`, with what was added to the panels; a dash for none."""
    table = Table(title="More about the designs", title_justify="left")
    _add_column(table, "Run", named=True)
    for measure in measures:
        table.add_column(escape(measure.header), justify="right", overflow="fold")
    for line in lines:
        table.add_row(escape(str(line["run"])), *[measure.text(line) for measure in measures])
    return table


def aggregate_table(lines: Rows) -> Table:
    """Return one line a group of seeds, from `evaluation.aggregate`; scores with their range over seeds."""
    table = Table(title="Means over seeds; scores with (lowest to highest) seed", title_justify="left")
    for position, header in enumerate(("Task", "Objective", "α", "Seeds", "Optimised", "Held-out", "Dist.", "KL")):
        _add_column(table, header, named=position < 2)
    for line in lines:
        scores = [_spread(value, sign) for value, sign in zip((line["optimised"], line["held_out"]), _signs(line))]
        means = [pretty((line[key] or {}).get("mean")) for key in ("distance", "kl_policy_base")]
        names = (escape(str(line["task"])), escape(str(line["objective"])))
        table.add_row(*names, _tilt(line), str(len(line["seeds"])), *scores, *means)
    return table


def _tilt(line: Mapping[str, Any]) -> str:
    """Return α, or the KL that it followed."""
    asked = line.get("target_kl")
    return f"{line['alpha']:g}" if asked is None else f"KL {asked:g}"


def _add_column(table: Table, header: str, *, named: bool) -> None:
    """Add a column; names may fold to make room, numbers never break."""
    table.add_column(header, justify="left" if named else "right", overflow="fold", no_wrap=not named)


def best_row(rows: Rows, verdict: Mapping[str, Any] | None = None, better: str = "higher") -> int | None:
    """Return the place of the row that won, or without a verdict that with the best held-out median; None for none."""
    if verdict:
        return next((place for place, row in enumerate(rows) if row["name"] == verdict["winner"]), None)
    sign = -1 if better == "lower" else 1
    medians = [(row.get("held_out") or {}).get("median") for row in rows]
    known = [(sign * median, -place) for place, median in enumerate(medians) if median is not None]
    return -max(known)[1] if known else None


def verdict_text(verdict: Mapping[str, Any]) -> Text:
    """Return the verdict in the colour of its tone: red for what is worse than the base or could not be judged."""
    style = {"good": "bold green", "caution": "bold yellow", "bad": "bold red"}[verdict["tone"]]
    return Text.assemble((verdict["headline"], style), "\n", " ".join(verdict["sentences"]))


def checks_lines(checks: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return what was checked without a warning, and what could not be checked and why, a line each."""
    quiet = [check["check"] for check in checks["made"] if not check["fired"]]
    lines = [f"checked, nothing to report: {'; '.join(quiet)}"] if quiet else []
    return lines + [
        f"not possible here: {check['check']}, because {check['because']}; to get it, {check['to_get']}"
        for check in checks["not_possible"]
    ]


def _signs(line: Mapping[str, Any]) -> tuple[int, int]:
    """Return what turns the two scores of a line into the field's."""
    optimised, held_out = line.get("signs", (1, 1))
    return optimised, held_out


def _in_field(line: Mapping[str, Any]) -> list[float | None]:
    scores = (line["optimised"], line["held_out"])
    return [None if value is None else sign * value for value, sign in zip(scores, _signs(line))]


def _spread(value: Mapping[str, float] | None, sign: int) -> str:
    if value is None:
        return NOTHING
    low, high = sorted((sign * value["low"], sign * value["high"]))
    return f"{pretty(sign * value['mean'])} ({pretty(low)} to {pretty(high)})"
