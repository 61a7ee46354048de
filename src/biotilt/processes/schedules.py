"""Noise schedules of processes of letters: a(t), the probability that a coordinate is clean at time t.

Time runs from t = 0, clean (a = 1), to t = 1, noise (a = 0). `rate(t)` is −a'(t) / (1 − a(t)), the weight of
the continuous-time bound (MDLM, arXiv 2406.07524, eq. 10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    def clean(self, t: Tensor) -> Tensor: ...

    def rate(self, t: Tensor) -> Tensor: ...

    def time(self, hidden: Tensor) -> Tensor:
        """Return the time t at which a share `hidden` = 1 − a(t) in [0, 1] is noise."""
        ...


@dataclass(frozen=True)
class Polynomial:
    """a(t) = 1 − t^power; `power` > 0. Power 1 is MDLM's log-linear schedule."""

    power: float = 1.0

    def clean(self, t: Tensor) -> Tensor:
        return 1 - t**self.power

    def rate(self, t: Tensor) -> Tensor:
        return self.power / t

    def time(self, hidden: Tensor) -> Tensor:
        return hidden ** (1 / self.power)


@dataclass(frozen=True)
class Cosine:
    """a(t) = 1 − cos(π (1 − t) / 2): slow near noise."""

    def clean(self, t: Tensor) -> Tensor:
        # = 1 − cos θ without cancellation: near noise it must not round to 0
        return 2 * ((1 - t) * math.pi / 4).sin().square()

    def rate(self, t: Tensor) -> Tensor:
        angle = (1 - t) * math.pi / 2
        return math.pi / 2 * angle.sin() / angle.cos()

    def time(self, hidden: Tensor) -> Tensor:
        return 1 - 2 / math.pi * hidden.arccos()


@dataclass(frozen=True)
class QuarterCosine:
    """a(t) = cos(π t / 2)^power, `power` 1 or 2: MDLM's cosine schedules, slow near the clean end."""

    power: Literal[1, 2] = 1

    def clean(self, t: Tensor) -> Tensor:
        # = cos(π t / 2) without cancellation: near noise it must not round to 0
        return ((1 - t) * math.pi / 2).sin() ** self.power

    def rate(self, t: Tensor) -> Tensor:
        angle = t * math.pi / 2
        return math.pi / 2 / (angle / 2).tan() if self.power == 1 else math.pi * angle.cos() / angle.sin()

    def time(self, hidden: Tensor) -> Tensor:
        return 2 / math.pi * ((1 - hidden) ** (1 / self.power)).arccos()


@dataclass(frozen=True)
class Geometric:
    """a(t) = exp(−σ), σ(t) = low^(1−t) high^t: of SEDD and D3; a(0) and a(1) are nearly 1 and 0."""

    low: float = 1e-4
    high: float = 20.0

    def noise(self, t: Tensor) -> Tensor:
        """Return σ(t)."""
        return ((1 - t) * math.log(self.low) + t * math.log(self.high)).exp()

    def clean(self, t: Tensor) -> Tensor:
        return (-self.noise(t)).exp()

    def rate(self, t: Tensor) -> Tensor:
        noise = self.noise(t)
        return noise * math.log(self.high / self.low) / torch.expm1(noise)

    def time(self, hidden: Tensor) -> Tensor:
        noise = -torch.log1p(-hidden)
        return ((noise / self.low).log() / math.log(self.high / self.low)).clamp(0, 1)


ScheduleName = Literal["loglinear", "cosine", "polynomial"]
UniformScheduleName = Literal["loglinear", "cosine", "polynomial", "geometric"]
MaskedScheduleName = Literal["loglinear", "cosine", "polynomial", "mdlm_cosine", "mdlm_cosine_squared"]

SCHEDULES: dict[str, Schedule] = {
    "loglinear": Polynomial(1.0),
    "cosine": Cosine(),
    "polynomial": Polynomial(2.0),
}

GEOMETRIC = Geometric()
UNIFORM_SCHEDULES: dict[str, Schedule] = SCHEDULES | {"geometric": GEOMETRIC}
"""With that of models of score ratios."""

MASKED_SCHEDULES: dict[str, Schedule] = SCHEDULES | {
    "mdlm_cosine": QuarterCosine(1),
    "mdlm_cosine_squared": QuarterCosine(2),
}
"""With those that only masked models of others have."""
