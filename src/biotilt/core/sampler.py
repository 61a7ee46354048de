"""What a sampler is, and what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor

from biotilt.core.objective import Context, Metrics
from biotilt.core.parts import Algorithm
from biotilt.errors import RewardError


@dataclass
class Draws:
    """Weighted designs: Σ_i w_i f(x_i), w = softmax(`log_weight`), estimates E_{p*}[f] where a sampler says so.

    `designs` `(N, ...)`; `rewards` `(N,)`, NaN where not scored; `log_weight` `(N,)`, −inf for a design that counts
    nothing, all 0 when the designs count the same. `log_z`: log of an estimate of Z = E_pre[exp(r/α)], None
    where the sampler has none; `log_z_error`: its standard error, None where it is not known.
    """

    designs: Tensor
    rewards: Tensor
    log_weight: Tensor
    log_z: float | None = None
    log_z_error: float | None = None
    metrics: Metrics = field(default_factory=dict)

    def resampled(self, count: int, generator: Generator) -> Tensor:
        """Return `count` designs drawn in proportion to their weights, with replacement.

        Raises RewardError when no design has a weight.
        """
        if not self.log_weight.isfinite().any():
            raise RewardError("no design has a weight: none could be scored, or all are infeasible")
        weights = self.log_weight.softmax(0)
        return self.designs[torch.multinomial(weights, count, replacement=True, generator=generator)]


class Sampler(Algorithm, ABC):
    """A way of steering that leaves the weights alone: a frozen dataclass whose fields are its configuration.

    Designs are proposed by `context.roles.proposal`, the base or a tuned policy; weights are relative to
    `context.roles.base`.
    """

    one_target: ClassVar[str] = "weighs designs against each other"

    @abstractmethod
    def draw(self, context: Context, count: int) -> Draws:
        """Return `count` designs."""
