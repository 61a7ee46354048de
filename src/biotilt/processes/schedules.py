"""Noise schedules of processes of letters: a(t), the probability that a coordinate is clean at time t.

Time runs from t = 0, clean (a = 1), to t = 1, noise (a = 0). `rate(t)` is −a'(t) / (1 − a(t)), the weight of
the continuous-time bound (MDLM, arXiv 2406.07524, eq. 10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

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


ScheduleName = Literal["loglinear", "cosine", "polynomial"]
MaskedScheduleName = Literal["loglinear", "cosine", "polynomial", "mdlm_cosine", "mdlm_cosine_squared"]

SCHEDULES: dict[str, Schedule] = {
    "loglinear": Polynomial(1.0),
    "cosine": Cosine(),
    "polynomial": Polynomial(2.0),
}

MASKED_SCHEDULES: dict[str, Schedule] = SCHEDULES | {
    "mdlm_cosine": QuarterCosine(1),
    "mdlm_cosine_squared": QuarterCosine(2),
}
"""With those that only masked models of others have."""
