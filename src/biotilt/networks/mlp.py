"""A small fully connected network, for short designs and exact tests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.networks.blank import blank_copy
from biotilt.networks.cnn import fourier_features
from biotilt.networks.one_hot import as_one_hot, classes
from biotilt.options import CountFrom0, Depth, Length, Symbols, Width, check_options

TIME_FEATURES = 64


@dataclass(frozen=True)
class MLPConfig:
    """`letters` V outputs a position, `length` L positions; `width` and `depth` of the hidden layers.

    With `time` the network is told the time; without, it reads the noise level off the masks. With `conditions` = n > 0
    it may be told one of n classes, or none, the class n.
    """

    letters: Symbols
    length: Length
    width: Width = 256
    depth: Depth = 2
    time: bool = False
    conditions: CountFrom0 = 0

    def __post_init__(self) -> None:
        check_options(self, 'network "mlp"')


class MLP(nn.Module):
    """Letters and masks `(B, L)`, times `(B,)`, classes `(B,)` where it takes them → logits `(B, L, V)`."""

    name: ClassVar[str] = "mlp"
    Options: ClassVar[type] = MLPConfig

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        more = TIME_FEATURES * config.time + (config.conditions + 1) * (config.conditions > 0)
        widths = [config.length * (config.letters + 1) + more] + [config.width] * config.depth
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], config.length * config.letters))

    @property
    def reads_time(self) -> bool:
        return self.config.time

    def blank(self) -> MLP:
        """Return a copy whose outputs start at zero."""
        return blank_copy(self, f"layers.{len(self.layers) - 1}")

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        one_hot = as_one_hot(x, self.config.letters + 1, next(self.parameters()).dtype)
        features = one_hot.flatten(1)
        if self.config.time:
            features = torch.cat([features, fourier_features(t, TIME_FEATURES).to(features.dtype)], -1)
        if self.config.conditions:
            told = classes(condition, self.config.conditions, x)
            features = torch.cat([features, as_one_hot(told, self.config.conditions + 1, features.dtype)], -1)
        return self.layers(features).unflatten(-1, (self.config.length, self.config.letters))
