"""What the panel shows of RNAs made for a structure, and their pictures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

from biotilt.errors import ConfigError, needs_extra
from biotilt.evaluation.measure import Limit, Measure, Values
from biotilt.rewards.generic.base import NamedReward
from biotilt.rewards.rna.folding import EnsembleDefect, MFEMatch, TargetProbability, fold_compound
from biotilt.rewards.rna.properties import GCFraction
from biotilt.spaces.paired import partners_of

_COLOURS = {"A": "#5b8c3e", "C": "#3f72af", "G": "#c9872b", "U": "#b5485d"}
_WIDTH = 260  # of a picture, pixels


def measures(config: Any) -> list[Measure]:
    """Return the measures that the task adds to the panel of an experiment.

    Raises:
        ConfigError: the experiment has no `design.target`.
    """
    target = config.design.target
    if target is None:
        raise ConfigError('design.target is missing: the structure to fold into, for example target = "((((....))))"')
    matches, defect, probability = (
        MFEMatch(target=target),
        EnsembleDefect(target=target),
        TargetProbability(target=target),
    )

    def solved(score: float) -> float:
        return float(score == 1.0)

    return [
        Measure(
            "solved", "solved", "Share whose structure of least energy (Turner 2004) is the target.",
            _mean(matches, solved), _each(matches, solved),
        ),
        Measure(
            "defect", "defect",
            "Mean normalised ensemble defect (Turner 2004): the expected share of positions that are not as in the "
            "target; lower is better.",
            _mean(defect, lambda score: -score), _each(defect, lambda score: 0.0 - score),
        ),
        Measure(
            "probability", "p(target)", "Mean probability of the target at equilibrium (Turner 2004), 0 to 1.",
            _mean(probability, math.exp), _each(probability, math.exp),
        ),
        Measure(
            "solved_andronescu", "solved (A.)",
            "Share solved under the energies of Andronescu 2007: a gain that is lost here may be one of the energies "
            "alone.",
            _mean(MFEMatch(target=target, parameters="andronescu2007"), solved), limit=Limit(fall=0.1),
        ),
        Measure(
            "gc", "GC", "Mean share of G and C. Much above 0.6 means stems of G and C only.",
            _mean(GCFraction()), _each(GCFraction()), limit=Limit(fall=0.15, rise=0.15), natural=True,
        ),
    ]  # fmt: skip


def _mean(
    reward: NamedReward, of: Callable[[float], float] = lambda score: score
) -> Callable[[list[str]], float | None]:
    def compute(designs: list[str]) -> float | None:
        values = [of(score) for score in reward(designs) if not math.isnan(score)]
        return statistics.fmean(values) if values else None

    return compute


def _each(reward: NamedReward, of: Callable[[float], float] = lambda score: score) -> Callable[[list[str]], Values]:
    return lambda designs: [None if math.isnan(score) else of(score) for score in reward(designs)]


def pictures(designs: list[str]) -> list[str]:
    """Return a drawing (SVG) of each RNA in its structure of least energy (Turner 2004); empty for no RNA."""
    return [_drawing(design) if design and not set(design) - set("ACGU") else _svg("", 1, 1) for design in designs]


def _drawing(rna: str) -> str:
    structure, energy = fold_compound(rna, "turner2004").mfe()
    places = [(place.X, place.Y) for place in needs_extra("RNA", "rna").simple_xy_coordinates(structure)[: len(rna)]]
    left, top = min(x for x, _ in places) - 12, min(y for _, y in places) - 12
    places = [(x - left, y - top) for x, y in places]
    width, height = max(x for x, _ in places) + 12, max(y for _, y in places) + 30
    pairs = [(i, j) for i, j in enumerate(partners_of(structure)) if j > i]
    drawn = [_line(places[i], places[i + 1], "#999") for i in range(len(rna) - 1)]
    drawn += [_line(places[i], places[j], "#333") for i, j in pairs]
    for letter, (x, y) in zip(rna, places):
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{_COLOURS[letter]}"/>')
        drawn.append(
            f'<text x="{x:.1f}" y="{y + 3:.1f}" font-size="9" text-anchor="middle" fill="#fff">{letter}</text>'
        )
    drawn.append(f'<text x="4" y="{height - 6:.1f}" font-size="12">{energy:.1f} kcal/mol</text>')
    return _svg("".join(drawn), width, height)


def _line(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.5"/>'


def _svg(inside: str, width: float, height: float) -> str:
    tall = _WIDTH * height / width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{tall:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">{inside}</svg>'
    )
