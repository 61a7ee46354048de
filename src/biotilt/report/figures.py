"""The figures of a report: each function returns one SVG, the same bytes for the same numbers."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from biotilt.report.glyphs import stacked
from biotilt.report.shown import row_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; a line style repeats what a colour says.
ROW_COLOURS = {
    "base": "#7a7a7a", "best_of_n": "#d98200", "tuned": "#0072b2", "steered": "#0072b2", "harvest": "#009e73",
}  # fmt: skip
_SPARE_COLOURS = ("#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_LIMIT_COLOUR = "#b3261e"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11.5,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#30343b",
    "xtick.color": "#50555e",
    "ytick.color": "#50555e",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7e9ee",
    "legend.frameon": False,
}
_PANEL_SIZE = (6.0, 3.7)  # inches; at 72 points each it keeps letters readable on a phone
_LONG_LOGO = 80  # positions; a longer logo is drawn as pixels, which keeps the page small
LOW_INFORMATION = 0.1  # bits

Points = Sequence[Mapping[str, Any]]


def reward_curve(history: Points, measured_max: float | None, reward: str) -> str:
    """Draw mean optimised and held-out scores against oracle calls; rounds without a number are left out."""
    with styled_figure() as (figure, axes):
        for key, label, colour, style in (
            ("reward", "optimised oracle", "#0072b2", "-"),
            ("held_out", "held-out oracle", "#d55e00", "--"),
        ):
            x, y = _known(history, key)
            if x:
                axes.plot(x, y, style, color=colour, lw=2, label=label, marker="." if len(x) == 1 else None)
        _limit_line(axes.axhline, measured_max, axes.get_ylim())
        axes.set(xlabel="oracle calls", ylabel=reward)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
        return as_svg(figure, "reward", f"Round averages of {reward} by both oracles against oracle calls")


def kl_curve(history: Points) -> str:
    """Draw the KL to the base against oracle calls."""
    with styled_figure() as (figure, axes):
        x, y = _known(history, "kl")
        axes.plot(x, y, color="#0072b2", lw=2, marker="." if len(x) == 1 else None)
        axes.set(xlabel="oracle calls", ylabel="KL to base, nats")
        axes.set_ylim(bottom=min(0.0, *y))
        return as_svg(figure, "kl", "KL divergence from the base against oracle calls during tuning")


def screen_curve(history: Points) -> str:
    """Draw how the predictions of a screen rank with scores, on its own picks and on those at random."""
    with styled_figure() as (figure, axes):
        for key, label, colour, style in (
            ("screen/rank", "designs that it chose", "#0072b2", "-"),
            ("screen/rank_random", "designs at random", "#d55e00", "--"),
        ):
            x, y = _known(history, key)
            if x:
                axes.plot(x, y, style, color=colour, lw=2, label=label, marker="." if len(x) == 1 else None)
        axes.set(xlabel="oracle calls", ylabel="rank correlation")
        axes.set_ylim(top=1.0)
        axes.legend(loc="best")
        return as_svg(figure, "screen", "Rank correlation of predicted and true scores against oracle calls")


def distribution(
    scores: Mapping[str, Sequence[float]],
    measured_max: float | None,
    reward: str,
    oracle: str,
    span: tuple[float, float] | None = None,
) -> str:
    """Draw histograms of the scores of each row, with a dashed line at the largest measured value.

    Args:
        scores: row name -> `(B,)`; scores that are not finite are left out.
        measured_max: or None.
        reward: name of the axis.
        oracle: "optimised" or "held-out", for the label.
        span: lowest and highest score that the axis shows, so that two figures compare; None fits the scores.
    """
    finite = {name: finite_scores(values) for name, values in scores.items()}
    pooled = [score for values in finite.values() for score in values]
    with styled_figure() as (figure, axes):
        if pooled:
            edges = np.histogram_bin_edges(pooled, bins=min(40, max(8, len(pooled) // 20)), range=span)
            for place, (name, values) in enumerate(finite.items()):
                colour = colour_of(name, place)
                part = np.histogram(values, edges)[0] / max(1, len(values))
                axes.stairs(part, edges, fill=True, color=colour, alpha=0.25)
                axes.stairs(part, edges, color=colour, lw=1.8, label=row_title(name))
        _limit_line(axes.axvline, measured_max, axes.get_xlim())
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left")
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.3g}%")
        axes.set(xlabel=f"{reward}, {oracle} oracle", ylabel="share of designs")
        alt = f"Histograms of {reward} by the {oracle} oracle for {', '.join(map(row_title, finite))}"
        return as_svg(figure, f"scores-{oracle}", alt)


def finite_scores(scores: Sequence[float]) -> list[float]:
    """Return the scores that have a place on an axis."""
    return [float(score) for score in scores if math.isfinite(score)]


def frontier(points: Points, rows: Points, reward: str) -> str:
    """Draw held-out score against KL to the base: runs over alpha as a line, panel rows as marks.

    Args:
        points: mappings with label, kl, held_out and alpha.
        rows: panel rows; those without a KL or a held-out median are left out.
        reward: name of the axis.
    """
    with styled_figure() as (figure, axes):
        line = sorted((p for p in points if p["kl"] is not None and p["held_out"] is not None), key=lambda p: p["kl"])
        if line:
            x, y = [p["kl"] for p in line], [p["held_out"] for p in line]
            axes.plot(x, y, "-o", color="#56b4e9", lw=1.8, ms=5, label="runs over α")
            for point in line:
                _annotate(axes, str(point["label"]), point["kl"], point["held_out"])
        for place, row in enumerate(frontier_rows(rows)):
            name, colour = str(row["name"]), colour_of(str(row["name"]), place)
            x, y = row["kl_policy_base"], row["held_out"]["median"]
            axes.plot([x], [y], "D", color=colour, ms=9, mec="white", mew=1, label=row_title(name), ls="none")
        axes.set(xlabel="KL to base, nats (further from natural →)", ylabel=f"{reward}, held-out")
        axes.margins(0.1, 0.14)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")
        return as_svg(figure, "frontier", f"Held-out {reward} against KL to the base: the frontier")


def frontier_rows(rows: Points) -> list[Mapping[str, Any]]:
    """Return the panel rows that have a place on the frontier: a KL to the base and a held-out median."""
    return [
        row
        for row in rows
        if row.get("kl_policy_base") is not None and (row.get("held_out") or {}).get("median") is not None
    ]


def information(sequences: Sequence[str], letters: str) -> np.ndarray:
    """Return letter heights in bits `(L, len(letters))`: frequency times log2(V) minus the column's entropy.

    Schneider and Stephens 1990, without the correction for small samples. `sequences` are of one length; where only a
    part of them has a letter, and the rest the "-" of shorter designs, the heights are multiplied by that part.
    """
    codes = np.array([list(sequence) for sequence in sequences])
    share = np.stack([(codes == letter).mean(0) for letter in letters], axis=1)
    present = share.sum(1, keepdims=True)
    frequency = np.divide(share, present, out=np.zeros_like(share), where=present > 0)
    logs = np.log2(frequency, out=np.zeros_like(frequency), where=frequency > 0)
    return share * (np.log2(len(letters)) + (frequency * logs).sum(1, keepdims=True))


def logo(heights: np.ndarray, letters: str, top: float, title: str, fixed: Sequence[bool] | None = None) -> str:
    """Draw a sequence logo.

    Args:
        heights: bits `(L, V)`, from `information`.
        letters: the V letters.
        top: upper end of the axis, bits; two logos to be compared share it.
        title: what the sequences are.
        fixed: `(L,)`, positions to shade.
    """
    from matplotlib.patches import PathPatch

    length = len(heights)
    # letters too low to be seen would still cost an outline each
    visible = np.where(heights < 0.004 * top, 0.0, heights)
    with styled_figure((min(40.0, max(6.0, 0.21 * length + 0.8)), 1.75)) as (figure, axes):
        axes.grid(False)
        colours = letter_colours(letters)
        # ticks and labels lie above 0: they stay text
        axes.set_rasterization_zorder(0 if length > _LONG_LOGO else None)
        for letter, outline in stacked(visible, letters).items():
            glyphs = PathPatch(outline, facecolor=colours[letter][0], linewidth=0, zorder=-1)
            glyphs.set_in_layout(False)  # the axes hold them: their many corners need not be measured
            axes.add_artist(glyphs)
        for place, held in enumerate(fixed or ()):
            if held:
                axes.axvspan(place + 0.5, place + 1.5, color="#e3e6ec", zorder=-2)
        axes.set(ylim=(0, top), xlim=(0.4, length + 0.6), ylabel="bits", xlabel="position")
        axes.set_xticks([1, *range(10, length + 1, 10 if length <= 200 else 50)])
        peak = heights.sum(1).max()
        alt = f"Sequence logo of {title}; the most conserved position carries {peak:.2f} bits"
        return as_svg(figure, f"logo-{title}", alt)


def letter_colours(letters: str) -> dict[str, tuple[str, str]]:
    """Return for each letter a strong colour, for glyphs, and a pale one, for backgrounds under dark text."""
    if set(letters) <= set("ACGTU"):
        groups = {"A": 0, "C": 1, "G": 2, "T": 3, "U": 3}
    elif set(letters) <= set("ACDEFGHIKLMNPQRSTVWY"):
        chemistry = ("AILMVC", "DE", "FWY", "KRH", "STNQ", "GP")
        groups = {letter: number for number, group in enumerate(chemistry) for letter in group}
    else:
        groups = {letter: number for number, letter in enumerate(letters)}
    strong = ("#00855f", "#0072b2", "#c77700", "#c4451c", "#a3578a", "#5c6470")
    pale = ("#cdeee2", "#cfe5f6", "#fde7bf", "#fbd5c5", "#f3dcea", "#e4e7ec")
    return {letter: (strong[groups[letter] % 6], pale[groups[letter] % 6]) for letter in letters}


@contextmanager
def styled_figure(size: tuple[float, float] = _PANEL_SIZE) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure and its axes in the page's style, which holds until the figure is written."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.add_subplot()


def as_svg(figure: Figure, name: str, alt: str) -> str:
    """Return the figure as an SVG element that can stand inside a page and be read aloud."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    nothing: dict[Any, None] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)  # the page shines through
    figure.dpi = 160  # of what is drawn as pixels
    # the salt keeps the names of clip paths apart where several figures share one page
    with matplotlib.rc_context({"svg.hashsalt": f"biotilt-{name}"}):
        FigureCanvasSVG(figure).print_svg(out, metadata=nothing)  # `savefig` would draw everything twice
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r' d="([^"]*)"', lambda match: f' d="{_shorter(match.group(1))}"', text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)


def _shorter(path: str) -> str:
    rounded = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match.group()):.1f}".removesuffix(".0"), path)
    return " ".join(rounded.split())


def _known(history: Points, key: str) -> tuple[list[float], list[float]]:
    pairs = [(point.get("calls"), point.get(key)) for point in history]
    known = [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(y)]
    return [x for x, _ in known], [y for _, y in known]


def colour_of(name: str, place: int) -> str:
    """Return the colour of a row of the panel; of one without a colour of its own, by its place."""
    return ROW_COLOURS.get(name, _SPARE_COLOURS[place % len(_SPARE_COLOURS)])


def _limit_line(draw: Any, limit: float | None, shown: tuple[float, float]) -> None:
    """Mark the largest measured value, unless it is so far off that it would squeeze the data."""
    low, high = shown
    if limit is not None and low - (high - low) <= limit <= high + (high - low):
        draw(limit, color=_LIMIT_COLOUR, ls=":", lw=1.8, label="largest value measured")


def _annotate(axes: Axes, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), (6, -13), textcoords="offset points", fontsize=9.5, color="#50555e")
