"""A small U-shaped convolutional network of images, told the time (after Ronneberger et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.networks.blank import blank_copy
from biotilt.networks.cnn import fourier_features
from biotilt.networks.one_hot import classes
from biotilt.options import CountFrom0, Layers, Length, Whole, Width, check_options


@dataclass(frozen=True)
class UNetConfig:
    """Images of `height` × `width` in `colours`; `channels` at full size, twice as many at half of it.

    `blocks` ≥ 1 residual blocks on the way down, at half size, and on the way up, each. With `conditions` = n > 0 it
    may be told one of n classes, or none, the class n.
    """

    height: Length
    width: Length
    colours: Annotated[Whole, Field(ge=1, le=4)] = 1
    channels: Width = 32
    blocks: Layers = 1
    conditions: CountFrom0 = 0

    def __post_init__(self) -> None:
        check_options(self, 'network "unet"')


class UNet(nn.Module):
    """Flat images `(B, H·W·C)`, times `(B,)`, and classes `(B,)` where it takes them → `(B, H·W·C)`."""

    name: ClassVar[str] = "unet"
    Options: ClassVar[type] = UNetConfig

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        c = config.channels
        self.time = nn.Sequential(nn.Linear(64, c), nn.SiLU(), nn.Linear(c, c), nn.SiLU())
        self.condition = nn.Embedding(config.conditions + 1, c) if config.conditions else None
        if self.condition is not None:
            nn.init.zeros_(self.condition.weight)  # all classes are one at first
        # where a pixel is matters: pictures have edges
        self.position = nn.Parameter(torch.zeros(c, config.height, config.width))
        self.enter = nn.Conv2d(config.colours, c, 3, padding=1)
        self.down = nn.ModuleList(_Block(c, c) for _ in range(config.blocks))
        self.shrink = nn.Conv2d(c, 2 * c, 3, padding=1)
        self.middle = nn.ModuleList(_Block(2 * c, c) for _ in range(config.blocks))
        self.join = nn.Conv2d(3 * c, c, 1)
        self.up = nn.ModuleList(_Block(c, c) for _ in range(config.blocks))
        self.leave = nn.Sequential(nn.GroupNorm(1, c), nn.SiLU(), nn.Conv2d(c, config.colours, 3, padding=1))

    def blank(self) -> UNet:
        """Return a copy whose outputs start at zero."""
        return blank_copy(self, "leave.2")

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        config, dtype = self.config, self.position.dtype
        image = x.to(dtype).unflatten(1, (config.height, config.width, config.colours)).permute(0, 3, 1, 2)
        told = self.time(fourier_features(t, 64).to(dtype))
        if self.condition is not None:
            told = told + self.condition(classes(condition, config.conditions, x))
        h = self.enter(image) + self.position
        for block in self.down:
            h = block(h, told)
        low = self.shrink(F.avg_pool2d(h, 2, ceil_mode=True))
        for block in self.middle:
            low = block(low, told)
        h = self.join(torch.cat([h, F.interpolate(low, size=h.shape[-2:])], 1))
        for block in self.up:
            h = block(h, told)
        return self.leave(h).permute(0, 2, 3, 1).flatten(1)


class _Block(nn.Module):
    """Two convolutions around what the time says, and what went in."""

    def __init__(self, channels: int, told: int):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(1, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        self.shift = nn.Linear(told, channels)
        self.second = nn.Sequential(nn.GroupNorm(1, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        return h + self.second(self.first(h) + self.shift(told)[..., None, None])
