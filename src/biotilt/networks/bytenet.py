"""The ByteNet of CARP and EvoDiff (Yang et al. 2024; Kalchbrenner et al. 2016, arXiv 1610.10099)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.core.activations import block as in_turn
from biotilt.networks.convolution import Convolution
from biotilt.networks.lengths import shown_length, with_pads
from biotilt.networks.one_hot import as_one_hot
from biotilt.options import Count, CountFrom0, Kernel, Layers, Positive, Symbols, Width, check_options


@dataclass(frozen=True)
class ByteNetConfig:
    """`tokens`: the network's token of each of V letters, and last of its mask, out of `vocabulary`.

    Tokens are embedded in `embedded` channels, then made `width`; `blocks` whose convolution has `hidden` channels, an
    odd `kernel`, and the dilation 2^(block mod `period`). Logits are divided by `temperature`. `shortest` > 0: designs
    may be shorter, down to it; the last of their letters is then a pad, and V has one more than `tokens` of letters.
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
    shortest: CountFrom0 = 0

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
        self.ends = nn.Linear(config.width, 1) if config.shortest else None  # of pads, beyond what the state says
        # on the CPU also where the rest has no memory yet
        tokens = torch.tensor(config.tokens, dtype=torch.long, device="cpu")
        self.register_buffer("tokens", tokens, persistent=False)

    tokens: Tensor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        features = self.features(x, t)
        logits = self.head(features).index_select(-1, self.tokens[:-1]).float() / self.config.temperature
        if self.ends is None:
            return logits
        return with_pads(logits, self.ends(features).squeeze(-1).float(), x, self.config.shortest)

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """Return what the last layer reads, `(B, L, width)`."""
        weight, letters = self.embed.weight, len(self.tokens) - 1
        one_hot = as_one_hot(x, letters + (1 if self.ends is None else 2), weight.dtype)
        h = self.start(torch.cat([one_hot[..., :letters], one_hot[..., -1:]], -1) @ weight[self.tokens])
        seen = None
        if self.ends is not None:  # what comes after a design is as what comes after its last place: nothing
            shown = shown_length(x, letters).unsqueeze(1)
            seen = (torch.arange(x.shape[1], device=x.device) < shown).unsqueeze(-1).to(h.dtype)
        for block in self.blocks:
            h = in_turn(block, h, seen)
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

    def forward(self, h: Tensor, seen: Tensor | None) -> Tensor:
        """Return the new `h` `(B, L, C)`; `seen` `(B, L, 1)` is 1 where a design is, and 0 after it."""
        first, second, third = self.norms
        inside = nn.functional.gelu(second(self.into(nn.functional.gelu(first(h)))))
        inside = inside if seen is None else inside * seen
        mixed = self.conv(inside.transpose(1, 2)).transpose(1, 2)
        return h + self.out(nn.functional.gelu(third(mixed)))
