"""A small fully connected network, for short designs and exact tests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn

from biotilt.networks.one_hot import as_one_hot


@dataclass(frozen=True)
class MLPConfig:
    """`letters` V outputs a position, `length` L positions; `width` and `depth` of the hidden layers."""

    letters: int
    length: int
    width: int = 256
    depth: int = 2


class MLP(nn.Module):
    """Letters and masks `(B, L)` → logits `(B, L, V)`; times are ignored: the masks tell the noise level."""

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        widths = [config.length * (config.letters + 1)] + [config.width] * config.depth
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], config.length * config.letters))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        one_hot = as_one_hot(x, self.config.letters + 1, next(self.parameters()).dtype)
        return self.layers(one_hot.flatten(1)).unflatten(-1, (self.config.length, self.config.letters))
