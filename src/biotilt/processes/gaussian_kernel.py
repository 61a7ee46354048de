"""The kernels of continuous processes: independent gaussians on the coordinates that are free."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import (
    Centred,
    Divergence,
    Expecting,
    Factorised,
    Guessing,
    Mixable,
    Reparametrised,
    Tiltable,
)


@dataclass(frozen=True)
class GaussianDraws(Reparametrised, Guessing, Expecting):
    """Draws mean + std z on the free coordinates of points, of any width `std` ≥ 0; held ones stay at `x`.

    `x`, `mean`: `(B, ...)`; `design` is what the network says of the design, `x0`, and may have a shape of its own.
    `std` broadcasts to `x`: a number, one a row or one a coordinate. `held`, bool, broadcasts to `x`; None when every
    coordinate is free.
    """

    x: Tensor
    mean: Tensor
    std: Tensor
    design: Tensor
    held: Tensor | None = None

    @property
    def x0(self) -> Tensor:
        return self.design

    def sample(self, generator: Generator) -> Tensor:
        return self.rsample(generator).detach()

    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Draw `mean + std · z`, differentiable in both; a draw needs no relaxing, so `temperature` is not read."""
        z = torch.randn(self.x.shape, generator=generator, dtype=self.mean.dtype, device=self.x.device)
        y = self.mean + self.std * z
        return y if self.held is None else torch.where(self.held, self.x, y)

    def guess(self, generator: Generator | None = None) -> Tensor:
        """Return the posterior mean of the design; nothing is drawn."""
        return self.design

    def expected(self) -> Tensor:
        """Return the posterior mean of the design, with gradient to the state and the network."""
        return self.design

    def free(self, each: Tensor) -> Tensor:
        """Return values of each coordinate, shaped like the states, with 0 where a coordinate is held."""
        each = each.expand_as(self.x)
        return each if self.held is None else each.masked_fill(self.held, 0)


@dataclass(frozen=True)
class GaussianDensity(GaussianDraws, Factorised, Divergence, Tiltable, Mixable):
    """p(y|x) = N(mean, std² I), std > 0, on the free coordinates; held ones carry no log-prob."""

    def terms(self, y: Tensor) -> Tensor:
        """Log-density of each coordinate, `(B, number of coordinates)`; 0 where it is held."""
        each = -((y - self.mean) / self.std).square() / 2 - self.std.log() - math.log(2 * math.pi) / 2
        return self.free(each).flatten(1)

    def log_prob(self, y: Tensor) -> Tensor:
        return self.terms(y).sum(-1)

    def kl(self, other: Self) -> Tensor:
        """KL to a gaussian kernel at the same states, `(B,)`; the two may differ in `std`."""
        spread = (self.std / other.std).square() + ((self.mean - other.mean) / other.std).square()
        return self.free((spread - 1) / 2 + other.std.log() - self.std.log()).flatten(1).sum(-1)

    def tilted(self, q: Tensor) -> Self:
        """Times exp(q·y), `q` shaped like the states: the mean moves by std² q; `x0` stays."""
        return replace(self, mean=self.mean + self.std.square() * self.free(q))

    def mix(self, other: Self, weight: float) -> Self:
        """Geometric mixture ∝ self^(1−w) other^w with another kernel at the same states, w in [0, 1].

        Precisions are averaged, and means by precision; `design` is averaged, which is right when the two `std` agree.
        """
        ours, theirs = (1 - weight) / self.std.square(), weight / other.std.square()
        mean = (ours * self.mean + theirs * other.mean) / (ours + theirs)
        design = torch.lerp(self.design, other.design, weight)
        return replace(self, mean=mean, std=(ours + theirs).rsqrt(), design=design)


@dataclass(frozen=True)
class GaussianKernel(GaussianDensity, Centred):
    """The kernel of gaussian and flow: `std` depends on the step alone, and `design` is the design's posterior mean.

    >>> one = torch.zeros(1, 2)
    >>> kernel = GaussianKernel(one, one, torch.tensor(1.0), one, held=torch.tensor([False, True]))
    >>> kernel.terms(torch.tensor([[1.0, 0.0]]))
    tensor([[-1.4189, 0.0000]])
    """
