"""A fully connected network of points, told the time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.networks.blank import blank_copy
from biotilt.networks.cnn import fourier_features
from biotilt.networks.one_hot import as_one_hot, classes
from biotilt.options import CountFrom0, Depth, Width, check_options


@dataclass(frozen=True)
class VectorMLPConfig:
    """`size` D ≥ 1 coordinates in and out; `width` and `depth` ≥ 1 of the hidden layers.

    With `conditions` = n > 0 it may be told one of n classes, or none, the class n.
    """

    size: Width
    width: Width = 128
    depth: Depth = 3
    conditions: CountFrom0 = 0

    def __post_init__(self) -> None:
        check_options(self, 'network "vector_mlp"')


class VectorMLP(nn.Module):
    """Points `(B, D)`, times `(B,)`, and classes `(B,)` where it takes them → `(B, D)`."""

    name: ClassVar[str] = "vector_mlp"
    Options: ClassVar[type] = VectorMLPConfig

    def __init__(self, config: VectorMLPConfig):
        super().__init__()
        self.config = config
        widths = [config.size + 64 + (config.conditions + 1) * (config.conditions > 0)] + [config.width] * config.depth
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], config.size))

    def blank(self) -> VectorMLP:
        """Return a copy whose outputs start at zero."""
        return blank_copy(self, f"layers.{len(self.layers) - 1}")

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        dtype = next(self.parameters()).dtype
        features = torch.cat([x.to(dtype), fourier_features(t, 64).to(dtype)], -1)
        if self.config.conditions:
            told = classes(condition, self.config.conditions, x)
            features = torch.cat([features, as_one_hot(told, self.config.conditions + 1, dtype)], -1)
        return self.layers(features)
