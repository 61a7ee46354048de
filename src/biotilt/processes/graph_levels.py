"""Levels of noise of the two parts of a graph, nodes and edges, and the coefficients of the steps between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noising:
    """x_t = a(t) x_0 + s(t) ε, t in [0, 1]: "ve", s from `low` to `high` with a = 1; "vp", β from `low` to `high`."""

    law: str
    low: float
    high: float

    def signal(self, t: Tensor) -> Tensor:
        """Return a(t), elementwise."""
        return torch.ones_like(t) if self.law == "ve" else (-self._half_integral(t)).exp()

    def spread(self, t: Tensor) -> Tensor:
        """Return s(t), elementwise."""
        if self.law == "ve":
            return self.low * (self.high / self.low) ** t
        return (-torch.expm1(-2 * self._half_integral(t))).sqrt()

    @property
    def start(self) -> float:
        """The std of x[0]: s(1), or 1, which β keeps."""
        return self.high if self.law == "ve" else 1.0

    def levels(self, time: Tensor, remainder: float) -> tuple[Tensor, Tensor]:
        """Return a and s at times `(K,)` and of designs, `(K+1,)`: s there is `remainder` times the last one."""
        a, s = self.signal(time), self.spread(time)
        end = remainder * s[-1:]
        clean = torch.ones_like(end) if self.law == "ve" else (1 - end.square()).sqrt()
        return torch.cat([a, clean]), torch.cat([s, end])

    def _half_integral(self, t: Tensor) -> Tensor:
        return (self.low * t + (self.high - self.low) * t.square() / 2) / 2


class Chain(NamedTuple):
    """Coefficients of the S steps, float64, for nodes and edges in the last axis."""

    start: Tensor  # (2,) std of x[0]
    time: Tensor  # (S+1,)
    signal: Tensor  # (S+1, 2)
    spread: Tensor  # (S+1, 2)
    of_x0: Tensor  # (S, 2) of x̂_0 in the mean of x[k+1]
    of_eps: Tensor  # (S, 2) of ε̂ in the mean of x[k+1]
    std: Tensor  # (S, 2) of x[k+1]
    recall: Tensor  # (S, 2) of ε̂ in the mean of the design


class Bridge(NamedTuple):
    """The noising of a given design y: x[k] = signal y + spread ε, and x[k+1] given both."""

    signal: Tensor  # (S+1, 2)
    spread: Tensor  # (S+1, 2)
    carry: Tensor  # (S, 2) of ε in the mean of x[k+1]
    constant: Tensor  # (2,) of the bound, nats a coordinate
    chance: Tensor  # (S,) of drawing the step k for the loss


@dataclass(frozen=True)
class Steps:
    """The order of a chain: K levels of noise and the design's, with a corrector at each level where `snr` > 0.

    A predictor goes from a level to the next one, a corrector stays. `blank`: the first step, a predictor, reads
    nothing of x[0]. `reverse`: predictors are as noisy as the noising itself, but for the one that makes the design.
    """

    parts: tuple[Noising, Noising]
    levels: int
    remainder: float
    blank: bool
    reverse: bool
    snr: float
    loudness: float

    @property
    def places(self) -> list[int]:
        """The level of each state x[0] … x[S]."""
        count = self.levels + 1
        if self.snr == 0:
            return list(range(count))
        twice = [level for level in range(count - 1) for _ in range(2)]
        return [*twice[int(self.blank) :], count - 1]

    @property
    def count(self) -> int:
        """The number of steps, S."""
        return self.levels if self.snr == 0 else 2 * self.levels - int(self.blank)

    def chain(self) -> Chain:
        time = 1 - torch.arange(self.levels, dtype=torch.float64) / self.levels
        grids = [part.levels(time, self.remainder) for part in self.parts]
        at = torch.tensor(self.places)
        a, s = (torch.stack(each, -1)[at] for each in zip(*grids))
        ratio = a[:-1] / a[1:]  # a_t/a_s ≤ 1
        moved = s[:-1].square() - (ratio * s[1:]).square()  # variance that the noising adds
        std = s[1:] / s[:-1] * moved.clamp(min=0).sqrt()
        if self.blank:
            std[0] = s[1]
        of_x0, of_eps = a[1:].clone(), _rest(s[1:], std)
        if self.reverse:
            wide = ~self._corrects
            wide[-1] = False
            wide[0] &= not self.blank
            rows = wide.nonzero().squeeze(-1)
            std[rows] = moved[rows].sqrt()
            of_x0[rows] = (2 - ratio[rows]) * a[rows]
            of_eps[rows] = (2 - ratio[rows]) * s[rows] - moved[rows] / s[rows]
        rows = self._corrects.nonzero().squeeze(-1)
        step = self._langevin(a, s)[rows]
        of_x0[rows], of_eps[rows] = a[rows], s[rows] - step / s[rows]
        std[rows] = (2 * step).sqrt() * self.loudness
        recall = a[:-1] / a[-1] * s[-1].square() / s[:-1]
        start = torch.tensor([part.start for part in self.parts], dtype=torch.float64)
        return Chain(start, torch.cat([time, time.new_zeros(1)])[at], a, s, of_x0, of_eps, std, recall)

    def bridge(self, chain: Chain, shares: Tensor) -> Bridge:
        """Return the noising of designs; `shares` `(2,)`: how many coordinates are of each part, in sum 1."""
        a = chain.signal / chain.signal[-1]
        s = (chain.spread.square() - (a * chain.spread[-1]).square()).clamp(min=0).sqrt()
        std = s[1:] / s[:-1] * (s[:-1].square() - (a[:-1] / a[1:] * s[1:]).square()).clamp(min=0).sqrt()
        rows = self._corrects.nonzero().squeeze(-1)
        kept = (1 - self._langevin(chain.signal, chain.spread)[rows] / s[rows].square()).clamp(min=0)
        std[rows] = s[rows] * (1 - kept.square()).sqrt()
        if self.blank:
            std[0], a[0], s[0] = s[1], 0.0, chain.start
        carry = _rest(s[1:], std)
        ratio = (std / chain.std)[:-1]
        constant = ((ratio.square() - 1) / 2 - ratio.log()).sum(0) + chain.std[-1].log() + math.log(2 * math.pi) / 2
        # the size of each term for data of unit variance: how far y moves the mean, times what x[k] leaves open of y
        due = ((a[1:] - carry * a[:-1] / s[:-1]) / chain.std).square() * (s.square() / (a.square() + s.square()))[:-1]
        due = (due * shares).sum(-1)
        # half of the draws are uniform, so that no weight exceeds 2 S whatever the data
        return Bridge(a, s, carry, constant, (due / due.sum() + 1 / self.count) / 2)

    @property
    def _corrects(self) -> Tensor:
        """Which steps `(S,)` are correctors."""
        places = torch.tensor(self.places)
        return places[1:] == places[:-1]

    def _langevin(self, a: Tensor, s: Tensor) -> Tensor:
        """Return the step sizes h `(S, 2)` of correctors at each state: 2 (a_t/a_s)² (snr · s_t)², s the next level."""
        after = torch.cat([a[2:], a[-1:]])  # the level after that of a corrector, which stands two states on
        return 2 * (a[:-1] / after * self.snr * s[:-1]).square()


def _rest(spread: Tensor, std: Tensor) -> Tensor:
    return (spread.square() - std.square()).clamp(min=0).sqrt()
