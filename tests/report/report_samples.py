"""Made-up runs for the tests of the report."""

from __future__ import annotations

from typing import Any

from biotilt.report import ReportData


def make_row(name: str, median: float, **changes: Any) -> dict[str, Any]:
    """Return a panel row whose held-out median is `median`, with other numbers changed by key."""
    scores = {"median": median, "p5": median - 1, "p95": median + 1, "mean": median}
    return {
        "name": name,
        "n": 4,
        "unscored": 0,
        "infeasible": 0,
        "optimised": scores | {"median": median + 0.5},
        "held_out": scores,
        "gap": 0.5,
        "beyond_measured": 0.0,
        "unique": 1.0,
        "distance": 36.9,
        "closest": 12,
        "kmer3": 0.91,
        "loglik_base": -68.25,
        "kl_policy_base": 2.0,
        "kl_base_policy": None,
        "calls": 2048,
        "seconds": 200.0,
    } | changes


def make_report(**changes: Any) -> ReportData:
    """Return a small run with every section filled, fields changed by name."""
    base, tuned = ["ACGU", "AAGU", "CCGU", "ACCA"], ["ACGG", "ACGC", "ACCG", "AUGG"]
    arguments: dict[str, Any] = {
        "title": "Better leaders",
        "task": "utr",
        "objective": "vidd",
        "alpha": 0.3,
        "seed": 7,
        "rows": [
            make_row("base", 6.25, calls=0, kl_policy_base=0.0, kl_base_policy=0.0),
            make_row("best_of_n", 7.0, kl_policy_base=None),
            make_row("tuned", 7.5),
        ],
        "letters": "ACGU",
        "reward": "mean ribosome load",
        "checks": {
            "made": [{"check": "a first check", "fired": {}}, {"check": "a second check", "fired": {}}],
            "not_possible": [{"check": "a third check", "because": "there is no judge", "to_get": "add one"}],
        },
        "verdict": {
            "headline": "Tuned won.",
            "sentences": ["It is ahead."],
            "tone": "good",
            "winner": "tuned",
            "by": "held_out",
        },
        "history": [
            {"calls": 64, "reward": 6.5, "held_out": 6.2, "kl": 0.1, "seconds": 5.0},
            {"calls": 128, "reward": float("nan"), "held_out": None, "kl": None, "seconds": 10.0},
            {"calls": 192, "reward": 7.5, "held_out": 7.0, "kl": 1.0, "seconds": 15.0},
        ],
        "scores": {
            "base": ([6.0, 6.5, float("nan"), float("-inf")], [5.0, 6.0, 7.0, 8.0]),
            "tuned": ([8.0, 8.1, 8.2, 8.3], [7.4, 7.5, 7.5, 7.6]),
        },
        "top": [("ACGG", 8.3, 7.6), ("AUGG", 8.2, None)],
        "base_sequences": base,
        "tuned_sequences": tuned,
        "frontier": [{"label": "α = 1", "kl": 0.5, "held_out": 6.6, "alpha": 1.0}],
        "measured_max": 8.95,
        "commands": ["biotilt demo --seed 7", "biotilt evaluate runs/demo && echo 'done'"],
        "versions": {"biotilt": "0.1.0"},
        "notes": ["Sample et al. 2019 (https://doi.org/10.1038/s41587-019-0164-5)."],
    }
    return ReportData(**(arguments | changes))
