"""Stepwise decomposition preference optimisation: SDPO (Han et al. 2025, arXiv 2507.04832)."""

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
    Metrics,
    Objective,
    PosteriorDensity,
    Round,
    Value,
    drop_unscored,
    sample,
)
from biotilt.options import Count, Pair, check_options


@dataclass(frozen=True)
class SDPO(Objective):
    """−E[ Σ_j softmax_j(r(x_j)/α) · log softmax_j( log p_θ(x_j|x_j[k]) − log p_pre(x_j|x_j[k]) ) ],  j in a group

    `group` = N scored designs (fewer, when an update or the replay has fewer), each hidden as at the same step k,
    uniform in 0…K−1; p(x|x[k]) is a product over letters. The paper's weight w(k) of a step is 1 here.

    The paper's optimum of a step, p_pre(x|x[k]) e^{r/α}/Z(x[k]), has its own Z for each state. The loss leaves it out,
    and the designs of a group have different states. What it minimises, for large groups drawn from the base, is
    the KL from p* to the policy at each state plus log E_pre[p_θ(x|x[k]) / p_pre(x|x[k])]. The last is 0 where
    p_pre(x|x[k]) is the true posterior of the base: where its letters are independent, or one letter is hidden. There
    the fixed point is p*, for any reward; elsewhere it is near p*, and not p*. A finite group falls short of it by an
    error of order 1/N: the softmax over N designs is a biased estimate.

    Designs are drawn by `proposal`, the base, or the policy as of the last round (the paper's iterative labelling,
    which goes beyond the limit above). Each round makes `updates` updates on `states` // N groups of the newest
    `buffer` designs.
    """

    group: Pair = 128
    proposal: Literal["base", "policy"] = "base"
    updates: Count = 8
    states: Pair = 256
    buffer: Pair = 20_000

    name: ClassVar[str] = "sdpo"
    needs: ClassVar[tuple[type[Capability], ...]] = (PosteriorDensity,)
    one_target: ClassVar[str] = "compares the designs of a group"

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def capacity(self) -> int:
        return self.buffer

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> int:
        return self.states

    def columns(self, value: Value | None) -> Columns:
        return {"designs": "states", "rewards": "float"}

    def begun(self, context: Context, designs: Tensor, scores: Tensor) -> Batch:
        return drop_unscored({"designs": designs, "rewards": context.target.finite(scores)})

    def collect(self, context: Context, calls: int) -> Round:
        roles = context.roles
        designs = sample(roles.base if self.proposal == "base" else roles.proposal, calls, context.generator)
        rewards = context.target.rewards(designs)
        rows = drop_unscored({"designs": designs, "rewards": rewards})
        return Round(rows, designs, {"reward": rewards.nanmean().item()})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        roles, generator, process = context.roles, context.generator, context.roles.policy.process
        group = min(self.group, len(rows["designs"]))
        design = rows["designs"][: len(rows["designs"]) // group * group]
        k = torch.randint(process.steps, (len(design) // group,), generator=generator, device=generator.device)
        k = k.repeat_interleave(group)
        x = process.corrupt(design, k, generator)
        with torch.no_grad():
            log_base = roles.base.kernel_as(PosteriorDensity, x, k).posterior_log_prob(design)
        log_ratio = roles.policy.kernel_as(PosteriorDensity, x, k).posterior_log_prob(design) - log_base
        target = (rows["rewards"][: len(design)] / context.target.alpha).view(-1, group).softmax(-1)
        loss = -(target * log_ratio.view(-1, group).log_softmax(-1)).sum(-1).mean()
        return loss, {"log_ratio": log_ratio.mean().item()}
