"""What the panel of `enhancer` adds: motifs as in the most active real elements, composition, and cell specificity."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from biotilt.evaluation.measure import Limit, Measure, Values
from biotilt.evaluation.metrics import kmer_correlation
from biotilt.files import read_json
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.tasks.enhancer.motifs import motif_hits, shipped_matrices

FOLDER = Path(__file__).parent
LENGTH = 200


def measures() -> list[Measure]:
    """Return the measures; each is None for designs that are not DNA of 200 letters."""
    real = _card()["most_active"]
    return [
        Measure(
            "motif_r",
            "JASPAR motif r",
            "Correlation of how often the motifs of 95 transcription factors occur (word chance ≤ 1e-4, both strands) "
            "with the most active tenth of real HepG2 elements. Near 1: motifs are used as nature does.",
            _for_elements(motif_correlation),
            limit=Limit(fall=0.15),
            natural=True,
        ),
        Measure(
            "wtc11",
            "WTC11, held-out",
            "Mean activity in another cell type, stem cells, predicted by an oracle that shares no element with the "
            f"optimised one. Real elements active in HepG2: {real['wtc11']:.2f}. Low is specific to liver cells.",
            _for_elements(lambda designs: _mean("wtc11_held_out", designs)),
            _each(lambda designs: _oracle("wtc11_held_out")(designs)),
        ),
        Measure(
            "contrast",
            "HepG2 - WTC11, held-out",
            "Difference of the held-out predictions of the two cell types, each log2 RNA/DNA of its own assay: compare "
            f"it with other rows only. Real elements active in HepG2: {real['contrast']:.2f}. High: specific.",
            _for_elements(lambda designs: _mean("held_out", designs) - _mean("wtc11_held_out", designs)),
        ),
        Measure(
            "gc",
            "GC fraction",
            f"Share of G and C. Most active real elements: {real['gc']:.2f}; all: {real['gc_all']:.2f}.",
            _for_elements(gc_fraction),
            _each(lambda designs: [gc_fraction([design]) for design in designs]),
            limit=Limit(fall=0.1, rise=0.1),
        ),
        Measure(
            "cpg",
            "CpG observed/expected",
            f"How often CG occurs against its letters' frequencies. Most active real elements: {real['cpg']:.2f}; all: "
            f"{real['cpg_all']:.2f}. High values are those of CpG islands, which cells may methylate.",
            _for_elements(cpg_ratio),
            _each(lambda designs: [cpg_ratio([design]) for design in designs]),
            limit=Limit(grown=1.5),
        ),
    ]


def motif_correlation(designs: list[str]) -> float:
    """Return Pearson's r of motif hits a design with those of the most active real elements."""
    hits = motif_hits(designs, shipped_matrices())
    return kmer_correlation(hits, np.array(_card()["motif_hits_high"]))


def gc_fraction(designs: list[str]) -> float:
    """Return the share of G and C in all designs together."""
    return sum(d.count("G") + d.count("C") for d in designs) / sum(map(len, designs))


def cpg_ratio(designs: list[str]) -> float | None:
    """Return CpG observed over expected (Gardiner-Garden and Frommer 1987) of all designs together.

    >>> cpg_ratio(["CGAA"])  # one CG; expected 1 * 1 / 4
    4.0
    """
    cytosines, guanines = (sum(d.count(letter) for d in designs) for letter in "CG")
    if not cytosines * guanines:
        return None
    return sum(d.count("CG") for d in designs) * sum(map(len, designs)) / (cytosines * guanines)


def _for_elements(compute: Callable[[list[str]], float | None]) -> Callable[[list[str]], float | None]:
    def measure(designs: list[str]) -> float | None:
        fit = designs and all(len(design) == LENGTH and not set(design) - set("ACGT") for design in designs)
        return compute(designs) if fit else None

    return measure


def _each(compute: Callable[[list[str]], Values]) -> Callable[[list[str]], Values]:
    """Return the numbers of single designs; None for those that are not DNA of 200 letters."""

    def measure(designs: list[str]) -> Values:
        fit = [len(design) == LENGTH and not set(design) - set("ACGT") for design in designs]
        found = iter(compute([design for design, good in zip(designs, fit) if good]) if any(fit) else [])
        return [next(found) if good else None for good in fit]

    return measure


def _mean(oracle: str, designs: list[str]) -> float:
    return float(np.mean(_oracle(oracle)(designs)))


@lru_cache(maxsize=2)
def _oracle(name: str) -> LearnedReward:
    return LearnedReward.load(FOLDER / f"{name}.safetensors")


@lru_cache(maxsize=1)
def _card() -> dict[str, Any]:
    return read_json(FOLDER / "generator.json")
