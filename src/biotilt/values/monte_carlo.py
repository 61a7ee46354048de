"""The Monte Carlo soft value v̂_k(x) = α log mean exp(r/α) over designs completed from x by the base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Context, Seen, StateValue, rollout
from biotilt.options import Few, check_options


@dataclass(frozen=True)
class MonteCarlo(StateValue):
    """`draws` ≥ 1 completions a state, each one oracle call; consistent as `draws` grows, biased low before.

    Completions are drawn step by step: states of different steps take a roll-in for each.
    """

    draws: Few = 4

    name: ClassVar[str] = "monte_carlo"

    def __post_init__(self) -> None:
        check_options(self, "value")

    @property
    def calls(self) -> int:
        """Oracle calls a state."""
        return self.draws

    def designs(self, context: Context, here: Seen) -> Tensor:
        """Return completions `(draws, B, ...)`."""
        steps = torch.as_tensor(here.k, device=here.x.device).expand(len(here.x))
        designs = here.x.unsqueeze(0).repeat(self.draws, *[1] * here.x.dim())
        for step in steps.unique().tolist():
            start = designs[:, steps == step]
            chain = rollout(
                context.roles.base, start.shape[0] * start.shape[1], context.generator, states=False,
                start=(start.flatten(0, 1), step),
            )  # fmt: skip
            designs[:, steps == step] = chain.designs.view_as(start)
        return designs

    def of_rewards(self, context: Context, rewards: Tensor) -> Tensor:
        """Return v̂ `(B,)`; completions that could not be scored are left out."""
        scaled = rewards / context.target.alpha
        scored = ~scaled.isnan()
        total = torch.where(scored, scaled, -torch.inf).logsumexp(0) - scored.sum(0).log()
        return context.target.alpha * torch.where(scored.any(0), total, torch.nan)
