"""The network of MDLM on DNA (DRAKES, VIDD, SVDD, TR2-D2), after Stark et al. 2024: dilations in stacks, LayerNorm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.core.activations import block
from biotilt.errors import ConfigError
from biotilt.networks.blank import blank_copy
from biotilt.networks.cnn import NEAR
from biotilt.networks.convolution import Convolution
from biotilt.networks.one_hot import as_one_hot, classes
from biotilt.options import CountFrom0, Dilations, Flag, Inside, Kernel, Layers, Length, Symbols, Width, check_options

Schedule = Literal["loglinear", "mdlm_cosine", "mdlm_cosine_squared"]


@dataclass(frozen=True)
class DilatedCNNConfig:
    """`letters` V is the number of outputs a position; inputs have one more, the mask.

    `width` is even. A residual layer for each of `dilations`, `stacks` times in a row before the next one. With `time`
    the network is told the noise level σ of `schedule` and `eps`; without, it is always told σ = 0. With `conditions` =
    n > 0 it may be told one of n classes, or none, the class n.
    """

    letters: Symbols
    length: Length
    width: Width = 128
    stacks: Layers = 4
    kernel: Kernel = 9
    dilations: Dilations = (1, 1, 4, 16, 64)
    time: Flag = False
    schedule: Schedule = "loglinear"
    eps: Inside = 1e-3
    conditions: CountFrom0 = 0

    def __post_init__(self) -> None:
        check_options(self, 'network "dilated_cnn"')
        if self.width % 2:
            raise ConfigError(f'network "dilated_cnn": width must be even, got {self.width}')


class DilatedCNN(nn.Module):
    """Letters and masks `(B, L)`, times `(B,)`, classes `(B,)` where it takes them → logits `(B, L, V)`."""

    name: ClassVar[str] = "dilated_cnn"
    Options: ClassVar[type] = DilatedCNNConfig

    frequencies: Tensor

    def __init__(self, config: DilatedCNNConfig):
        super().__init__()
        self.config = config
        c, k = config.width, config.kernel
        dilations = [dilation for dilation in config.dilations for _ in range(config.stacks)]
        self.embed = Convolution(config.letters + 1, c, k, padding=k // 2)
        self.register_buffer("frequencies", 30 * torch.randn(c // 2))  # drawn once, and never trained
        self.time = nn.Linear(c, c)
        self.convs = nn.ModuleList(Convolution(c, c, k, padding=d * (k // 2), dilation=d) for d in dilations)
        self.times = nn.ModuleList(nn.Linear(c, c) for _ in dilations)
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in dilations)
        self.condition = nn.Embedding(config.conditions + 1, c) if config.conditions else None
        self.conditions = nn.ModuleList(nn.Linear(c, c) for _ in dilations if config.conditions)
        self.head = nn.Sequential(Convolution(c, c, 1), nn.ReLU(), Convolution(c, config.letters, 1))

    @property
    def reads_time(self) -> bool:
        return self.config.time

    def blank(self) -> DilatedCNN:
        """Return a copy whose outputs start at zero."""
        return blank_copy(self, "head.2")

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        rows = max(1, NEAR // (self.config.width * self.config.length))
        if len(x) <= rows or torch.is_grad_enabled() or x.device.type != "cpu":
            return self._logits(x, t, condition)
        told = [None] * len(x) if condition is None else condition.split(rows)
        return torch.cat([self._logits(*part) for part in zip(x.split(rows), t.split(rows), told)])

    def _logits(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        return self.head(self.features(x, t, condition).transpose(1, 2)).transpose(1, 2)

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what the last layers read, `(B, L, width)`."""
        # as in `CNN`: `(B, C, L)` by its shape, and `(B, L, C)` in memory
        one_hot = as_one_hot(x, self.config.letters + 1, self.frequencies.dtype).transpose(1, 2)
        h = F.relu(self.embed(one_hot))
        for shift, norm, conv in zip(self._shifts(x, t, condition), self.norms, self.convs):
            h = block(_residual, norm, conv, h, shift)
        return h.transpose(1, 2)

    def _shifts(self, x: Tensor, t: Tensor, condition: Tensor | None) -> list[Tensor]:
        """Return what each layer adds to all positions for time and class, `(B, C)`, or `(1, C)` for all rows."""
        level = noise_level(t, self.config.schedule, self.config.eps) if self.config.time else t.new_zeros(1)
        angles = 2 * math.pi * level.to(self.frequencies.dtype).unsqueeze(-1) * self.frequencies
        time = F.relu(self.time(torch.cat([angles.sin(), angles.cos()], -1)))
        shifts = [layer(time) for layer in self.times]
        if self.condition is None:
            return shifts
        told = self.condition(classes(condition, self.config.conditions, x))
        return [shift + layer(told) for shift, layer in zip(shifts, self.conditions)]


def _residual(norm: nn.Module, conv: nn.Module, h: Tensor, shift: Tensor) -> Tensor:
    normal = norm((h + shift.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2)
    return h + F.relu(conv(normal))


def noise_level(t: Tensor, schedule: Schedule, eps: float) -> Tensor:
    """Return σ(t) = −log a, with a = 1 − (1 − eps)(1 − clean(t)) the chance that a letter is clean; finite at t = 1."""
    if schedule == "loglinear":
        hidden = t
    elif schedule == "mdlm_cosine":
        hidden = 2 * (t * math.pi / 4).sin().square()
    else:
        hidden = (t * math.pi / 2).sin().square()
    return -torch.log1p(-(1 - eps) * hidden)
