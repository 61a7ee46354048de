"""Markovian score climbing: the policy learns the states of Metropolis chains (Naesseth et al. 2020, 2003.10374)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Batch, Columns, Context, Metrics, Objective, Round, Value, sample
from biotilt.core.moves import complete
from biotilt.core.selection import unique_share
from biotilt.errors import ConfigError
from biotilt.options import Count, Share, check_options


@dataclass(frozen=True)
class ScoreClimbing(Objective):
    """−E_{x ∼ chains} ELBO_θ(x): the forward KL(p* ‖ p_θ), by chains whose law tends to p* whatever the policy does

    There is one chain for each call of a round, and it lives through the run. In a round every chain makes one move of
    Metropolis–Hastings, in which the base proposes:

        z ∼ q(x[k] | x),  y ∼ p_pre(x[K] | x[k] = z),   accept with min(1, exp((r(y) − r(x))/α))

    with K − k uniform between the shares `least` and `most` of the steps. This leaves p* alone where q is the base's
    own law of x[k] given x: any-order with one letter a step and letters that are the conditionals of one joint law;
    elsewhere as nearly as noising and denoising agree. So p* is the fixed point, as `evolve`, which looks for the best
    by the same moves, has none; chains that start at the base need rounds to get there, and a small α many. A proposal
    without a score, or infeasible, is rejected.

    Each round makes `updates` updates on `states` designs, drawn uniformly from the newest `buffer` states of chains,
    which must be those of one round at least: where it is more, the policy learns what the chains were some rounds ago.
    """

    least: Share = 0.0
    most: Share = 0.5
    updates: Count = 8
    states: Count = 128
    buffer: Count = 512

    name: ClassVar[str] = "score_climbing"

    def __post_init__(self) -> None:
        check_options(self, "objective")
        if self.least > self.most:
            raise ConfigError(f"objective.least must be ≤ objective.most, got {self.least} and {self.most}")

    @property
    def capacity(self) -> int:
        return self.buffer

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> None:
        """All: those that have a score are drawn from."""
        return None

    def check_calls(self, calls: int) -> None:
        if self.buffer < calls:
            raise ConfigError(f"objective.buffer: {self.buffer} states are less than the {calls} chains of train.batch")

    def columns(self, value: Value | None) -> Columns:
        return {"designs": "states", "rewards": "float"}

    @torch.no_grad()
    def collect(self, context: Context, calls: int) -> Round:
        """Move every chain once; the rows are their states, and no draws of the policy."""
        memory, generator = context.memory.rows, context.generator
        metrics: Metrics = {}
        if len(context.memory) < calls:
            designs = sample(context.roles.base, calls, generator)
            rewards = context.scores(designs)
        else:
            before, known = memory["designs"][-calls:], memory["rewards"][-calls:]
            proposed = self._proposed(context, before)
            found = _scores_of_changed(context, before, known, proposed)
            log_accept = context.target.log_weight(found) - context.target.log_weight(known)
            # NaN, the difference of two designs without a score, compares false: rejected
            accept = torch.rand(calls, generator=generator, device=known.device).log() < log_accept
            designs = torch.where(accept.view(-1, *[1] * (before.dim() - 1)), proposed, before)
            rewards = torch.where(accept, found, known)
            metrics["accepted"] = accept.float().mean().item()
        metrics["unique"] = unique_share(context.reading.keys(designs))
        scored = rewards.isfinite()
        if scored.any():
            metrics["reward"] = rewards[scored].mean().item()
        rows = {"designs": designs, "rewards": rewards}
        if not scored.any():
            rows = {name: column[:0] for name, column in rows.items()}  # no chain has begun yet
        return Round(rows, designs[:0], metrics)

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        policy, generator = context.roles.policy, context.generator
        scored = rows["rewards"].isfinite().nonzero().squeeze(-1)
        picked = scored[torch.randint(len(scored), (self.states,), generator=generator, device=generator.device)]
        loss = policy.process.denoising_loss(policy.outputs, rows["designs"][picked], generator)
        return loss.mean(), {}

    def _proposed(self, context: Context, designs: Tensor) -> Tensor:
        """Return designs that the base makes of the noised ones, each noised by a number of steps of its own."""
        base, generator = context.roles.base, context.generator
        steps = base.process.steps
        low, high = max(1, round(self.least * steps)), max(1, round(self.most * steps))
        redone = torch.randint(low, high + 1, (len(designs),), generator=generator, device=generator.device)
        noised = base.process.corrupt(designs, steps - redone, generator)
        return complete(base, noised, steps - redone, generator)


def _scores_of_changed(context: Context, before: Tensor, known: Tensor, new: Tensor) -> Tensor:
    """Return the scores of new designs, asking only about those that differ from where they came from."""
    changed = (new != before).reshape(len(new), -1).any(-1)
    scores = known.clone()
    if changed.any():
        scores[changed] = context.scores(new[changed])
    return scores
