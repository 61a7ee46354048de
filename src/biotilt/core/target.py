"""What tuning and steering are after: p* ∝ p_pre exp(r/α), of which the reward r and the temperature α are given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biotilt.core.capabilities import needed
from biotilt.core.protocols import RelaxedScorer, Scorer


@dataclass(frozen=True)
class Target:
    """The tilt exp(r/α): scores of designs, and what they weigh.

    >>> tilt = Target(lambda designs: torch.tensor([1.0, torch.nan, -torch.inf]), alpha=0.5)
    >>> tilt.scores(torch.zeros(3, 2)), tilt.rewards(torch.zeros(3, 2)), tilt.log_weight(torch.tensor([1.0]))
    (tensor([1., nan, -inf]), tensor([ 1., nan, -4.]), tensor([2.]))
    """

    scorer: Scorer
    alpha: float

    def scores(self, designs: Tensor) -> Tensor:
        """Score designs `(B, ...)`: `(B,)`, NaN where not scored and −inf where infeasible.

        Raises ValueError when the scorer returns another shape: `(B, 1)` would credit a design with all.
        """
        return _one_a_design(self.scorer(designs).to(torch.get_default_dtype()), designs)

    def rewards(self, designs: Tensor) -> Tensor:
        """Score designs for a loss, which needs finite differences: `(B,)`, NaN where not scored; see `finite`."""
        return self.finite(self.scores(designs))

    def finite(self, scores: Tensor) -> Tensor:
        """Return scores `(B,)` of one batch as a loss needs them.

        An infeasible design (−inf) is given the worst feasible reward of the batch less 10 α: its weight
        exp(r/α) is then nil for any purpose, and every difference stays finite. A batch without any feasible design
        has no such scale: all of it counts as not scored. Weights are taken of `scores`, where infeasible weighs
        nothing at all.
        """
        feasible = scores.isfinite()
        if not feasible.any():
            return torch.full_like(scores, torch.nan)
        floor = scores[feasible].min() - 10 * self.alpha
        return torch.where(scores == -torch.inf, floor, scores)

    def relaxed_rewards(self, designs: Tensor) -> Tensor:
        """Score relaxed designs (letter probabilities `(B, L, V)`, or points): rewards `(B,)` with gradients."""
        return _one_a_design(needed(self.scorer, RelaxedScorer).relaxed(designs), designs)

    def log_weight(self, scores: Tensor) -> Tensor:
        """Return r/α `(N,)` of scores, −inf where the design was not scored or is infeasible."""
        return torch.where(scores.isnan(), -torch.inf, scores / self.alpha)


def _one_a_design(scores: Tensor, designs: Tensor) -> Tensor:
    if scores.shape != designs.shape[:1]:
        raise ValueError(f"the scorer returned shape {tuple(scores.shape)} for {len(designs)} designs")
    return scores
