"""What it took to reach a level: the curves of one run or of several, and their table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from biotilt.digits import NOTHING, count, duration, pretty
from biotilt.report.figures import as_svg, colour_of, styled_figure
from biotilt.report.shown import in_field

Took = Mapping[str, Any]
COSTS = {"calls": "oracle calls", "seconds": "seconds", "network_rows": "network rows"}
_KINDS = {"best": ("median of the best {best_of} so far", "-"), "round": ("mean of a round", "--")}


@dataclass(frozen=True)
class Curves:
    """The curves of a run, from `evaluation.levels.took`, in the field's sign; `label` "" for the only one."""

    label: str
    took: Took


def took_in_field(took: Took, sign: int) -> dict[str, Any]:
    """Return curves and levels with scores times `sign`."""
    points = [each | dict(zip(_KINDS, in_field((each[key] for key in _KINDS), sign))) for each in took["points"]]
    return {**took, "points": points, "levels": [each | {"value": sign * each["value"]} for each in took["levels"]]}


def costs_known(runs: Sequence[Took]) -> list[str]:
    """Return which costs there is a curve of; rows of networks were not counted in the first versions."""
    return [cost for cost in COSTS if any(_drawn(took, cost, key) for took in runs for key in _KINDS)]


def took_curve(runs: Sequence[Curves], cost: str, reward: str, levels: Sequence[Mapping[str, Any]]) -> str:
    """Draw the scores reached against one of `COSTS`, a colour a run; levels are dotted lines."""
    with styled_figure() as (figure, axes):
        for place, run in enumerate(runs):
            colour = "#0072b2" if len(runs) == 1 else colour_of("", place)
            for key, (meaning, style) in _KINDS.items():
                if not (drawn := _drawn(run.took, cost, key)):
                    continue
                said = meaning.format(best_of=run.took["best_of"])
                label = ", ".join(filter(None, (run.label, said)))
                mark = "." if len(drawn) == 1 else None
                axes.plot(*zip(*drawn), style, color=colour, lw=2, label=label, marker=mark)
        for level in levels:
            axes.axhline(level["value"], color="#7a7a7a", ls=":", lw=1.2)
            axes.annotate(
                level["title"], (1.0, level["value"]), (0, 2), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", fontsize=8.5, color="#50555e",
            )  # fmt: skip
        axes.set(xlabel=COSTS[cost], ylabel=reward)
        axes.legend(loc="best", fontsize=9.5)
        name = "-".join(["took", cost, reward, *(run.label for run in runs)])
        return as_svg(figure, name, f"{reward} reached against {COSTS[cost]}, with levels to compare with")


def _drawn(took: Took, cost: str, key: str) -> list[tuple[float, float]]:
    pairs = [(each.get(cost), each.get(key)) for each in took["points"]]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def took_lines(took: Took) -> Iterator[list[str]]:
    """Yield a line of texts a level: what it is, its score, and what it took by the best so far and by a round."""
    for level in took["levels"]:
        cells = [text for key in _KINDS for text in _costs(level[f"by_{key}"])]
        yield [level["title"], pretty(level["value"]), *cells]


def _costs(at: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if at is None:
        return ("not reached", NOTHING, NOTHING)
    rows = at["network_rows"]
    return count(int(at["calls"])), duration(at["seconds"]), NOTHING if rows is None else count(int(rows))


def took_table(runs: Sequence[Curves]) -> Table:
    """Return for a terminal what each level took in each run, by the best so far; calls also by the mean of a round."""
    best_of = runs[0].took["best_of"]
    table = Table(title=f"What it took until the best {best_of} (their median) reached a level", title_justify="left")
    if several := any(run.label for run in runs):
        table.add_column("Run", overflow="fold")
    table.add_column("Level")
    for header in ("Score", "Calls", "Time", "Network rows", "Calls, by a round's mean"):
        table.add_column(header, justify="right")
    for run in runs:
        for line in took_lines(run.took):
            table.add_row(*([escape(run.label)] if several else []), *map(escape, line[:6]))
    return table
