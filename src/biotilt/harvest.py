"""The harvest: the best of everything that a run scored, from its ledger, for no further call."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from biotilt.config import ConstraintSection
from biotilt.experiment import Experiment
from biotilt.oracle import Ledger
from biotilt.wiring import ledgers


def harvest(experiment: Experiment, folder: Path, most: int) -> list[tuple[Any, float]]:
    """Return up to `most` different designs that tuning scored, with their scores, the highest first.

    Designs that were not scored or are infeasible are left out, as are those that break a constraint. It is no sample
    of any law: the optimised reward chose it. Empty where the ledger is gone.
    """
    reward, constraints = ledgers(experiment, folder)
    scores = {row.design: row.score for row in reward.rows() if math.isfinite(row.score)}
    for section, ledger in zip(experiment.config.constraints, constraints):
        kept = _keeping(ledger, section)
        scores = {design: score for design, score in scores.items() if design in kept}
    # equal scores stay in the order in which they were asked
    best = sorted(scores.items(), key=lambda item: item[1], reverse=True)[:most]
    return [(experiment.model.space.design_of(key), score) for key, score in best]


def scored_in_order(experiment: Experiment, folder: Path) -> list[tuple[str, float]]:
    """Return each design that cost tuning a call, with its score, in order; NaN for one that breaks a constraint.

    Empty where the ledger is gone.
    """
    reward, constraints = ledgers(experiment, folder)
    kept = [_keeping(ledger, section) for section, ledger in zip(experiment.config.constraints, constraints)]
    return [
        (row.design, row.score if all(row.design in each for each in kept) else math.nan)
        for row in reward.rows()
        if not row.cached
    ]


def _keeping(ledger: Ledger, section: ConstraintSection) -> set[str]:
    """Return the designs that keep a constraint."""
    return {row.design for row in ledger.rows() if within(row.score, section.at_least, section.at_most)}


def within(value: float, at_least: float | None, at_most: float | None) -> bool:
    """Return whether a value keeps its bounds; one that is not finite does not."""
    low, high = -math.inf if at_least is None else at_least, math.inf if at_most is None else at_most
    return math.isfinite(value) and low <= value <= high
