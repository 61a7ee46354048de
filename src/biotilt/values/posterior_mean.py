"""The plug-in value v̂(x) = r(x̂0(x)) of VIDD and SVDD: one oracle call a state, and the network call that goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Capability, Context, Guessing, Seen, StateValue, needed
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

    def designs(self, context: Context, here: Seen) -> Tensor:
        kernel = needed(here.kernel, Guessing)
        if not self.draws:
            return kernel.guess().unsqueeze(0)
        return torch.stack([kernel.guess(context.generator) for _ in range(self.draws)])

    def of_rewards(self, context: Context, rewards: Tensor) -> Tensor:
        """Return the mean `(B,)` over the guesses that could be scored."""
        return rewards.nanmean(0)
