"""Losses in float16: multiplied before the backward pass, so that small gradients are not rounded to zero there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FIRST, LEAST = 2.0**14, 2.0**-10
DOUBLED_AFTER = 200  # updates in a row whose gradients were finite


@dataclass
class LossScale:
    """The factor on losses: half as large when a gradient overflows, twice as large after many that did not.

    >>> scale = LossScale()
    >>> weight = nn.Parameter(torch.ones(()))
    >>> scale.up(3 * weight).backward()
    >>> scale.down([weight]), weight.grad
    (True, tensor(3.))
    """

    factor: float = FIRST
    since: int = 0

    def up(self, loss: Tensor) -> Tensor:
        return loss * self.factor

    @torch.no_grad()
    def down(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Bring gradients to their own size, and return whether all are finite: if not, there is no step to take."""
        finite = True
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= self.factor
                finite = finite and bool(parameter.grad.isfinite().all())
        self.since = self.since + 1 if finite else 0
        if not finite:
            self.factor /= 2
        elif self.since == DOUBLED_AFTER:
            self.factor, self.since = 2 * self.factor, 0
        return finite
