"""Discrete denoising posterior prediction: DDPP-LB, single step (Rector-Brooks et al. 2024, arXiv 2410.08134)."""

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
    Metrics,
    PosteriorDensity,
    Round,
    StateFunction,
    Value,
    drop_unscored,
    sample,
)
from biotilt.core.search import MEMORY
from biotilt.objectives.replayed import Replayed
from biotilt.options import Count, Share, check_options


@dataclass(frozen=True)
class DDPP(Replayed):
    """E[ ( log p_θ(x0|x_k) − log p_pre(x0|x_k) − r(x0)/α + log Z_φ(x_k) )² ]   (eq. 11 of the paper, R = e^{r/α})

    x0 are scored designs, whoever drew them, hidden as at a step k uniform in 0…K−1; log Z_φ is learned. Nothing is
    simulated: a term takes one network call of each.

    p(x0|x_k) is a product over letters. The loss can be 0 only where r, given x_k, is a sum over the hidden letters
    and the base's letters are independent; there, and where one letter is hidden, the minimiser is p*. Elsewhere it
    is the least-squares fit of a sum over letters to r/α, which leaves interactions of hidden letters out of the first
    steps: the paper's "discretisation error". It also depends on who drew the designs. So the fixed point is near p*
    and not p*, and more training does not help.

    A share `beta` of the designs is drawn by p_out, a copy of the policy renewed after each round, the rest by the
    base; or a search finds them (`draws`), and the least squares are then of its designs: nearer to r/α where they are
    good, more so with `replay` = "rank". Where p* is the minimiser it stays so. Each round makes `updates` updates on
    `states` of the newest `buffer` designs.
    """

    beta: Share = 0.5
    updates: Count = 8
    states: Count = 128
    buffer: Count = 20_000

    name: ClassVar[str] = "ddpp"
    needs: ClassVar[tuple[type[Capability], ...]] = (PosteriorDensity,)
    value_kind: ClassVar[type[Value]] = StateFunction
    value: ClassVar[str] = "state"

    def __post_init__(self) -> None:
        check_options(self, "objective")
        self.check_search("objective")

    def unscreened(self, value: Value | None) -> str:
        """Nothing: it is a least-squares fit, which a screen makes closer where designs are good."""
        return ""

    @property
    def capacity(self) -> int:
        return self.buffer

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> int | None:
        return self.of_all(self.states)

    def columns(self, value: Value | None) -> Columns:
        return MEMORY if self.searches else {"designs": "states", "rewards": "float"}

    def begun(self, context: Context, designs: Tensor, scores: Tensor) -> Batch:
        if self.searches:
            return super().begun(context, designs, scores)
        return drop_unscored({"designs": designs, "rewards": context.target.finite(scores)})

    def collect(self, context: Context, calls: int) -> Round:
        if self.searches:
            return self.search_round(context, calls)
        roles, count = context.roles, context.proposals(calls)
        ours = round(self.beta * count)
        parts = [
            sample(policy, size, context.generator)
            for policy, size in ((roles.proposal, ours), (roles.base, count - ours))
            if size
        ]
        designs = torch.cat(parts)
        designs = designs[context.chosen(designs, calls)]
        rewards = context.rewards(designs)
        rows = drop_unscored({"designs": designs, "rewards": rewards})
        return Round(rows, designs, {"reward": rewards.nanmean().item()})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        rows = self.replayed(context, rows, self.states)
        roles, generator = context.roles, context.generator
        design, process = rows["designs"], roles.policy.process
        complete = rows["rewards"] / context.target.alpha
        value = context.value_as(StateFunction)
        value.set_units(complete)
        k = torch.randint(process.steps, (len(design),), generator=generator, device=generator.device)
        x = process.corrupt(design, k, generator)
        with torch.no_grad():
            log_base = roles.base.kernel_as(PosteriorDensity, x, k).posterior_log_prob(design)
        log_policy = roles.policy.kernel_as(PosteriorDensity, x, k).posterior_log_prob(design)
        log_z = value(x, k)
        error = log_policy - log_base - complete + log_z
        return error.square().mean(), {"log_z": log_z.mean().item()}
