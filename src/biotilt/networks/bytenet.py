"""The ByteNet of CARP and EvoDiff (Yang et al. 2024; Kalchbrenner et al. 2016, arXiv 1610.10099)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.networks.convolution import Convolution
from biotilt.networks.one_hot import as_one_hot
from biotilt.options import Count, CountFrom0, Kernel, Layers, Positive, Symbols, Width, check_options


@dataclass(frozen=True)
class ByteNetConfig:
    """`tokens`: the network's token of each of V letters, and last of its mask, out of `vocabulary`.

    Tokens are embedded in `embedded` channels, then made `width`; `blocks` whose convolution has `hidden` channels, an
    odd `kernel`, and the dilation 2^(block mod `period`). Logits are divided by `temperature`.
    """

    tokens: tuple[CountFrom0, ...]
    vocabulary: Symbols
    embedded: Width
    width: Width
    hidden: Width
    blocks: Layers
    kernel: Kernel = 5
    period: Count = 8
    temperature: Positive = 1.0

    def __post_init__(self) -> None:
        check_options(self, "network")


class ByteNet(nn.Module):
    """Letters and masks `(B, L)`, or their shares `(B, L, V+1)`, → logits of letters `(B, L, V)`, in float32."""

    reads_time: ClassVar[bool] = False

    def __init__(self, config: ByteNetConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.embedded)
        self.start = nn.Linear(config.embedded, config.width)
        self.blocks = nn.ModuleList(Block(config, 2 ** (b % config.period)) for b in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary)
        # on the CPU also where the rest has no memory yet
        tokens = torch.tensor(config.tokens, dtype=torch.long, device="cpu")
        self.register_buffer("tokens", tokens, persistent=False)

    tokens: Tensor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        logits = self.head(self.features(x, t)).index_select(-1, self.tokens[:-1])
        return logits.float() / self.config.temperature

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """Return what the last layer reads, `(B, L, width)`."""
        weight = self.embed.weight
        h = self.start(as_one_hot(x, len(self.tokens), weight.dtype) @ weight[self.tokens])
        for block in self.blocks:
            h = block(h)
        return self.norm(h)


class Block(nn.Module):
    """A dilated convolution between two layers, normalised before each, added to what comes in."""

    def __init__(self, config: ByteNetConfig, dilation: int):
        super().__init__()
        sizes = (config.width, config.hidden, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes)
        self.into, self.out = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)
        padding = dilation * (config.kernel // 2)
        self.conv = Convolution(config.hidden, config.hidden, config.kernel, padding=padding, dilation=dilation)

    def forward(self, h: Tensor) -> Tensor:
        first, second, third = self.norms
        inside = nn.functional.gelu(second(self.into(nn.functional.gelu(first(h)))))
        mixed = self.conv(inside.transpose(1, 2)).transpose(1, 2)
        return h + self.out(nn.functional.gelu(third(mixed)))
