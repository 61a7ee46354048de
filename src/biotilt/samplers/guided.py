"""What guidance of every kind shares: chains whose steps are tilted by a score, and the weights of their paths."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from biotilt.core import Context, Density, Draws, Kernel, Tiltable
from biotilt.formulas.resampling import log_mean_error, log_mean_exp
from biotilt.formulas.soft_rl import effective_fraction
from biotilt.samplers.proposal import Proposal, equal_weights, need_a_weight


@torch.no_grad()
def draw_guided(context: Context, count: int, score: Callable[[Kernel, Tensor, int], Tensor], correct: bool) -> Draws:
    """Draw `count` designs by y ∼ p_proposal(y|x) exp(q)/norm, q = score(kernel, x, k) shaped like the kernel's `x0`.

    `correct`: weights exp(r/α) Π_k p_pre/p_guided, with which Σ w f / Σ w tends to E_{p*}[f] and the mean of w is
    unbiased for Z, whatever q: it may itself be drawn, as long as it is finite. Where q is not a number the step is
    left to the proposal. Without it, all designs count the same and there is no log Z.
    """
    roles, base = context.roles, Proposal(context.roles).base
    x = roles.proposal.process.noise(count, context.generator)
    log_ratio = torch.zeros(count, device=x.device)
    for k in range(roles.proposal.process.steps):
        kernel = roles.proposal.kernel_as(Tiltable, x, k)
        guided = kernel.tilted(score(kernel, x, k).nan_to_num(0.0, 0.0, 0.0))
        y = guided.sample(context.generator)
        if correct:
            reference = kernel if base is None else base.kernel_as(Density, x, k)
            log_ratio = log_ratio + reference.log_prob(y) - guided.log_prob(y)
        x = y
    rewards = context.target.scores(x)
    if not correct:
        return Draws(x, rewards, equal_weights(rewards))
    log_weight = context.target.log_weight(rewards) + log_ratio
    need_a_weight(log_weight, "designs")
    metrics = {"ess": effective_fraction(log_weight).item()}
    return Draws(x, rewards, log_weight, log_mean_exp(log_weight).item(), log_mean_error(log_weight), metrics)
