"""What the panel of `utr_varying` adds: lengths, start codons before the gene's own, and composition."""

from __future__ import annotations

import statistics
from pathlib import Path

from biotilt.evaluation.measure import Limit, Measure
from biotilt.files import read_json

SHORTEST = 25  # what was measured; the longest is 100, which no design exceeds


def measures() -> list[Measure]:
    """Return the measures; each is None where no design has a letter."""
    real = read_json(Path(__file__).parent / "generator.json")["metrics"]
    return [
        Measure(
            "length",
            "Mean length",
            f"Letters, on average. Real 5′UTRs here: {real['length_real']:.1f}; their most translated tenth: "
            f"{real['length_high']:.1f}.",
            lambda designs: statistics.fmean(map(len, designs)) if any(designs) else None,
            lambda designs: list(map(len, designs)),
        ),
        Measure(
            "length_sd",
            "Spread of lengths",
            f"Standard deviation of the lengths. Real 5′UTRs here: {real['length_sd_real']:.1f}. A small one means "
            "that tuning settled on one length.",
            lambda designs: statistics.pstdev(map(len, designs)) if any(designs) else None,
            limit=Limit(kept=0.5),
        ),
        Measure(
            "measured_lengths",
            "Of 25 to 100 letters",
            "Share of designs as long as those that were measured; of shorter ones the oracles know nothing.",
            lambda designs: statistics.fmean(len(d) >= SHORTEST for d in designs) if any(designs) else None,
            limit=Limit(fall=0.05),
        ),
        Measure(
            "upstream_aug",
            "With an upstream AUG",
            "Share of designs with a start codon before the gene's own, which lowers its translation. Low is good.",
            lambda designs: statistics.fmean("ATG" in d for d in designs) if any(designs) else None,
            lambda designs: ["ATG" in design for design in designs],
            limit=Limit(rise=0.1),
        ),
        Measure(
            "gc",
            "GC fraction",
            f"Share of G and C. Real 5′UTRs here: {real['gc_real']:.2f}; their most translated tenth: "
            f"{real['gc_high']:.2f}.",
            lambda designs: _gc(designs) if any(designs) else None,
            lambda designs: [_gc([design]) if design else None for design in designs],
            limit=Limit(fall=0.1, rise=0.1),
        ),
    ]


def _gc(designs: list[str]) -> float:
    return sum(d.count("G") + d.count("C") for d in designs) / sum(map(len, designs))
