"""How good a set of designs is, and whether the score that says so can be believed."""

from biotilt.evaluation.checks import made_and_not, warnings
from biotilt.evaluation.compare import Run, added_measures, aggregate, comparison, load_run, load_runs
from biotilt.evaluation.judged import Judged, Reference
from biotilt.evaluation.likelihood import LogLikelihood, likelihood, log_likelihood
from biotilt.evaluation.metrics import (
    as_array,
    beyond,
    bootstrap_interval,
    kmer_correlation,
    kmer_counts,
    summary,
    unique_fraction,
)
from biotilt.evaluation.panel import panel
from biotilt.evaluation.verdict import difference_of_medians, verdict_of

__all__ = [
    "Judged",
    "LogLikelihood",
    "Reference",
    "Run",
    "added_measures",
    "aggregate",
    "as_array",
    "beyond",
    "bootstrap_interval",
    "comparison",
    "difference_of_medians",
    "kmer_correlation",
    "kmer_counts",
    "likelihood",
    "load_run",
    "load_runs",
    "log_likelihood",
    "made_and_not",
    "panel",
    "summary",
    "unique_fraction",
    "verdict_of",
    "warnings",
]
