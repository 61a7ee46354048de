"""PPO on the denoising chain (DDPO, arXiv 2305.13301; DPOK, arXiv 2305.16381), with the KL inside the return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core import (
    Batch,
    Capability,
    Columns,
    Context,
    Density,
    Metrics,
    Objective,
    Parts,
    RollIn,
    Round,
    SeveralTargets,
    Value,
    drop_unscored,
    roll_in_metrics,
    targets_of,
)
from biotilt.errors import ConfigError
from biotilt.formulas.soft_rl import clipped_surrogate, mean_within, soft_return
from biotilt.options import Count, FewPair, Positive, check_options


@dataclass(frozen=True)
class PPO(Objective):
    """−E[ min( ρ A, clip(ρ, 1−ε, 1+ε) A ) ],  ρ = p_θ(y|x) / p_old(y|x) of whole steps.

    The return of a chain is G = r − α Σ_k log p_old/p_pre, the KL inside. `advantage="batch"`: A = (G − mean over
    the batch) / α. At the optimum G is the same for every chain, so A is 0 and the updates die out by themselves;
    dividing by the standard deviation, as is common, would keep amplifying what is left. Where chains have several
    targets the mean is that of the same target. `advantage="group"`: GRPO, standardised within groups of `group`
    chains.

    Each round makes `updates` updates on `states` transitions drawn from the chains just sampled: with `calls`
    chains of K steps that is updates · states / (calls · K) epochs. `clip` = ε > 0.

    `base_every` = n: log p_pre is asked at every n-th step, from a random one on, and counts n times. G is right on
    average, so p* stays the fixed point, and the roll-in takes up to half its network rows less. But the G of chains
    differ by chance then, at p* too: worth it where steps are many and each changes little.
    """

    advantage: Literal["batch", "group"] = "batch"
    group: FewPair = 8
    clip: Positive = 0.2
    base_every: Count = 1
    updates: Count = 20
    states: Count = 64

    name: ClassVar[str] = "ppo"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def capacity(self) -> None:
        """On-policy: only the last round is kept, one row a transition."""
        return None

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> int:
        return self.states

    def columns(self, value: Value | None) -> Columns:
        return {"x": "states", "y": "states", "k": "int", "log_old": "float", "advantage": "float"}

    def check(self, parts: Parts) -> None:
        if self.advantage == "group" and isinstance(parts.process, SeveralTargets):
            raise ConfigError(
                'objective.advantage = "group" standardises chains drawn one after another, which have different '
                'conditions: use "batch", or name one condition'
            )

    def collect(self, context: Context, calls: int) -> Round:
        chain = RollIn().chains(context, calls, ratios=True, every=self.base_every)
        rewards = context.target.rewards(chain.designs)
        assert chain.log_prob is not None and chain.log_ratio is not None  # of every roll-in with ratios
        target = targets_of(context.roles.policy.process, chain.states[0])
        returns = soft_return(rewards, chain.log_ratio, context.target.alpha)
        advantage = self._advantage(returns, context.target.alpha, target)
        steps, batch = chain.log_prob.shape
        rows = {
            "x": chain.states[:-1].flatten(0, 1),
            "y": chain.states[1:].flatten(0, 1),
            "k": torch.arange(steps, device=rewards.device).repeat_interleave(batch),
            "log_old": chain.log_prob.flatten(),
            "advantage": advantage.repeat(steps),
        }
        return Round(drop_unscored(rows), chain.designs, roll_in_metrics(chain, rewards))

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        log_new = context.roles.policy.log_prob(rows["x"], rows["k"], rows["y"])
        loss = -clipped_surrogate(log_new, rows["log_old"], rows["advantage"], self.clip).mean()
        ratio = (log_new.detach() - rows["log_old"]).exp()
        return loss, {"clip_fraction": ((ratio - 1).abs() > self.clip).float().mean().item()}

    def _advantage(self, returns: Tensor, alpha: float, target: Tensor | None) -> Tensor:
        """Return advantages of returns `(B,)`; NaN where the design was not scored."""
        if self.advantage == "batch":
            return (returns - mean_within(returns, target)) / alpha
        return torch.cat([_standardised(part) for part in returns.split(self.group)])


def _standardised(returns: Tensor) -> Tensor:
    centred = returns - returns.nanmean()
    return centred / (centred.square().nanmean().sqrt() + 1e-8)
