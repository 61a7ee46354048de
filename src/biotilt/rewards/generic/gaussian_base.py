"""The density of a base whose designs are gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianBase:
    """The law of a base's designs: independent N(`centre`, `std`²) in the coordinates that are `free`, `(D,)` each."""

    centre: tuple[float, ...]
    std: tuple[float, ...]
    free: tuple[bool, ...]

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the log-density `(B,)` of points `(B, D)` over the free coordinates."""
        centre, std, free = (torch.tensor(row, device=points.device) for row in (self.centre, self.std, self.free))
        each = -((points - centre) / std).square() / 2 - std.log() - math.log(2 * math.pi) / 2
        return (each * free).sum(-1)
