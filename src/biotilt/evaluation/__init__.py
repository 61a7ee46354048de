"""How good a set of designs is, and whether the score that says so can be believed."""

from biotilt.evaluation.compare import Run, aggregate, comparison, load_run, load_runs
from biotilt.evaluation.metrics import (
    as_array,
    beyond,
    bootstrap_interval,
    kmer_correlation,
    kmer_counts,
    mean_pairwise_distance,
    summary,
    unique_fraction,
)
from biotilt.evaluation.panel import CHECKS, Reference, likelihood, panel, warnings

__all__ = [
    "CHECKS",
    "Reference",
    "Run",
    "aggregate",
    "as_array",
    "beyond",
    "bootstrap_interval",
    "comparison",
    "kmer_correlation",
    "kmer_counts",
    "likelihood",
    "load_run",
    "load_runs",
    "mean_pairwise_distance",
    "panel",
    "summary",
    "unique_fraction",
    "warnings",
]
