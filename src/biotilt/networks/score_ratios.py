"""The network of D3 (Sarkar et al. 2024): score ratios (SEDD, Lou et al. 2023, arXiv 2310.16834), made letters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.core.activations import block
from biotilt.networks.convolution import Convolution
from biotilt.networks.one_hot import as_one_hot
from biotilt.options import Dilations, Flag, Kernel, Layers, Length, Positive, Symbols, Width, check_options

LEAST = 1e-12  # a chance of nothing, as a number with a logarithm
TELLS = 1e-5  # below this share of clean letters ratios in 32 bits say nothing of them
FREQUENCIES = 128  # of the noise level, from 1 down to about 1/10,000


@dataclass(frozen=True)
class ScoreRatiosConfig:
    """`letters` V of designs of `length`; `width` channels, and `told` channels of the noise level.

    `dilations`, in turn, `stacks` times over. Noise goes from `low` to `high` = σ, geometrically in time. `number`: the
    network may be told a number for each design, as one more channel of its input; 0 where it is not.
    """

    letters: Symbols
    length: Length
    width: Width = 256
    told: Width = 128
    stacks: Layers = 4
    kernel: Kernel = 9
    dilations: Dilations = (1, 1, 4, 16, 64)
    low: Positive = 1e-4
    high: Positive = 20.0
    number: Flag = True

    def __post_init__(self) -> None:
        check_options(self, 'network "score_ratios"')


class ScoreRatios(nn.Module):
    """Letters and masks `(B, L)`, times `(B,)`, numbers `(B,)` where it is told some → logits of letters `(B, L, V)`.

    What it computes are log ratios s_y = log p_t(x with y at i) / p_t(x), where letters are clean with chance
    exp(−σ(t)) and else drawn anew (`ratios`); they are made letters of the design by `letters_of_ratios`. Where a mask
    is shown nothing is known: all letters alike.
    """

    name: ClassVar[str] = "score_ratios"
    Options: ClassVar[type] = ScoreRatiosConfig
    reads_time: ClassVar[bool] = True

    def __init__(self, config: ScoreRatiosConfig):
        super().__init__()
        self.config = config
        c, k = config.width, config.kernel
        dilations = [dilation for _ in range(config.stacks) for dilation in config.dilations]
        self.embed = Convolution(config.letters + int(config.number), c, k, padding=k // 2)
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, config.told), nn.SiLU(), nn.Linear(config.told, config.told)
        )
        self.convs = nn.ModuleList(Convolution(c, c, k, padding=d * (k // 2), dilation=d) for d in dilations)
        self.times = nn.ModuleList(nn.Linear(config.told, c) for _ in dilations)
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for _ in dilations)
        self.head = nn.Sequential(Convolution(c, c, 1), nn.GELU(), Convolution(c, config.letters, 1))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self._letters(x, t, condition)[0]

    def clipped(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the share `(B,)` of chances of letters that came out negative, and were taken for nothing.

        There are none where the ratios are those of a law, so this tells how far they are from any.
        """
        return self._letters(x, t, condition)[1].double().mean((1, 2))

    def ratios(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return log s_y `(B, L, V)` for each letter y in the place of the one that is there, whose own is 0."""
        found = self.head(self.features(x, t, condition).transpose(1, 2)).transpose(1, 2).float()
        return found * (1 - as_one_hot(x, self.config.letters + 1, found.dtype)[..., :-1])

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what the last layers read, `(B, L, width)`."""
        dtype = self.embed.weight.dtype
        shown = as_one_hot(x, self.config.letters + 1, dtype)[..., :-1]
        if self.config.number:
            number = shown.new_zeros(len(x)) if condition is None else condition.to(dtype)
            shown = torch.cat([shown, number.view(-1, 1, 1).expand(-1, x.shape[1], 1)], -1)
        h = F.silu(self.embed(shown.transpose(1, 2)))
        time = F.silu(self.time(_waves(self._noise(t)).to(dtype)))
        for layer, norm, conv in zip(self.times, self.norms, self.convs):
            h = block(_residual, norm, conv, h, layer(time))
        return h.transpose(1, 2)

    def _noise(self, t: Tensor) -> Tensor:
        """Return σ(t) = low^(1−t) high^t, `(B,)`."""
        low, high = math.log(self.config.low), math.log(self.config.high)
        return ((1 - t) * low + t * high).exp()

    def _letters(self, x: Tensor, t: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits of letters, and where a chance was clipped, both `(B, L, V)`."""
        ratios = self.ratios(x, t, condition)
        there = as_one_hot(x, self.config.letters + 1, ratios.dtype)
        logits, clipped = letters_of_ratios(ratios, there[..., :-1], (-self._noise(t)).exp())
        known = 1 - there[..., -1:]
        return logits * known, clipped & (known > 0)


def letters_of_ratios(log_ratios: Tensor, there: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p(x0_i = a | x_t) `(B, L, V)`, from ratios of noised laws; and where that came out below 0.

    A letter is clean with chance `clean` = α `(B,)`, else drawn anew, so Q = α 1 + (1 − α)/V. Ratios s_y, as functions
    of the letter at i, are Q m up to a factor, m_a = P(x0_i = a and all else of x_t). So (Tweedie, for each position)

        p(x0_i = a | x_t) ∝ (Q⁻¹ s)_a Q(x_i | a),    (Q⁻¹ s)_a ∝ s_a / Σ s − (1 − α)/V.

    `log_ratios` `(B, L, V)`, 0 for the letter that is there; `there` `(B, L, V)`: that letter, one-hot or relaxed.
    Ratios of a law never give less than 0; what does is clipped. Where α < 1e-5 all letters are alike: a step depends
    on them by less than that.

    >>> s = torch.tensor([[[1.0, 0.5]]])  # the letter 0 is there, and the other half as likely
    >>> found, clipped = letters_of_ratios(s.log(), torch.tensor([[[1.0, 0.0]]]), torch.tensor([0.5]))
    >>> found.exp(), bool(clipped.any())  # m ∝ (2/3 − 1/4, 1/3 − 1/4) = (5, 1)/12, Q = (3, 1)/4
    (tensor([[[0.9375, 0.0625]]]), False)
    """
    letters = log_ratios.shape[-1]
    clean = clean.to(log_ratios.dtype).view(-1, 1, 1)
    anew, tells = (1 - clean) / letters, clean >= TELLS
    share = (log_ratios.softmax(-1) - anew) / clean
    log_share = share.clamp(min=LEAST).log()
    log_letters = (log_share + (clean * there + anew).clamp(min=LEAST).log()).log_softmax(-1)
    alike = torch.full_like(log_letters, -math.log(letters))
    return torch.where(tells, log_letters, alike), (share < 0) & tells


def _waves(noise: Tensor) -> Tensor:
    """Return cosines and sines of noise levels `(B,)`, `(B, 2 FREQUENCIES)`."""
    places = torch.arange(FREQUENCIES, dtype=torch.float32, device=noise.device)
    angles = noise.float().unsqueeze(-1) * (-math.log(10_000) * places / FREQUENCIES).exp()
    return torch.cat([angles.cos(), angles.sin()], -1)


def _residual(norm: nn.Module, conv: nn.Module, h: Tensor, shift: Tensor) -> Tensor:
    return h + F.silu(conv(norm(h + shift.unsqueeze(-1))))
