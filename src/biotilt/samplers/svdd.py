"""SVDD: at every step several children, one drawn by its value (Li et al. 2024, arXiv 2408.08252)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core import Capability, Context, Density, Draws, Evaluates, Sampler, Value
from biotilt.formulas.categorical import draw as draw_category
from biotilt.formulas.resampling import log_mean_error, log_mean_exp
from biotilt.formulas.soft_rl import effective_fraction
from biotilt.options import Few, Name, check_options
from biotilt.samplers.proposal import Proposal, equal_weights, need_a_weight, value_at


@dataclass(frozen=True)
class SVDD(Sampler):
    """Soft value-based decoding: M = `children` children y_j ∼ p_proposal(·|x), one drawn ∝ a_j, at every step.

    a_j = exp(v(y_j)/α) p_pre(y_j|x)/p_proposal(y_j|x),   v = r after the last step
    w   = Π_k (1/M) Σ_j a_j / exp(v(x[k])/α),             v(x[0]) = 0

    The designs are the paper's; their law tends to p* as M grows if v is the soft value. The weights correct what is
    left: each step is a small importance sampling, whose normaliser estimates what the step weighs, so that
    Σ w f / Σ w tends to E_{p*}[f] and the mean of w is unbiased for Z, for every M and every v that is finite. They
    spread with the number of steps (there is no resampling), and tell by `metrics["ess"]` how far v and M are from
    enough. With M = 1 it is importance sampling.

    `value`: posterior_mean, v(x) = r(x̂0(x)), the paper's SVDD-PM; monte_carlo; learned, before the first draw.
    `choose="argmax"` takes the child of the largest a_j (α → 0 of the paper): it maximises, and has neither weights
    nor log Z.

    A child that cannot be scored is chosen only when none can, and then keeps the value of its parent; log Z leaves
    out what lay behind the unscored. M · K oracle calls a design, times those of the value; M with a learned value,
    which asks before.

    Raises RewardError when no design has a weight.
    """

    children: Few = 8
    value: Name = "posterior_mean"
    choose: Literal["draw", "argmax"] = "draw"

    value_kind: ClassVar[type[Value]] = Evaluates
    name: ClassVar[str] = "svdd"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        proposal, alpha = Proposal(context.roles), context.target.alpha
        steps = context.roles.base.process.steps
        here = proposal.policy.at(proposal.policy.process.noise(count, context.generator), 0)
        value = torch.zeros(count, device=here.x.device)
        log_weight, rows = torch.zeros_like(value), torch.arange(count, device=here.x.device)
        for k in range(steps):
            y, log_ratio = proposal.children(context, here, self.children)
            there = here.after(y.flatten(0, 1))
            after = value_at(context, there).unflatten(0, (self.children, count))
            if k + 1 < steps:
                after = torch.where(after.isnan().all(0), value, after)
            log_a = torch.where(after.isnan(), -torch.inf, after / alpha + log_ratio)
            chosen = self._choose(log_a, after, context)
            log_weight = log_weight + log_mean_exp(log_a) - value / alpha
            here, value = there[chosen * count + rows], after[chosen, rows]
            # a chain without hope has its weight already: −inf; a difference from −inf would be NaN
            value = value.masked_fill(~value.isfinite(), 0) if k + 1 < steps else value
        need_a_weight(log_weight, "chains")
        if self.choose == "argmax":
            return Draws(here.x, value, equal_weights(value))
        metrics = {"ess": effective_fraction(log_weight).item()}
        return Draws(here.x, value, log_weight, log_mean_exp(log_weight).item(), log_mean_error(log_weight), metrics)

    def _choose(self, log_a: Tensor, after: Tensor, context: Context) -> Tensor:
        """Return the index `(B,)` of the chosen child; where none has a weight, any that could be scored."""
        scored = ~after.isnan()
        any_child = torch.where(scored | ~scored.any(0), 0.0, -torch.inf)
        logits = torch.where(log_a.isfinite().any(0), log_a, any_child)
        if self.choose == "argmax":
            return logits.argmax(0)
        return draw_category(logits.log_softmax(0).T, context.generator)
