"""The encoder of BERT (Devlin et al. 2018), ESM-1b, ESM2 (Lin et al. 2023, Science 379:1123) and DPLM, by letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.core.activations import block as in_turn
from biotilt.errors import ConfigError
from biotilt.networks.lengths import shown_length, with_pads
from biotilt.networks.one_hot import as_one_hot
from biotilt.networks.transformer import rotated
from biotilt.options import Count, CountFrom0, Layers, Positive, Symbols, Width, check_options

MASKED_IN_TRAINING = 0.15 * 0.8  # the share of masks that all ESM models learned with


@dataclass(frozen=True)
class ESMConfig:
    """`tokens`: the network's token of each of V letters, and last of its mask; `first` and `last`: its tokens around.

    `vocabulary` tokens of `width` = hidden channels; `blocks` of `heads` and `hidden` channels between two layers.
    `positions`: the rows of a table of positions, of which `skipped` come before the first, and 0 for rotations.
    `token_dropout`: masks are shown as nothing, and what else is shown is scaled by how much is masked. `norm_before`:
    a norm after the embedding. `tied`: the last layer is the embedding. Logits are divided by `temperature`.
    `shortest` > 0: designs may be shorter, down to it. The last of their letters is then a pad, which ends a design and
    is never shown: V has one letter more than there are `tokens` of letters. `norm_after`: what is added is normalised
    after it was, as in BERT; else what comes in is, and all once more at the end.
    """

    tokens: tuple[CountFrom0, ...]
    first: tuple[CountFrom0, ...]
    last: tuple[CountFrom0, ...]
    vocabulary: Symbols
    width: Width
    blocks: Layers
    heads: Width
    hidden: Count
    positions: CountFrom0 = 0
    skipped: CountFrom0 = 0
    eps: Positive = 1e-5
    token_dropout: bool = False
    norm_before: bool = False
    tied: bool = True
    temperature: Positive = 1.0
    shortest: CountFrom0 = 0
    norm_after: bool = False

    def __post_init__(self) -> None:
        check_options(self, "network")
        parts = self.heads if self.positions else 2 * self.heads  # rotations turn pairs of channels
        if self.width % parts:
            raise ConfigError(f"network: width must be a multiple of {parts}, got {self.width}")
        if max((*self.tokens, *self.first, *self.last)) >= self.vocabulary:
            raise ConfigError(f"network: a token is none of {self.vocabulary}")


class ESM(nn.Module):
    """Letters and masks `(B, L)`, or their shares `(B, L, V+1)`, → logits of letters `(B, L, V)`, in float32."""

    reads_time: ClassVar[bool] = False

    def __init__(self, config: ESMConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Parameter(torch.zeros(config.positions, config.width)) if config.positions else None
        self.before = nn.LayerNorm(config.width, config.eps) if config.norm_before else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.Identity() if config.norm_after else nn.LayerNorm(config.width, config.eps)
        self.dense = nn.Linear(config.width, config.width)
        self.head_norm = nn.LayerNorm(config.width, config.eps)
        self.decoder = None if config.tied else nn.Parameter(torch.zeros(config.vocabulary, config.width))
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.ends = nn.Linear(config.width, 1) if config.shortest else None  # of pads, beyond what the state says
        self.register_buffer("frequency", None if config.positions else frequencies(config.width // config.heads))
        for name, tokens in (("tokens", config.tokens), ("first", config.first), ("last", config.last)):
            # on the CPU also where the rest has no memory yet
            self.register_buffer(name, torch.tensor(tokens, dtype=torch.long, device="cpu"), persistent=False)

    frequency: Tensor | None
    tokens: Tensor
    first: Tensor
    last: Tensor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        features = self.features(x, t)
        h = self.head_norm(F.gelu(self.dense(features)))
        letters = self.tokens[:-1]
        table = self.embed.weight if self.decoder is None else self.decoder
        logits = F.linear(h, table[letters], self.bias[letters]).float() / self.config.temperature
        if self.ends is None:
            return logits
        return with_pads(logits, self.ends(features).squeeze(-1).float(), x, self.config.shortest)

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """Return what the last layers read, `(B, L, width)`."""
        shown = None if self.ends is None else shown_length(x, len(self.tokens) - 1)
        h, seen = self._embedded(x, shown)
        h = self.before(h)
        angles = None if self.frequency is None else _angles(h.shape[1], self.frequency)
        for block in self.blocks:
            h = in_turn(block, h, angles, seen)
        ends = len(self.first), h.shape[1] - len(self.last)
        return self.norm(h)[:, ends[0] : ends[1]]

    def _embedded(self, x: Tensor, shown: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the embedding of designs and of what stands around them, `(B, L', width)`, and what of it is seen.

        `shown` `(B,)`: how many letters come before the first pad, where there may be pads; what stands after a design
        follows the last of them, and the rest is not seen, `(B, 1, 1, L')`.
        """
        weight = self.embed.weight
        one_hot, masks = self._read(x)
        table = weight[self.tokens]
        if self.config.token_dropout:
            table = torch.cat([table[:-1], torch.zeros_like(table[-1:])])
        ends = [weight[end].expand(len(x), -1, -1) for end in (self.first, self.last)]
        h = torch.cat([ends[0], one_hot @ table, ends[1]], 1)
        length: int | Tensor = h.shape[1]
        seen = None
        if shown is not None:
            place = torch.arange(h.shape[1], device=h.device)
            end, pads = (len(self.first) + shown).unsqueeze(1), (x.shape[1] - shown).unsqueeze(1)
            taken = torch.where(place < end, place, place + pads).clamp(max=h.shape[1] - 1)
            h = h.gather(1, taken.unsqueeze(-1).expand_as(h))
            length = end.squeeze(1) + len(self.last)
            seen = (place < length.unsqueeze(1))[:, None, None]
            masks = masks * (place[: x.shape[1]] < shown.unsqueeze(1))
        if self.config.token_dropout:
            left = (1 - masks.sum(-1) / length).clamp(min=1 / h.shape[1])  # where all is masked, nothing is scaled
            h = h * ((1 - MASKED_IN_TRAINING) / left)[:, None, None]
        if self.position is not None:
            h = h + self.position[self.config.skipped : self.config.skipped + h.shape[1]]
        return h, seen

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return shares of letters and mask `(B, L, tokens)`, without those of pads, and of the mask `(B, L)`."""
        pads = 0 if self.ends is None else 1
        one_hot = as_one_hot(x, len(self.tokens) + pads, self.embed.weight.dtype)
        masks = one_hot[..., -1]
        return torch.cat([one_hot[..., : len(self.tokens) - 1], masks.unsqueeze(-1)], -1), masks


class Block(nn.Module):
    """Attention and two layers, each added to what comes in; normalised before, or after."""

    def __init__(self, config: ESMConfig):
        super().__init__()
        width = config.width
        self.heads, self.after = config.heads, config.norm_after
        self.norms = nn.ModuleList(nn.LayerNorm(width, config.eps) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)

    def forward(self, h: Tensor, angles: tuple[Tensor, Tensor] | None, seen: Tensor | None = None) -> Tensor:
        """Return the new `h` `(B, L, C)`; `seen` `(B, 1, 1, L)` says which positions are looked at, None for all."""
        normed = h if self.after else self.norms[0](h)
        q, k, v = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        if angles is not None:
            q, k = rotated(q, angles), rotated(k, angles)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        if self.after:
            h = self.norms[0](h)
            return self.norms[1](h + self.down(F.gelu(self.up(h))))
        return h + self.down(F.gelu(self.up(self.norms[1](h))))


def frequencies(size: int, longest: float = 10_000.0) -> Tensor:
    """Return the frequencies of rotations of `size` channels, 1 to about 1/`longest`, `(size/2,)`."""
    return longest ** (-torch.arange(0, size, 2) / size)


def _angles(length: int, frequency: Tensor) -> tuple[Tensor, Tensor]:
    angle = torch.arange(length, device=frequency.device).unsqueeze(-1) * frequency.float()
    return angle.cos(), angle.sin()
