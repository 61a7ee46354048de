"""Evolve: an evolutionary search whose mutations are the policy's, and a policy that learns the best it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Batch, Capability, Columns, Context, Divergence, Metrics, Objective, Round, Value
from biotilt.core.search import MEMORY, Search
from biotilt.core.selection import best_first, rank_weights
from biotilt.options import Count, NotNegative, check_options


@dataclass(frozen=True)
class Evolve(Search, Objective):
    """−Σ_i w_i ELBO_θ(x_i) + λ max(0, Σ_k KL(p_θ ‖ p_pre) − κ),   w_i ∝ 1/(k0 + rank_i) over all designs scored so far

    or w ∝ exp(r/α) (`select`), k0 the `offset`, λ the `anchor` and κ the `limit`, in nats. It maximises the reward: the
    designs come from a search (`Search`), whose law is nobody's, and better ones found later move the weights without
    end. It does not sample p*; `score_climbing` does, by chains of the same moves. α enters with `select` = "reward"
    only.

    KL is that of steps at the noised states of the designs that are learned from (`anchor` in the figures), which is
    not that of the policy's own paths. Without it the policy learns the elites by heart: what they gain within κ is
    free, and what goes beyond is charged. Each round makes `updates`
    updates on `states` designs, drawn in proportion to their weights from the newest `buffer`. p_out, a copy of the
    policy renewed after each round, denoises what the search hides.
    """

    anchor: NotNegative = 1.0
    limit: NotNegative = 5.0
    updates: Count = 8
    states: Count = 48
    buffer: Count = 100_000

    name: ClassVar[str] = "evolve"
    one_target: ClassVar[str] = "ranks designs against each other"

    def __post_init__(self) -> None:
        check_options(self, "objective")
        self.check_search("objective")

    @property
    def needs(self) -> tuple[type[Capability], ...]:
        return (Divergence,) if self.anchor > 0 else ()

    @property
    def capacity(self) -> int:
        return self.buffer

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> None:
        """All: rows are drawn by their rank among all of them."""
        return None

    def columns(self, value: Value | None) -> Columns:
        return MEMORY

    def collect(self, context: Context, calls: int) -> Round:
        return self.search_round(context, calls)

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        roles, generator = context.roles, context.generator
        order = best_first(rows["rewards"])
        if self.select == "rank":
            weights = rank_weights(len(order), self.offset, order.device)
        else:
            weights = context.target.log_weight(rows["rewards"][order]).softmax(0)
        picked = torch.multinomial(weights, self.states, replacement=True, generator=generator)
        designs = rows["designs"][order[picked]]
        loss = roles.policy.process.denoising_loss(roles.policy.outputs, designs, generator).mean()
        if not self.anchor:
            return loss, {}
        kl = self._path_kl(context, designs)
        return loss + self.anchor * (kl - self.limit).clamp(min=0), {"anchor": kl.item()}

    def _path_kl(self, context: Context, designs: Tensor) -> Tensor:
        """Return Σ_k KL(p_θ ‖ p_pre) at noised designs, by one step of each, uniform in 0…K−1."""
        roles, generator, process = context.roles, context.generator, context.roles.policy.process
        k = torch.randint(process.steps, (len(designs),), generator=generator, device=generator.device)
        x = process.corrupt(designs, k, generator)
        with torch.no_grad():
            base = roles.base.kernel_as(Divergence, x, k)
        return process.steps * roles.policy.kernel_as(Divergence, x, k).kl(base).mean()
