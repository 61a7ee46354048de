"""Reward-weighted maximum likelihood: RWR (Peters & Schaal 2007), RAFT (arXiv 2304.06767), tutorial 2407.13734."""

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
    Round,
    Value,
    drop_unscored,
    rollout,
    sample,
)
from biotilt.core.reading import of_states
from biotilt.core.selection import first_of_each, unique_share
from biotilt.formulas.soft_rl import effective_fraction
from biotilt.formulas.weighted import controlled_weights, draw_signed, with_unscored
from biotilt.options import Count, FewFrom0, check_options


@dataclass(frozen=True)
class RewardWeighted(Objective):
    """−Σ_i w_i ELBO_θ(x_i),  w = softmax(r/α) over the replay: the denoising loss of weighted, re-noised designs.

    `proposal` draws the designs.

    * `"base"`: the fixed point is p*, since E_pre[e^{r/α} log p_θ] is largest at p_θ ∝ p_pre e^{r/α}.
    * `"policy"`, the usual form: what each refresh tilts has been tilted before, so n of them give p_pre e^{n r/α}. It
      sharpens without end and maximises the reward; it does not sample p*. With `distinct` a design is learned from
      once, however often it was drawn: else the few that a sharp policy draws again and again outweigh all others.
      (Of the base's draws copies count, as they must where their share is their probability.)

    `unscored` = m: with each scored design, m more are drawn from p_out, a copy of the policy, and never scored. They
    make up for the part of p_out/p_pre that is subtracted from the weights of the scored ones, a control variate
    (`controlled_weights`): expectations stay, and the noise falls as the policy nears p*. That costs network calls,
    no oracle calls; 0 is the published form. p_out is renewed every `refresh` updates.

    Each round makes `updates` updates on `states` designs, drawn in proportion to their weights (`draw_signed`) from
    the newest `buffer` scored designs and the unscored ones that came with them.
    """

    proposal: Literal["base", "policy"] = "base"
    unscored: FewFrom0 = 4
    refresh: Count = 50
    updates: Count = 8
    states: Count = 256
    buffer: Count = 20_000
    distinct: bool = True

    name: ClassVar[str] = "reward_weighted"

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def needs(self) -> tuple[type[Capability], ...]:
        """Densities only for the control: without it, any process that can be sampled will do."""
        return (Density,) if self._weighs_paths else ()

    def unscreened(self, value: Value | None) -> str:
        """What the base draws is weighed to p*; what the policy draws only sharpens, the more so when it is chosen."""
        return super().unscreened(value) if self.proposal == "base" else ""

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

    @property
    def _weighs_paths(self) -> bool:
        return self.proposal == "base" and self.unscored > 0

    def columns(self, value: Value | None) -> Columns:
        return {"designs": "states", "rewards": "float", "log_control": "float", "scored": "bool"}

    def collect(self, context: Context, calls: int) -> Round:
        designs, log_control = self._draw(context, context.proposals(calls))
        if len(designs) > calls:
            picked = context.chosen(designs, calls)
            designs, log_control = designs[picked], log_control[picked]
        rewards = context.rewards(designs)
        unique = unique_share(context.reading.keys(designs))
        rows = self._rows(context, {"designs": designs, "rewards": rewards, "log_control": log_control})
        return Round(rows, designs, {"reward": rewards.nanmean().item(), "unique": unique})

    def begun(self, context: Context, designs: Tensor, scores: Tensor) -> Batch:
        """Return the base's designs as its own: p_out is a copy of the base still, so their paths have log-ratio 0."""
        rewards = context.target.finite(scores)
        return self._rows(context, {"designs": designs, "rewards": rewards, "log_control": torch.zeros_like(rewards)})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        policy = context.roles.policy
        log_weight = rows["rewards"] / context.target.alpha
        weights = controlled_weights(log_weight, rows["log_control"], rows["scored"])
        picked, coefficient = draw_signed(weights, self.states, context.generator)
        loss = policy.process.denoising_loss(policy.outputs, rows["designs"][picked], context.generator)
        return (coefficient * loss).mean(), {"ess": effective_fraction(log_weight[rows["scored"]]).item()}

    def _rows(self, context: Context, rows: Batch) -> Batch:
        """Return those of the rows that teach something, with as many unscored designs of p_out as are asked for."""
        rows = drop_unscored(rows)
        if self.distinct and self.proposal == "policy":
            rows = self._new(context.memory.rows, rows)
        designs = rows["designs"]
        more = len(designs) * self.unscored
        return with_unscored(rows, sample(context.roles.proposal, more, context.generator) if more else designs[:0])

    def _new(self, memory: Batch, rows: Batch) -> Batch:
        """Return the rows of designs that are not in the memory, each once."""
        known = of_states(memory["designs"][memory["scored"]]) if memory else torch.zeros(0, dtype=torch.int64)
        keys = of_states(rows["designs"])
        new = first_of_each(keys) & ~torch.isin(keys, known.to(keys.device))
        return {name: column[new] for name, column in rows.items()}

    def _draw(self, context: Context, count: int) -> tuple[Tensor, Tensor]:
        """Return designs, and log p_out/p of their paths `(count,)`, where p is the policy that drew them."""
        roles, generator = context.roles, context.generator
        if self._weighs_paths:
            chain = rollout(roles.base, count, generator, base=roles.proposal, states=False)
            if chain.log_ratio is None:
                raise ValueError("the control needs log-probabilities recorded when drawn")
            return chain.designs, -chain.log_ratio.sum(0)
        drawn_by = roles.base if self.proposal == "base" else roles.proposal
        return sample(drawn_by, count, generator), torch.zeros(count, device=generator.device)
