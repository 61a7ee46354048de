"""The summary of a run in words for a reader who has never heard of diffusion models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from biotilt.report.columns import duration, number
from biotilt.report.data import ReportData


def plain_summary(data: ReportData) -> list[str]:
    """Return sentences: what was tuned, what came out, how it compares, what it cost."""
    tuned = data.row("tuned")
    opening = (
        f"A generator of sequences (task {data.task}) was tuned with {data.objective.upper()} to make designs "
        f"with a higher {data.reward}, while staying close to the sequences it had learned from."
    )
    if tuned is None:
        return [opening, "This run has no tuned designs to report."]
    judged = [_outcome(tuned), *_comparisons(data, tuned)] if tuned["held_out"] else [_unjudged(tuned)]
    return [opening, *judged, _cost(tuned)]


def _outcome(tuned: Mapping[str, Any]) -> str:
    return (
        f"A typical tuned design is predicted to reach {number(tuned['held_out']['median'])} by a held-out "
        "oracle, a second predictor that tuning never saw."
    )


def _unjudged(tuned: Mapping[str, Any]) -> str:
    return (
        f"A typical tuned design is predicted to reach {number(tuned['optimised']['median'])} by the oracle that was "
        "optimised. There is no held-out oracle, so nothing here tells a real gain from an exploited predictor."
    )


def _comparisons(data: ReportData, tuned: Mapping[str, Any]) -> list[str]:
    sentences = []
    base, best = data.row("base"), data.row("best_of_n")
    if base is not None and base["held_out"]:
        text = _difference(tuned, base, f"designs of the untuned generator ({_median(base)})")
        above = _share_below(data, tuned["held_out"]["median"])
        if above is not None:
            text += f", and better than {above} of them"
        sentences.append(text + ".")
    if best is not None and best["held_out"]:
        text = _difference(tuned, best, f"simply keeping the best of many untuned designs ({_median(best)})")
        price = "at the same number of oracle calls" if best["calls"] == tuned["calls"] else ""
        price = price or f"which took {number(best['calls'], 0)} oracle calls"
        sentences.append(f"{text}, {price}.")
    return sentences


def _difference(tuned: Mapping[str, Any], other: Mapping[str, Any], what: str) -> str:
    mine, theirs = tuned["held_out"]["median"], other["held_out"]["median"]
    if mine is None or theirs is None:
        return f"It cannot be compared to {what}, because a median is missing"
    change = round(mine - theirs, 2)
    if change == 0:
        return f"That is no better than {what}"
    return f"That is {number(abs(change))} {'above' if change > 0 else 'below'} {what}"


def _share_below(data: ReportData, median: float | None) -> str | None:
    held_out = data.scores.get("base", ((), None))[1]
    if held_out is None or median is None:
        return None
    scored = [score for score in held_out if not math.isnan(score)]
    if not scored:
        return None
    share = sum(score < median for score in scored) / len(scored)
    # rounded down, so that "100%" is said only of all
    return f"{math.floor(100 * share)}%"


def _median(row: Mapping[str, Any]) -> str:
    return f"median {number(row['held_out']['median'])}"


def _cost(tuned: Mapping[str, Any]) -> str:
    return f"Tuning cost {number(tuned['calls'], 0)} oracle calls and {duration(tuned['seconds'])}."
