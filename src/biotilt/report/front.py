"""The figure of two objectives: every design as a point, and the Pareto front of each set of designs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from biotilt.digits import pretty
from biotilt.report.figures import as_svg, colour_of, styled_figure
from biotilt.report.shown import row_title

_MANY = 100  # designs; a larger cloud is drawn as pixels, since each of its points would cost the page 170 bytes


def front_plot(
    components: Mapping[str, Mapping[str, Sequence[float]]],
    summary: Mapping[str, Any],
    objectives: tuple[str, str] | None = None,
    directions: Mapping[str, str] | None = None,
) -> str:
    """Draw two objectives against each other, a point a design, with the front of each set marked.

    Args:
        components: row name -> objective -> scores `(B,)`; rows not in `summary` are left out, as are designs without a
            finite score of both.
        summary: of these rows, from `evaluation.pareto.front_summary`.
        objectives: names of the two to draw; default: the first two. The fronts are of all objectives; with two
            of them the edge of what a set dominates is drawn as a staircase.
        directions: objective -> "maximise" (the default) or "minimise", as given to `front_summary`.
    """
    names = list(summary["objectives"])
    pair = objectives or (names[0], names[1])
    place = [names.index(name) for name in pair]
    better = ["lower" if (directions or {}).get(name) == "minimise" else "higher" for name in pair]
    with styled_figure() as (figure, axes):
        for order, (row, about) in enumerate(summary["rows"].items()):
            colour = colour_of(row, order)
            both = zip(*(components[row][name] for name in pair))
            drawn = [point for point in both if all(math.isfinite(value) for value in point)]
            axes.plot(
                [x for x, _ in drawn], [y for _, y in drawn], ".", color=colour, ms=4, alpha=0.35, ls="none",
                rasterized=len(drawn) > _MANY,
            )  # fmt: skip
            edge = sorted((point[place[0]], point[place[1]]) for point in about["points"])
            volume = "" if about["hypervolume"] is None else f", hypervolume {pretty(about['hypervolume'])}"
            # between two points of the front the one that is better in x decides how far y may go
            style = "steps-pre" if better[0] == "higher" else "steps-post"
            axes.plot(
                [x for x, _ in edge], [y for _, y in edge], "o", color=colour, ms=6, mec="white", mew=0.8,
                ls="-" if len(names) == 2 else "none", drawstyle=style, lw=1.6, label=f"{row_title(row)}{volume}",
            )  # fmt: skip
        axes.set(xlabel=f"{pair[0]} ({better[0]} is better)", ylabel=f"{pair[1]} ({better[1]} is better)")
        axes.margins(0.06)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2, fontsize=9.5)
        alt = f"{pair[1]} against {pair[0]} for {', '.join(map(row_title, summary['rows']))}, with their Pareto fronts"
        return as_svg(figure, f"front-{pair[0]}-{pair[1]}", alt)


def front_caption(summary: Mapping[str, Any]) -> str:
    """Return a sentence or two of numbers for the caption, or why there is no front."""
    if not summary["rows"]:
        return "No design has a finite score of every objective, so there is no Pareto front."
    sizes = "; ".join(
        f"{row_title(row)}: {about['front']} points from {about['scored']} designs"
        + ("" if about["hypervolume"] is None else f", hypervolume {pretty(about['hypervolume'])}")
        for row, about in summary["rows"].items()
    )
    corner = ", ".join(pretty(value) for value in summary["reference"])
    return (
        f"On the Pareto front, better in one objective only at the cost of another: {sizes}. The hypervolume is what a "
        f"front dominates, seen from the reference point ({corner})."
    )
