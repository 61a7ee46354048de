"""What an α can give: reward and KL of p* ∝ p_pre exp(r/α), from scores of the base, beside what choosing gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from biotilt.evaluation.metrics import as_array

FEW = 10  # designs that count, below which the weights of p* say less than they hide


def attainable(scores: Sequence[float], alpha: float, chosen: float | None = None) -> dict[str, Any] | None:
    """Return what p* has in the mean, by weighing N designs of the base; None where none has a finite score.

    `mean`: E_p*[r]; `kl`: KL(p* ‖ p_pre), nats; `counted`: the effective number of designs, 1 to N; `designs`: N,
    with a score; `at_least`: so few count that mean and KL are bounds from below. `chosen` in (0, 1]: the part that
    best-of-N keeps, whose median by these scores is `best_of_n`. Infeasible designs weigh nothing; NaN is no score.

    >>> found = attainable([0.0, 1.0, float("nan")], alpha=1.0, chosen=0.5)
    >>> round(found["mean"], 4), found["designs"], found["best_of_n"]
    (0.7311, 2, 1.0)
    """
    known = as_array(scores)
    known = np.sort(known[~np.isnan(known)])
    if not np.isfinite(known).any():
        return None
    log_weight = (known - known[-1]) / alpha
    weights = np.exp(log_weight)
    weights /= weights.sum()
    held = weights > 0
    counted = float(1 / np.square(weights).sum())
    found = {
        "alpha": alpha, "designs": len(known), "counted": counted, "at_least": counted < FEW,
        "mean": float((weights[held] * known[held]).sum()),
        "kl": float((weights[held] * np.log(weights[held] * len(known))).sum()),
    }  # fmt: skip
    if chosen is not None:
        best = known[-max(1, round(chosen * len(known))) :]
        found["best_of_n"] = float(np.median(best))
    return found


def alpha_to_pass(scores: Sequence[float], level: float) -> float | None:
    """Return the largest α, to a twentieth, at which E_p*[r] passes a level; None where the scores cannot tell.

    They cannot where, at that α, fewer than `FEW` designs count.
    """
    known = as_array(scores)
    spread = float(np.std(known[np.isfinite(known)])) if np.isfinite(known).any() else 0.0
    alpha = 10 * spread
    while alpha > 1e-3 * spread:
        found = attainable(scores, alpha)
        assert found is not None
        if found["at_least"]:
            return None
        if found["mean"] > level:
            return alpha
        alpha /= 1.05
    return None


def below_choosing(found: dict[str, Any], scores: Sequence[float]) -> str | None:
    """Say that even perfect tuning would not pass best-of-N at this α, and which α would; None where it would."""
    if found["at_least"] or found["mean"] > found.get("best_of_n", -math.inf):
        return None
    remedy = alpha_to_pass(scores, found["best_of_n"])
    lower = "lower it" if remedy is None else f"lower it to {remedy:.2g} or less"
    return (
        f"alpha = {found['alpha']:g}: even perfect tuning has a mean reward of {found['mean']:.3g}, and the best of as "
        f"many designs of the base have {found['best_of_n']:.3g}; {lower} to gain more than by choosing"
    )
