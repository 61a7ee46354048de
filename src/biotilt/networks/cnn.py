"""Dilated residual convolutions, as in the DNA models of MDLM and DRAKES (after Stark et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.core.activations import block
from biotilt.networks.blank import blank_copy
from biotilt.networks.convolution import Convolution
from biotilt.networks.one_hot import as_one_hot, classes
from biotilt.options import CountFrom0, Dilations, Kernel, Layers, Length, Symbols, Width, check_options

NEAR = 800_000  # numbers of a layer that stay near the processor: where no gradient is kept, rows go through by so many


@dataclass(frozen=True)
class CNNConfig:
    """`letters` V is the number of outputs a position; inputs have one more, the mask.

    `channels` ≥ 1, `blocks` ≥ 1, odd `kernel`; block b is dilated by `dilations[b % len]`. With `time` the
    network is told the time; without, it reads the noise level off the masks. With `conditions` = n > 0 it may be told
    one of n classes, or none, the class n.
    """

    letters: Symbols
    length: Length
    channels: Width = 96
    blocks: Layers = 6
    kernel: Kernel = 7
    dilations: Dilations = (1, 2, 4)
    time: bool = False
    conditions: CountFrom0 = 0

    def __post_init__(self) -> None:
        check_options(self, 'network "cnn"')


class CNN(nn.Module):
    """Letters and masks `(B, L)`, times `(B,)`, classes `(B,)` where it takes them → logits `(B, L, V)`."""

    name: ClassVar[str] = "cnn"
    Options: ClassVar[type] = CNNConfig

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.config = config
        c, k = config.channels, config.kernel
        self.embed = Convolution(config.letters + 1, c, k, padding=k // 2)
        # where a position is matters: these molecules have ends (a start codon, a promoter)
        self.position = nn.Parameter(torch.zeros(c, config.length))
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for _ in range(config.blocks))
        self.convs = nn.ModuleList(
            Convolution(c, c, k, padding=d * (k // 2), dilation=d)
            for d in (config.dilations[b % len(config.dilations)] for b in range(config.blocks))
        )
        self.time = nn.Sequential(nn.Linear(64, c), nn.SiLU(), nn.Linear(c, c)) if config.time else None
        self.condition = nn.Embedding(config.conditions + 1, c) if config.conditions else None
        if self.condition is not None:
            nn.init.zeros_(self.condition.weight)  # all classes are one at first
        last = Convolution(c, config.letters, 1)
        self.head = nn.Sequential(nn.GroupNorm(1, c), Convolution(c, c, 1), nn.GELU(), last)

    @property
    def reads_time(self) -> bool:
        return self.config.time

    def blank(self) -> CNN:
        """Return a copy whose outputs start at zero."""
        return blank_copy(self, "head.3")

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        rows = max(1, NEAR // self.position.numel())
        if len(x) <= rows or torch.is_grad_enabled() or x.device.type != "cpu":
            return self._logits(x, t, condition)
        told = [None] * len(x) if condition is None else condition.split(rows)
        return torch.cat([self._logits(*part) for part in zip(x.split(rows), t.split(rows), told)])

    def _logits(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        norm, *rest = self.head
        h = _normalised(norm, self.features(x, t, condition).transpose(1, 2))
        for layer in rest:
            h = layer(h)
        return h.transpose(1, 2)

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what the last layers read, `(B, L, channels)`."""
        # everything here is `(B, channels, L)` by its shape, and `(B, L, channels)` in memory: see `Convolution`
        one_hot = as_one_hot(x, self.config.letters + 1, self.position.dtype).transpose(1, 2)
        h = F.gelu(self.embed(one_hot)) + self.position
        shift: Tensor | None = None
        if self.time is not None:
            shift = self.time(fourier_features(t, 64).to(one_hot.dtype)).unsqueeze(-1)
        if self.condition is not None:
            told = self.condition(classes(condition, self.config.conditions, x)).unsqueeze(-1)
            shift = told if shift is None else shift + told
        for norm, conv in zip(self.norms, self.convs):
            h = block(_residual, norm, conv, h, shift)
        return h.transpose(1, 2)


def _residual(norm: nn.Module, conv: nn.Module, h: Tensor, shift: Tensor | None) -> Tensor:
    normal = _normalised(norm, h)
    return h + F.gelu(conv(normal if shift is None else normal + shift))


def _normalised(norm: nn.Module, h: Tensor) -> Tensor:
    """Return what a norm makes of `(B, C, L)`, in the order that it has in memory."""
    return norm(h.unsqueeze(2)).squeeze(2)


def fourier_features(t: Tensor, dim: int) -> Tensor:
    """Return sines and cosines `(B, dim)` of times `(B,)` in [0, 1] at geometrically spaced frequencies."""
    frequencies = torch.exp(torch.arange(dim // 2, device=t.device) * (math.log(1000.0) / (dim // 2 - 1)))
    angles = t.unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
