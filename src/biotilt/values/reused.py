"""What a run's objective learned, as the value of states that a sampler asks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biotilt.core import Context, Evaluates
from biotilt.values.learned import LearnedQ
from biotilt.values.learned_state import LearnedV
from biotilt.values.state import StateNet


class Reused(nn.Module, Evaluates):
    """v(x, k) in units of reward of a value that a run has trained, with the temperature of that run.

    A function of states (`StateNet`) is read as it is. Action values of letters give log Σ_b p_pre(b|x, j) exp Q[j, b],
    averaged over the hidden j: a row of the base besides. Of `LearnedV`, which values where a step led, it is the value
    of the state that step k − 1 led to. The last two value the policy that drew the run's designs: near the soft value
    where that came near p*.
    """

    def __init__(self, learned: StateNet | LearnedQ | LearnedV):
        super().__init__()
        self.learned = learned.requires_grad_(False)

    @torch.no_grad()
    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        alpha, learned = context.target.alpha, self.learned
        if isinstance(learned, LearnedQ):
            return alpha * (learned.centre + learned.soft_value(context, x, learned.net))
        if isinstance(learned, LearnedV):
            return alpha * learned.state(x, (torch.as_tensor(k, device=x.device) - 1).clamp(min=0))
        return alpha * learned(x, k)
