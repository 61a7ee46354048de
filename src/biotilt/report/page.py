"""One self-contained HTML page a run: no script, no network, every figure inside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from biotilt.digits import count, duration, percent, pretty
from biotilt.errors import Problems
from biotilt.evaluation.binding import asked, binding_words
from biotilt.evaluation.common import columns
from biotilt.files import write_text
from biotilt.report import figures
from biotilt.report.data import ReportData
from biotilt.report.front import front_caption, front_plot
from biotilt.report.shown import row_title
from biotilt.report.terminal import best_row
from biotilt.report.took import COSTS, Curves, costs_known, took_curve, took_lines
from biotilt.report.words import plain_summary

# ends before the full stop or bracket of the sentence around the address
_LINK = re.compile(r"(https?://[^\s<>\"]*[^\s<>\".,;)])")

_LOGO_PIXELS = 15  # a position: the width of a letter that can be read


@dataclass(frozen=True)
class Figure:
    """An SVG and its caption; narrower than `min_width` pixels it scrolls inside its box."""

    svg: str
    caption: str
    min_width: int = 0


@dataclass(frozen=True)
class Piece:
    """A run of one letter in a design: the class that colours it, its text, and whether it was held fixed."""

    style: str
    text: str
    fixed: bool


def render_report(run: ReportData, path: Path) -> None:
    """Write the page of `run` to `path`, whole or not at all.

    Raises:
        BiotiltError: the file cannot be written.
    """
    write_text(path, report_html(run))


def report_html(run: ReportData) -> str:
    """Return the page of `run` as text; the same text for the same run."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(part_of_page("template.html"))
    problems = run.problems if isinstance(run.problems, Problems) else Problems(run.problems)
    by, panel = str(run.verdict.get("by", "held_out")), columns(run.columns)
    drawn = {
        "curves": problems.attempt("the curves of tuning", [], lambda: curves(run)),
        "took": problems.attempt("the curves of what it took", [], lambda: _took(run)),
        "distributions": problems.attempt("the histograms of scores", [], lambda: distributions(run)),
        "logos": problems.attempt("the logos", [], lambda: _logos(run)),
        "frontier": problems.attempt("the figure of scores and KL", None, lambda: _frontier(run)),
        "front": problems.attempt("the figure of the Pareto fronts", None, lambda: _front(run)),
    }
    return template.render(
        **drawn,
        style=Markup(part_of_page("style.css")),
        problems=problems,  # read after the figures were tried
        run=run,
        summary=plain_summary(run),
        levels=list(took_lines(run.took)) if run.took else [],
        columns=panel,
        filled=[measure for measure in panel if any(measure.of(row) is not None for row in run.rows)],
        by=by,
        best=best_row(run.rows, run.verdict, run.better),
        scales=_scales(run.rows, by),
        colours=figures.ROW_COLOURS,
        letters=figures.letter_colours(run.letters),
        top=[(_pieces(design, run), optimised, held_out) for design, optimised, held_out in run.top],
        note_parts=[_note_parts(note) for note in run.notes],
        pretty=pretty,
        count=count,
        percent=percent,
        duration=duration,
        row_title=row_title,
        asked=asked,
        binding=binding_words(run.constraints, run.rows),
        svg=Markup,
    )


def part_of_page(name: str) -> str:
    """Return a template, or the style, that ships with biotilt."""
    return files("biotilt.report").joinpath(name).read_text(encoding="utf-8")


def curves(run: ReportData) -> list[Figure]:
    """Return the figures of tuning, round by round."""
    if not run.history:
        return []
    limit = "" if run.measured_max is None else f" The largest value ever measured is {pretty(run.measured_max)}."
    found = [
        Figure(
            figures.reward_curve(run.history, run.measured_max, run.reward),
            f"Mean {run.reward} of the designs drawn in each round; {run.better} is better. Where there are two lines, "
            "both should improve together; when only the optimised one does, the oracle is being exploited." + limit,
        )
    ]
    if any(point.get("kl") is not None for point in run.history):
        found.append(
            Figure(
                figures.kl_curve(run.history),
                "How far the tuned generator has moved from the base. Levelling off means that tuning has settled.",
            )
        )
    if any(point.get("screen/rank") is not None for point in run.history):
        found.append(
            Figure(
                figures.screen_curve(run.history),
                "How well the screen, which chooses the designs to score, ranks them: 1 is perfect, 0 is chance. "
                "Its own picks are alike in what it predicts, so their line is the lower one.",
            )
        )
    return found


def _took(run: ReportData) -> list[Figure]:
    """Return the scores reached against each cost; nothing where no round had any."""
    if not run.took:
        return []
    return [
        Figure(
            took_curve([Curves("", run.took)], cost, run.reward, run.took["levels"]),
            f"The {run.reward} reached, by the optimised reward, against {COSTS[cost]}. Dotted: levels of the table.",
        )
        for cost in costs_known([run.took])
    ]


def distributions(run: ReportData) -> list[Figure]:
    """Return the histograms of the scores of all rows, one an oracle."""
    optimised = {name: scores[0] for name, scores in run.scores.items()}
    held_out = {name: scores[1] for name, scores in run.scores.items() if scores[1] is not None}
    every = [s for scores in (*optimised.values(), *held_out.values()) for s in figures.finite_scores(scores)]
    span = (min(every), max(every)) if every else None
    line = "" if run.measured_max is None else f" Largest value ever measured: {pretty(run.measured_max)}."
    return [
        Figure(figures.distribution(scores, run.measured_max, run.reward, oracle, span), caption + line)
        for scores, oracle, caption in (
            (optimised, "optimised", "Scores by the oracle that was optimised."),
            (held_out, "held-out", "Scores by the held-out oracle, which tuning never saw."),
        )
        if scores
    ]


def _logos(run: ReportData) -> list[Figure]:
    made = "steered designs" if run.row("steered") else "tuned designs"
    sets = {"untuned designs (base)": run.base_sequences, made: run.tuned_sequences}
    if not run.letters or any(len({len(s) for s in sequences}) != 1 for sequences in sets.values()):
        return []
    heights = {title: figures.information(sequences, run.letters) for title, sequences in sets.items()}
    peaks = {title: float(bits.sum(1).max()) for title, bits in heights.items()}
    top = max(*peaks.values(), figures.LOW_INFORMATION / 2) * 1.05
    found = []
    for title, bits in heights.items():
        caption = f"{title[:1].upper()}{title[1:]}: the most conserved position carries {peaks[title]:.2f} bits."
        if peaks[title] < figures.LOW_INFORMATION:
            caption += f" All positions are below {figures.LOW_INFORMATION:g} bits: none prefers a letter strongly."
        if run.fixed is not None and any(run.fixed):
            caption += " Shaded positions were held fixed."
        svg = figures.logo(bits, run.letters, top, title, run.fixed)
        found.append(Figure(svg, caption, min_width=_LOGO_PIXELS * len(bits)))
    return found


def _frontier(run: ReportData) -> Figure | None:
    if not run.frontier and not figures.frontier_rows(run.rows):
        return None
    caption = (
        f"Held-out {run.reward} (median) against distance from the base. {run.better.capitalize()} at the same KL is "
        "better; a score bought with a much larger KL is not by itself an improvement."
    )
    if not run.frontier:
        caption += " Runs at other values of α would draw the whole frontier."
    return Figure(figures.frontier(run.frontier, run.rows, run.reward), caption)


def _front(run: ReportData) -> Figure | None:
    if not run.front:
        return None
    drawn = front_plot(run.components, run.front, directions=run.directions) if run.front["rows"] else ""
    return Figure(drawn, front_caption(run.front))


def _pieces(design: str, run: ReportData) -> list[Piece]:
    held = run.fixed if run.fixed is not None and len(run.fixed) == len(design) else [False] * len(design)
    letters = [
        (f"l{run.letters.index(letter)}" if letter in run.letters else "", bool(fixed), letter)
        for letter, fixed in zip(design, held)
    ]
    return [
        Piece(style, "".join(letter for *_, letter in group), fixed)
        for (style, fixed), group in groupby(letters, key=lambda item: item[:2])
    ]


def _scales(rows: Sequence[Mapping[str, Any]], by: str) -> dict[str, dict[str, float]]:
    """Return for each row the places, in percent of one axis for all, of p5, median and p95 of its scores `by`."""
    found = {str(row["name"]): row[by] for row in rows if row[by]}
    found = {
        name: {key: values[key] for key in ("p5", "median", "p95")}
        for name, values in found.items()
        if None not in (values["p5"], values["median"], values["p95"])
    }
    every = [value for values in found.values() for value in values.values()]
    if not every or max(every) == min(every):
        return {}
    low, width = min(every), max(every) - min(every)
    return {
        name: {key: round(100 * (value - low) / width, 1) for key, value in values.items()}
        for name, values in found.items()
    }


def _note_parts(note: str) -> list[tuple[str, bool]]:
    """Split a note into (text, is a link), so that the address in a citation can be followed by hand."""
    return [(text, place % 2 == 1) for place, text in enumerate(_LINK.split(note))]
