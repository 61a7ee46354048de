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
        f"A generator of sequences (task {data.task}) was tuned with {_spoken(data.objective)} to make "
        f"designs with a higher {data.reward}, while staying close to the sequences it had learned from."
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
        f"A typical tuned design is predicted to reach {number(tuned['optimised']['median'])} by the oracle "
        "that was optimised. There is no held-out oracle, so nothing here tells a real gain from an "
        "exploited predictor."
    )


def _comparisons(data: ReportData, tuned: Mapping[str, Any]) -> list[str]:
    mine, found = tuned["held_out"]["median"], []
    base, best = _held_out_median(data, "base"), _held_out_median(data, "best_of_n")
    if None not in (mine, base):
        above = _share_below(data, mine)
        share = f"; the typical tuned design scores above {above} of the untuned ones" if above else ""
        outcome = _words(mine - base, "tuning gained {}", "tuning lost {}", "tuning gained nothing")
        found.append(f"The untuned generator reaches {number(base)}, so {outcome}{share}.")
    if None not in (mine, best):
        outcome = _words(mine - best, "{} lower", "{} higher", "the same")
        price = _price(data, tuned)
        found.append(
            f"Keeping only the best of many untuned designs, {price}, reaches {number(best)}, which is {outcome}."
        )
    return found


def _held_out_median(data: ReportData, name: str) -> Any:
    row = data.row(name)
    return None if row is None or not row["held_out"] else row["held_out"]["median"]


def _words(change: float, up: str, down: str, same: str) -> str:
    shown = number(abs(change))
    return same if shown == number(0.0) else (up if change > 0 else down).format(shown)


def _price(data: ReportData, tuned: Mapping[str, Any]) -> str:
    best = data.row("best_of_n")
    if best is None or best["calls"] == tuned["calls"]:
        return "at the same number of oracle calls"
    return f"at {number(best['calls'], 0)} oracle calls"


def _share_below(data: ReportData, median: float) -> str | None:
    held_out = data.scores.get("base", ((), None))[1]
    if held_out is None:
        return None
    scored = [score for score in held_out if not math.isnan(score)]
    if not scored:
        return None
    share = sum(score < median for score in scored) / len(scored)
    # rounded down, so that "100%" is said only of all
    return f"{math.floor(100 * share)}%"


def _cost(tuned: Mapping[str, Any]) -> str:
    return f"Tuning cost {number(tuned['calls'], 0)} oracle calls and {duration(tuned['seconds'])}."


def _spoken(objective: str) -> str:
    """Return the name of an objective as prose has it: acronyms in capitals, words as words."""
    return objective.upper() if len(objective) <= 4 else objective.replace("_", " ")
