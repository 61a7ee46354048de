"""The plug-in value v̂(x) = r(x̂0(x)) of VIDD and SVDD: one network call and one oracle call a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Capability, Context, Guessing, StateValue
from biotilt.options import FewFrom0, check_options


@dataclass(frozen=True)
class PosteriorMean(StateValue):
    """Reward of the proposal's guess of the design: the most likely letters, or the mean over `draws` drawn guesses.

    `draws` = 0 takes the most likely letters. Biased: the reward of a mean is not the soft mean of rewards.
    """

    draws: FewFrom0 = 0

    name: ClassVar[str] = "posterior_mean"

    def __post_init__(self) -> None:
        check_options(self, "value")

    needs: ClassVar[tuple[type[Capability], ...]] = (Guessing,)

    @property
    def calls(self) -> int:
        """Oracle calls a state."""
        return max(self.draws, 1)

    @torch.no_grad()
    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        """Return v̂ `(B,)` in units of reward; NaN where no guess could be scored."""
        kernel = context.roles.proposal.kernel_as(Guessing, x, k)
        if not self.draws:
            return context.target.rewards(kernel.guess())
        guesses = torch.stack([kernel.guess(context.generator) for _ in range(self.draws)])
        return context.target.rewards(guesses.flatten(0, 1)).unflatten(0, guesses.shape[:2]).nanmean(0)
