"""Twisted sequential Monte Carlo: particles that are resampled by the value of the states they have reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from biotilt.core import Capability, Context, Density, Draws, Evaluates, Sampler, Value
from biotilt.formulas.resampling import log_mean_error, log_mean_exp, systematic_resample
from biotilt.formulas.soft_rl import effective_fraction
from biotilt.options import Name, Share, check_options
from biotilt.samplers.proposal import Proposal, need_a_weight, value_at


@dataclass(frozen=True)
class SMC(Sampler):
    """`count` particles whose weights follow the targets p_pre(x[0…k]) exp(u_k/α), k = 1 … K.

    w ← w · p_pre(y|x)/p_proposal(y|x) · exp((u_{k+1} − u_k)/α),   u_k = (k/K) v(x[k]),   u_0 = 0,   u_K = r

    Where the effective share of the particles falls below `resample`, they are drawn anew ∝ w by systematic
    resampling, and log Z gains log mean w. The result is weighted: Σ w f / Σ w tends to E_{p*}[f] as `count` grows, and
    exp(log Z) is unbiased for Z at any `count`, whatever the value and the proposal (Del Moral 2004; of diffusion
    models, Wu et al. 2023, arXiv 2306.17775).

    `value`: posterior_mean, v(x) = r(x̂0(x)); monte_carlo; learned, before the first draw; none, which knows nothing
    before the end, does not resample, and so is importance sampling. `resample` in [0, 1]: 0 never, 1 after every
    step that makes weights differ.
    `temper` = False leaves k/K out, which suits a value that is right from the start: weights are then constant if v
    is the soft value and the proposal p*. A guess of the whole design from an early state is overconfident, and
    resampling by it in full can be worse than no resampling.

    The error of log Z is estimated from one run, by how the weight is spread over the particles of the start: too large
    where few of their lineages survive, and with systematic resampling. Several runs with other seeds tell more.

    A state that cannot be scored keeps the value of the one before it; a design that cannot, or is infeasible, weighs
    nothing. K oracle calls a particle, times those of the value; one with a learned value, which asks before.

    Raises RewardError when no particle has a weight.
    """

    value: Name = "posterior_mean"
    resample: Share = 0.5
    temper: bool = True

    value_kind: ClassVar[type[Value]] = Evaluates
    name: ClassVar[str] = "smc"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    @property
    def value_name(self) -> str | None:
        return None if self.value == "none" else self.value

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        proposal, alpha = Proposal(context.roles), context.target.alpha
        steps = context.roles.base.process.steps
        here = proposal.policy.at(proposal.policy.process.noise(count, context.generator), 0)
        scores = value = torch.zeros(count, device=here.x.device)
        log_weight, log_z, resampled = torch.zeros_like(value), 0.0, 0
        lineage = torch.arange(count, device=here.x.device)
        for k in range(steps):
            if k > 0 and self.value != "none" and effective_fraction(log_weight) < self.resample:
                log_z += log_mean_exp(log_weight).item()
                kept = systematic_resample(log_weight, context.generator)
                here, value, log_weight = here[kept], value[kept], torch.zeros_like(log_weight)
                lineage = lineage[kept]
                resampled += 1
            (x,), (log_ratio,) = proposal.children(context, here, 1)
            here, last = here.after(x), k + 1 == steps
            scores = value if self.value == "none" and not last else value_at(context, here)
            after = scores * ((k + 1) / steps) if self.temper else scores
            after = torch.where(after.isnan(), -torch.inf if last else value, after)
            log_weight = log_weight + log_ratio + (after - value) / alpha
            need_a_weight(log_weight, "particles")
            # a particle without hope weighs nothing already: a difference from −inf would be NaN
            value = after.masked_fill(after == -torch.inf, 0)
        metrics = {"ess": effective_fraction(log_weight).item(), "resampled": float(resampled)}
        error = log_mean_error(log_weight, lineage, resampled)
        return Draws(here.x, scores, log_weight, log_z + log_mean_exp(log_weight).item(), error, metrics)
