"""Runs side by side: what each took to reach the same levels, drawn together on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biotilt.errors import DataError
from biotilt.evaluation.compare import Run
from biotilt.files import write_text
from biotilt.report.page import part_of_page
from biotilt.report.took import Curves, costs_known, took_curve, took_in_field, took_lines

Compared = list[tuple[tuple[str, str], list[Curves]]]


def compared(runs: Sequence[tuple[Run, Mapping[str, Any]]]) -> Compared:
    """Return the curves of runs, from `evaluation.compare.at_common_levels`, by (task, reward): these have one axis."""
    found: dict[tuple[str, str], list[Curves]] = {}
    for run, told in runs:
        curves = Curves(str(run.folder), took_in_field(told, run.signs[0]))
        found.setdefault((run.task, run.reward), []).append(curves)
    return list(found.items())


def took_json(parts: Compared) -> list[dict[str, Any]]:
    """Return the same as JSON: of each run its points, and what the levels took, scores in the field's sign."""
    return [
        {"run": run.label, "task": task, "reward": reward, **run.took}
        for (task, reward), curves in parts
        for run in curves
    ]


def render_compared(parts: Compared, path: Path) -> None:
    """Write the page, whole or not at all; DataError where no run tells what it took."""
    if not parts:
        raise DataError("none of these runs tells what it took: judge one again with `biotilt evaluate RUN`")
    write_text(path, compared_html(parts))


def compared_html(parts: Compared) -> str:
    """Return the page as text; the same text for the same runs."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(part_of_page("compared.html"))
    return template.render(
        parts=[_part(task, reward, curves) for (task, reward), curves in parts],
        style=Markup(part_of_page("style.css")),
        svg=Markup,
    )


def _part(task: str, reward: str, curves: Sequence[Curves]) -> dict[str, Any]:
    levels = curves[0].took["levels"]
    return {
        "title": f"{task}: {reward}",
        "first": curves[0].label,
        "best_of": curves[0].took["best_of"],
        "lines": [[run.label, *line] for run in curves for line in took_lines(run.took)],
        "figures": [took_curve(curves, cost, reward, levels) for cost in costs_known([run.took for run in curves])],
    }
