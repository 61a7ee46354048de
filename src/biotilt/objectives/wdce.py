"""Weighted denoising cross-entropy: MDNS (arXiv 2508.10684), TR2-D2 (arXiv 2509.25171)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
    Round,
    Value,
    drop_unscored,
    rollout,
    sample,
)
from biotilt.formulas.soft_rl import effective_fraction
from biotilt.formulas.weighted import controlled_weights, draw_signed, mixture_log_ratio, with_unscored
from biotilt.options import Count, FewFrom0, Share, check_options


@dataclass(frozen=True)
class WDCE(Objective):
    """−Σ_i w_i ELBO_θ(x_i),  w = softmax( r/α + Σ_k log p_pre − log p_mix ) over the replay, of whole paths.

    A share `beta` = β of the chains is drawn by p_out, a copy of the policy, the rest by the base. All are weighted by
    the density of the mixture, p_mix = β p_out + (1−β) p_pre, so that no weight exceeds e^{r/α}/(1−β), however far
    the policy has gone. β = 1 is the published form. The fixed point is p*, whatever β and however old p_out.

    p_out is renewed every `refresh` updates. `unscored` = m: with each scored design, m more are drawn from p_out and
    never scored. They make up for the part of p_out/p_mix that is subtracted from the weights, a control variate
    (`controlled_weights`): expectations stay, and the noise falls as the policy nears p*. 0 is the published form.

    Each round makes `updates` updates on `states` designs, drawn in proportion to their weights (`draw_signed`) from
    the newest `buffer` scored designs and the unscored ones that came with them. `ess` is the effective share of
    the scored ones.
    """

    beta: Share = 0.75
    unscored: FewFrom0 = 4
    refresh: Count = 50
    updates: Count = 8
    states: Count = 256
    buffer: Count = 20_000

    name: ClassVar[str] = "wdce"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def capacity(self) -> int:
        return self.buffer * (1 + self.unscored)

    @property
    def refresh_every(self) -> int:
        return self.refresh

    @property
    def batch_size(self) -> None:
        """All: rows are drawn in proportion to weights that depend on all of them."""
        return None

    def columns(self, value: Value | None) -> Columns:
        return {"designs": "states", "rewards": "float", "log_mix": "float", "log_control": "float", "scored": "bool"}

    def collect(self, context: Context, calls: int) -> Round:
        roles, generator = context.roles, context.generator
        designs, log_ratio, share = self._draw(context, calls)
        rewards = context.target.rewards(designs)
        mixed = mixture_log_ratio(log_ratio, share)
        rows = {"designs": designs, "rewards": rewards, "log_mix": mixed, "log_control": log_ratio - mixed}
        rows = drop_unscored(rows)
        more = len(rows["designs"]) * self.unscored
        rows = with_unscored(rows, sample(roles.proposal, more, generator) if more else designs[:0])
        return Round(rows, designs, {"reward": rewards.nanmean().item()})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        policy = context.roles.policy
        log_weight = rows["rewards"] / context.target.alpha - rows["log_mix"]
        weights = controlled_weights(log_weight, rows["log_control"], rows["scored"])
        picked, coefficient = draw_signed(weights, self.states, context.generator)
        loss = policy.process.denoising_loss(policy.outputs, rows["designs"][picked], context.generator)
        return (coefficient * loss).mean(), {"ess": effective_fraction(log_weight[rows["scored"]]).item()}

    def _draw(self, context: Context, count: int) -> tuple[Tensor, Tensor, float]:
        """Return designs, log p_out/p_pre of their paths `(count,)`, and the share that p_out drew of them."""
        roles, ours = context.roles, round(self.beta * count)
        designs, ratios = [], []
        for drawn_by, other, size, sign in (
            (roles.proposal, roles.base, ours, 1),
            (roles.base, roles.proposal, count - ours, -1),
        ):
            if size:
                chain = rollout(drawn_by, size, context.generator, base=other, states=False)
                if chain.log_ratio is None:
                    raise ValueError("path weights need log-probabilities recorded when drawn")
                designs.append(chain.designs)
                ratios.append(sign * chain.log_ratio.sum(0))
        return torch.cat(designs), torch.cat(ratios), ours / count
