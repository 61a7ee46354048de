"""What the panel shows of proteins, and a picture of their predicted secondary structure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

from biotilt.errors import ConfigError
from biotilt.evaluation.measure import Limit, Measure, Values
from biotilt.files import read_json
from biotilt.rewards.protein.properties import Gravy, Instability, IsoelectricPoint
from biotilt.rewards.protein.secondary import SecondaryStructure, load_predictor
from biotilt.tasks.protein import metrics

SHORTEST = 50  # residues: natural sequences of the task are not shorter
_WIDTH, _HEIGHT = 600, 22  # of a picture
_COLOURS = {"H": "#c05b4d", "E": "#4d7fc0", "C": "#dddddd"}

Compute = Callable[[list[str]], float | None]


def measures() -> list[Measure]:
    """Return the measures that the task adds to the panel; each tells its value for natural proteins."""
    return [
        Measure(
            key,
            header,
            f"{meaning} Natural proteins: {_as_text(natural().get(key))}.",
            compute,
            _EACH.get(key),
            _LIMITS.get(key),
            natural=key == "composition_r",
        )
        for key, header, meaning, compute in MEASURES
    ]


@cache
def reference() -> metrics.Reference:
    """Return what the generator's training sequences look like."""
    return metrics.Reference.load(Path(__file__).parent / "reference.safetensors")


@cache
def natural() -> dict[str, float]:
    """Return the measures of natural proteins that the generator never saw, as the recipe found them."""
    return read_json(Path(__file__).parent / "generator.json")["natural"]


def _as_text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _mean(reward: Callable[[list[str]], list[float]]) -> Compute:
    def compute(designs: list[str]) -> float | None:
        scores = [score for score in reward(designs) if not math.isnan(score)]
        return statistics.fmean(scores) if scores else None

    return compute


def _mean_of(kind: Callable[[], Callable[[list[str]], list[float]]]) -> Compute:
    """Return the mean of a property of Biopython's; a gap in the panel where the package is not there."""

    def compute(designs: list[str]) -> float | None:
        try:
            return _mean(kind())(designs)
        except ConfigError:
            return None

    return compute


def _less(score: float | None) -> float | None:
    """Return the instability index itself: the reward is minus it."""
    return None if score is None else -score


def _length_range(designs: list[str]) -> float | None:
    lengths = sorted(map(len, designs))
    if not lengths:
        return None
    last = len(lengths) - 1
    return float(lengths[round(0.95 * last)] - lengths[round(0.05 * last)])


def _length_mean(designs: list[str]) -> float | None:
    return statistics.fmean(map(len, designs)) if designs else None


def _short(designs: list[str]) -> float | None:
    return sum(len(design) < SHORTEST for design in designs) / len(designs) if designs else None


def _entropy(designs: list[str]) -> float | None:
    return statistics.fmean(map(metrics.sequence_entropy, designs)) if designs else None


def _judged(which: Literal["H", "E"]) -> Compute:
    return lambda designs: _mean(SecondaryStructure(which, "held_out"))(designs)


MEASURES: list[tuple[str, str, str, Compute]] = [
    ("strands", "strands, held out",
     "Mean share of residues that the held-out predictor sees in β-strands.", _judged("E")),
    ("helices", "helices, held out",
     "Mean share of residues that the held-out predictor sees in helices.", _judged("H")),
    ("instability", "instability",
     "Mean instability index (Guruprasad et al. 1990); below 40 counts as stable.",
     lambda designs: _less(_mean_of(Instability)(designs))),
    ("gravy", "GRAVY", "Mean hydropathy (Kyte and Doolittle); much above 0 is a sign of insoluble designs.",
     _mean_of(Gravy)),
    ("pi", "pI", "Mean isoelectric point.", _mean_of(IsoelectricPoint)),
    ("length", "length", "Mean number of residues.", _length_mean),
    ("length_range", "lengths, p95 − p5", "Residues between the 5 % shortest and the 5 % longest.", _length_range),
    ("short", "below 50", f"Share of designs below {SHORTEST} residues, shorter than any the generator saw.", _short),
    ("composition_r", "composition r",
     "Correlation of the shares of the 20 residues with those of natural proteins; higher is better.",
     lambda designs: metrics.composition_correlation(designs, reference())),
    ("pair_r", "2-mer r", "The same of the 400 pairs of neighbours.",
     lambda designs: metrics.pair_correlation(designs, reference())),
    ("entropy", "entropy", "Mean entropy of a design's composition, bits; low where few kinds of residue are left.",
     _entropy),
    ("homopolymers", "runs of 6", "Share of designs with six or more of one residue in a row; lower is better.",
     metrics.homopolymer_fraction),
    ("known_words", "known 6-mers",
     "Share of words of six residues that stand in the training sequences: 1 for copies of them.",
     lambda designs: metrics.known_words_fraction(designs, reference())),
]  # fmt: skip


def _each(kind: Callable[[], Callable[[list[str]], list[float]]], sign: float = 1.0) -> Callable[[list[str]], Values]:
    def compute(designs: list[str]) -> Values:
        try:
            return [None if math.isnan(score) else sign * score for score in kind()(designs)]
        except ConfigError:  # the package is not there
            return [None] * len(designs)

    return compute


_EACH: dict[str, Callable[[list[str]], Values]] = {
    "strands": _each(lambda: SecondaryStructure("E", "held_out")),
    "helices": _each(lambda: SecondaryStructure("H", "held_out")),
    "instability": _each(Instability, -1.0),
    "gravy": _each(Gravy),
    "pi": _each(IsoelectricPoint),
    "length": lambda designs: list(map(len, designs)),
    "entropy": lambda designs: [metrics.sequence_entropy(design) if design else None for design in designs],
}
# Judgements, far outside what two draws of the base differ by: proteins in the benchmarks that lost their composition
# (r 1.00 to 0.69) did it under all common checks.
_LIMITS = {
    "composition_r": Limit(fall=0.1),
    "pair_r": Limit(fall=0.15),
    "entropy": Limit(kept=0.9),
    "short": Limit(rise=0.1),
    "homopolymers": Limit(rise=0.1),
    "gravy": Limit(rise=0.5),
    "known_words": Limit(rise=0.2),
}


def pictures(designs: list[str]) -> list[str]:
    """Return a strip (SVG) of each design: helices red, strands blue, coil grey, as the held-out predictor says."""
    full = iter(load_predictor("held_out").predict([design for design in designs if design]))
    return [_strip(next(full)) if design else _strip("") for design in designs]


def _strip(classes: str) -> str:
    step = _WIDTH / max(len(classes), 1)
    parts = [
        f'<rect x="{place * step:.1f}" y="0" width="{step + 0.3:.1f}" height="{_HEIGHT}" fill="{_COLOURS[letter]}"/>'
        for place, letter in enumerate(classes)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="predicted secondary structure">{"".join(parts)}</svg>'
    )
