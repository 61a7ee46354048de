"""When a run of which no design, or too few, can be used has to end, and what to say of it."""

from __future__ import annotations

import math

from biotilt.oracle.ledger import Ledger

FIRST_BATCH = 16  # a first batch of at least so many designs, none of which can be scored, ends the run
HOPELESS = 2.0**-16  # how likely as many failures as end a run may be, where `max_unscored` of the designs fail
MOST_FAILURES = 64  # that a run goes on with, none scored, however many are allowed
PART_OF_BUDGET = 0.1  # that may go to infeasible designs: they are answers, and the first feasible one may be rare


def enough_failures(max_unscored: float, patience: int) -> int:
    """Return after how many calls a run ends when none gave a score, 16 to 64, and no more than `patience`.

    >>> [enough_failures(part, 256) for part in (0.0, 0.5, 0.75, 0.9, 1.0)]
    [16, 16, 39, 64, 64]
    """
    allowed = min(max(max_unscored, 0.01), 0.99)
    calls = math.ceil(math.log(HOPELESS) / math.log(allowed))
    return min(patience, max(FIRST_BATCH, calls), MOST_FAILURES)


def enough_infeasible(max_calls: int | None, patience: int) -> float:
    """Return after how many calls a run ends when none gave a finite score; judging, without a budget, never does."""
    return math.inf if max_calls is None else max(patience, PART_OF_BUDGET * max_calls)


def no_finite_score(reward: str, ledger: Ledger) -> str:
    """Say that no design of a run got a finite score, with the three most common reasons."""
    unscored, infeasible = ledger.without_score()
    if not infeasible:
        what, advice = f"could score none of {unscored} designs", ""
    elif not unscored:
        what = f"calls all {infeasible} designs infeasible (−inf)"
        advice = "; loosen what makes them so, or start from a model that draws feasible designs"
    else:
        parts = f"{unscored} could not be scored, {infeasible} are infeasible"
        what = f"gave none of {unscored + infeasible} designs a finite score ({parts})"
        advice = ""
    return f'reward "{reward}" {what}: {counted(ledger.reasons())}{advice}'


def counted(reasons: list[tuple[str, int]]) -> str:
    """Return reasons, each with its number, as one text."""
    return "; ".join(f"{reason} ({count} times)" for reason, count in reasons)
