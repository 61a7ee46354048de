"""Sandwiched policy gradient: SPG (Wang et al. 2025, arXiv 2510.09541)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core import (
    Batch,
    Capability,
    Columns,
    Context,
    Density,
    LetterEvidence,
    Metrics,
    Objective,
    RollIn,
    Round,
    Value,
    drop_unscored,
    needed,
    roll_in_metrics,
    targets_of,
)
from biotilt.formulas.evidence import evidence_lower, evidence_upper
from biotilt.formulas.soft_rl import mean_within, soft_return
from biotilt.options import Count, Few, Number, Share, check_options


@dataclass(frozen=True)
class SPG(Objective):
    """−E[ A · (A ≥ 0 ? lower : ω upper + (1−ω) lower) ],  lower ≤ log p_θ(x) of the design, upper with β ≥ 1.

    lower = Σ_i E[log p_θ(x_i|z)], upper = (1/β) Σ_i log E[p_θ(x_i|z)^β], from `draws` random hidings z of each design
    (`formulas.evidence`); A = (G − mean of the batch)/α. `mix` = ω in [0, 1]. Upper bounds log p_θ for
    β ≥ the number of free positions; the paper's smaller `power` = β drops a constant that does not depend on θ.

    `returns="soft"`: G = r − α Σ_k log p_old/p_pre. At p* G is the same for every chain, so that every A is 0 and p* is
    the fixed point, whatever the bounds. `returns="reward"`: G = r, the paper. It maximises the reward and ends on
    one of the best designs; it does not sample p*.

    Each round makes `updates` updates on `states` of the designs just drawn.
    """

    returns: Literal["soft", "reward"] = "soft"
    power: Annotated[Number, Field(ge=1)] = 1.5
    mix: Share = 0.5
    draws: Few = 4
    updates: Count = 8
    states: Count = 64

    name: ClassVar[str] = "spg"
    needs: ClassVar[tuple[type[Capability], ...]] = (LetterEvidence, Density)

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def capacity(self) -> None:
        """On-policy: only the last round is kept."""
        return None

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> int:
        return self.states

    def columns(self, value: Value | None) -> Columns:
        return {"designs": "states", "advantage": "float"}

    def collect(self, context: Context, calls: int) -> Round:
        chain = RollIn().chains(context, calls, ratios=self.returns == "soft", states=False)
        rewards = context.target.rewards(chain.designs)
        gain = rewards if chain.log_ratio is None else soft_return(rewards, chain.log_ratio, context.target.alpha)
        target = targets_of(context.roles.policy.process, chain.designs)
        rows = {"designs": chain.designs, "advantage": (gain - mean_within(gain, target)) / context.target.alpha}
        return Round(drop_unscored(rows), chain.designs, roll_in_metrics(chain, rewards))

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        policy = context.roles.policy
        evidence = needed(policy.process, LetterEvidence).letter_evidence
        log_prob, weight = evidence(policy.outputs, rows["designs"], context.generator, self.draws)
        lower, upper = evidence_lower(log_prob, weight), evidence_upper(log_prob, weight, self.power)
        advantage = rows["advantage"]
        bound = torch.where(advantage >= 0, lower, torch.lerp(lower, upper, self.mix))
        return -(advantage * bound).mean(), {"gap": (upper - lower).mean().item()}
