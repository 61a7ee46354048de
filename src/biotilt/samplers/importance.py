"""Self-normalised importance sampling: designs of the proposal, weighed by the tilt and by their paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from biotilt.core import Capability, Context, Density, Draws, Sampler
from biotilt.formulas.resampling import log_mean_error, log_mean_exp
from biotilt.formulas.soft_rl import effective_fraction
from biotilt.samplers.proposal import Proposal, need_a_weight


@dataclass(frozen=True)
class Importance(Sampler):
    """`count` designs of the proposal with weights w = exp(r/α) Π_k p_pre(x[k+1]|x[k]) / p_proposal(x[k+1]|x[k]).

    Σ w f / Σ w tends to E_{p*}[f], and the mean of w is unbiased for Z, whatever the proposal, as long as it can
    make whatever the base can; the error of its log is that of a mean. One oracle call a design. `metrics["ess"]`, the
    effective share of the designs, says how far the proposal is from p*; with the base as proposal and a strong tilt it
    is near 1/`count`.

    Raises RewardError when no design has a weight.
    """

    name: ClassVar[str] = "importance"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        designs, log_ratio = Proposal(context.roles).chains(context, count)
        rewards = context.target.scores(designs)
        log_weight = context.target.log_weight(rewards) + log_ratio
        need_a_weight(log_weight, "designs")
        metrics = {"ess": effective_fraction(log_weight).item()}
        log_z, error = log_mean_exp(log_weight).item(), log_mean_error(log_weight)
        return Draws(designs, rewards, log_weight, log_z, error, metrics)
