"""A transformer of letters, told where they are by rotations (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.core.activations import block as in_turn
from biotilt.errors import ConfigError
from biotilt.networks.cnn import fourier_features
from biotilt.networks.one_hot import as_one_hot, classes
from biotilt.options import CountFrom0, Layers, Length, Symbols, Width, check_options


@dataclass(frozen=True)
class TransformerConfig:
    """`letters` V is the number of outputs a position; inputs have one more, the mask.

    `width` ≥ 2, in `heads` parts of an even size; `blocks` ≥ 1. With `time` the network is told the time; without, it
    reads the noise level off the masks. Rotations tell how far apart letters are; with `positions` it is also told
    where each one is, without which all masks look the same. `pad`: a letter that stands for nothing, which no other
    position looks at. With `conditions` = n > 0 it may be told one of n classes, or none, the class n.
    """

    letters: Symbols
    length: Length
    width: Width = 128
    blocks: Layers = 6
    heads: Width = 4
    time: bool = False
    positions: bool = False
    pad: CountFrom0 | None = None
    conditions: CountFrom0 = 0

    def __post_init__(self) -> None:
        check_options(self, 'network "transformer"')
        if self.width % (2 * self.heads):
            raise ConfigError(
                f'network "transformer": width must be a multiple of 2 · heads = {2 * self.heads}, got {self.width}'
            )
        if self.pad is not None and self.pad >= self.letters:
            raise ConfigError(f'network "transformer": pad must be one of {self.letters} letters, got {self.pad}')


class Transformer(nn.Module):
    """Letters and masks `(B, L)`, times, classes `(B,)` → logits `(B, L, V)`, in float32 whatever the weights are."""

    name: ClassVar[str] = "transformer"
    Options: ClassVar[type] = TransformerConfig

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.letters + 1, config.width)
        self.position = nn.Parameter(0.02 * torch.randn(config.length, config.width)) if config.positions else None
        self.time = nn.Linear(64, config.width) if config.time else None
        self.condition = nn.Embedding(config.conditions + 1, config.width) if config.conditions else None
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.blocks))
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.letters))

    @property
    def reads_time(self) -> bool:
        return self.config.time

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.head(self.features(x, t, condition)).float()

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what the last layer reads, `(B, L, width)`."""
        dtype = self.embed.weight.dtype
        one_hot = as_one_hot(x, self.config.letters + 1, dtype)
        h = self.embed(one_hot)
        if self.position is not None:
            h = h + self.position
        if self.time is not None:
            h = h + self.time(fourier_features(t, 64).to(dtype)).unsqueeze(1)
        if self.condition is not None:
            h = h + self.condition(classes(condition, self.config.conditions, x)).unsqueeze(1)
        seen = None if self.config.pad is None else _seen(one_hot[..., self.config.pad] > 0.5)
        angles = rotations(x.shape[1], self.config.width // self.config.heads, x.device)
        for block in self.blocks:
            h = in_turn(block, h, angles, seen)
        return h


class Block(nn.Module):
    """Attention and two linear layers, each added to what comes in; normalised before, not after."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor, angles: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        """Return the new `h` `(B, L, C)`; `seen` `(B, 1, L, L)` says which positions (last) each one looks at."""
        normed = self.norms[0](h)
        q, k, v = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(rotated(q, angles), rotated(k, angles), v, attn_mask=seen)
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + self.down(F.gelu(self.up(self.norms[1](h))))


def rotations(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines `(length, size/2)`, float32, of position times frequency, 1 to 1/10,000."""
    frequency = 10_000.0 ** (-torch.arange(0, size, 2, device=device) / size)
    angle = torch.arange(length, device=device).unsqueeze(-1) * frequency
    return angle.cos(), angle.sin()


def rotated(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Return `x` `(..., L, C)` with each pair of channels (i, i + C/2) turned by the angle of its position."""
    cos, sin = angles
    a, b = x.float().chunk(2, -1)  # in 16 bits, angles of far positions would be rounded away
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def _seen(pads: Tensor) -> Tensor:
    """Return `(B, 1, L, L)`: all but pads `(B, L)` are looked at, and a pad by itself, so that no row is empty."""
    own = torch.eye(pads.shape[1], dtype=torch.bool, device=pads.device)
    return (~pads.unsqueeze(1) | own).unsqueeze(1)
