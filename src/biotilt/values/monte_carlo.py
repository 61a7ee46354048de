"""The Monte Carlo soft value v̂_k(x) = α log mean exp(r/α) over designs completed from x by the base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Context, StateValue, rollout
from biotilt.options import Few, check_options


@dataclass(frozen=True)
class MonteCarlo(StateValue):
    """`draws` ≥ 1 completions a state, each one oracle call; consistent as `draws` grows, biased low before.

    All states of one call must be at the same or given steps: completions are drawn step by step.
    """

    draws: Few = 4

    name: ClassVar[str] = "monte_carlo"

    def __post_init__(self) -> None:
        check_options(self, "value")

    @property
    def calls(self) -> int:
        """Oracle calls a state."""
        return self.draws

    @torch.no_grad()
    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        """Return v̂ `(B,)` in units of reward; completions that could not be scored are left out."""
        steps = torch.as_tensor(k, device=x.device).expand(len(x))
        designs = torch.empty_like(x.repeat_interleave(self.draws, 0))
        for step in steps.unique().tolist():
            rows = (steps == step).repeat_interleave(self.draws)
            start = x[steps == step].repeat_interleave(self.draws, 0)
            chain = rollout(context.roles.base, len(start), context.generator, start=(start, step))
            designs[rows] = chain.designs
        scaled = context.target.rewards(designs).unflatten(0, (len(x), self.draws)) / context.target.alpha
        scored = ~scaled.isnan()
        total = torch.where(scored, scaled, -torch.inf).logsumexp(-1) - scored.sum(-1).log()
        return context.target.alpha * torch.where(scored.any(-1), total, torch.nan)
