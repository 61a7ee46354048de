"""Summaries of scores that never average a failure away."""

from __future__ import annotations

from torch import Tensor


def finite_mean(scores: Tensor) -> float:
    """Return the mean of the finite scores `(B,)`; NaN when there are none.

    Report `infeasible_fraction` and `unscored_fraction` beside it: this mean alone hides both.

    >>> import torch
    >>> finite_mean(torch.tensor([1.0, 2.0, float("nan"), -float("inf")]))
    1.5
    """
    return scores[scores.isfinite()].mean().item()


def unscored_fraction(scores: Tensor) -> float:
    """Return the fraction of the scores `(B,)`, B >= 1, that are NaN."""
    return scores.isnan().double().mean().item()


def infeasible_fraction(scores: Tensor) -> float:
    """Return the fraction of the scored designs, those not NaN, whose score is -inf; NaN for none."""
    return scores[~scores.isnan()].isneginf().double().mean().item()
