"""A chain of points whose steps are affine with gaussian noise: what a quadratic reward brings is known in closed form.

The noise takes every combination of signs once. Its first and second moments are those of a standard normal, so that
means of quadratic forms are exact sums over the batch, to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from biotilt.core import Batch, Kernel, Net, NetInput, Relaxable, Replay
from biotilt.processes.gaussian_kernel import GaussianKernel

SIZE, STEPS = 2, 3
STD = (0.9, 0.5, 0.3)
CROSS = torch.tensor([[0.7, 0.2], [0.2, 1.3]], dtype=torch.float64)
LINEAR = torch.tensor([0.8, -1.1], dtype=torch.float64)


def in_order(rows: Batch, count: int | None, generator: Generator) -> Batch:
    """Draw rows in their order, so that each start meets its own signs."""
    return {key: value[:count] for key, value in rows.items()}


class InOrder(Replay):
    """Rows are drawn in their order."""

    def draw(self, count: int | None, generator: Generator) -> Batch:
        return in_order(self.rows, count, generator)


@dataclass(frozen=True)
class SignKernel(GaussianKernel):
    """Draws with signs in place of normal noise."""

    signs: Tensor | None = None

    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        assert self.signs is not None and len(self.signs) == len(self.x)
        return self.mean + self.std * self.signs


@dataclass(frozen=True)
class Signs(Relaxable):
    """x[0] and the K steps take D signs each: 2^(D (K+1)) chains are all of them."""

    name: ClassVar[str] = "signs"
    kernel_type: ClassVar[type[Kernel]] = SignKernel

    @property
    def steps(self) -> int:
        return STEPS

    @property
    def count(self) -> int:
        return 2 ** (SIZE * (STEPS + 1))

    def _signs(self, k: int) -> Tensor:
        bits = torch.arange(self.count).unsqueeze(-1) >> torch.arange(k * SIZE, (k + 1) * SIZE)
        return (2 * (bits & 1) - 1).to(torch.float64)

    def noise(self, batch: int, generator: Generator) -> Tensor:
        assert batch == self.count
        return self._signs(STEPS)

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        return NetInput(x, 1 - torch.as_tensor(k).expand(len(x)) / STEPS)

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> SignKernel:
        """`k` is an int where draws are made; rows of a loss have a step each, and are not drawn from."""
        std = torch.tensor(STD, dtype=torch.float64)[torch.as_tensor(k).expand(len(x))].unsqueeze(-1)
        return SignKernel(x, output, std, output, None, self._signs(k) if isinstance(k, int) else None)

    def relaxed(self, x: Tensor) -> Tensor:
        return x

    def relaxed_design(self, x: Tensor) -> Tensor:
        return x

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        raise NotImplementedError

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        raise NotImplementedError


class AffineNet(nn.Module):
    """States `(B, D)` and times `(B,)` = 1 − k/K → means `(B, D)`: `slope[k]` x + `shift[k]`."""

    def __init__(self, slope: Tensor, shift: Tensor):
        super().__init__()
        self.slope, self.shift = nn.Parameter(slope), nn.Parameter(shift)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        k = ((1 - t) * STEPS).round().long()
        return torch.einsum("bij,bj->bi", self.slope[k], x) + self.shift[k]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def base_net() -> AffineNet:
    return AffineNet(normal(STEPS, SIZE, SIZE, seed=1) * 0.6, normal(STEPS, SIZE, seed=2) * 0.4)


def moved(net: AffineNet, size: float) -> AffineNet:
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.slope += size * normal(STEPS, SIZE, SIZE, seed=3)
        other.shift += size * normal(STEPS, SIZE, seed=4)
    return other


def objective_in_closed_form(net: AffineNet, base: AffineNet, alpha: float, last: int = STEPS) -> Tensor:
    """J = E r − α Σ KL for r = b·x − ½ xᵀAx, from the mean and covariance of every state, with gradient.

    With `last` < K, that of the last steps from the law of x[K−last], taken as given.
    """
    mean, covariance = torch.zeros(SIZE, dtype=torch.float64), torch.eye(SIZE, dtype=torch.float64)
    kl = torch.zeros((), dtype=torch.float64)
    for k in range(STEPS):
        if k == STEPS - last:
            mean, covariance, kl = mean.detach(), covariance.detach(), torch.zeros_like(kl)
        slope, shift = net.slope[k] - base.slope[k].detach(), net.shift[k] - base.shift[k].detach()
        away = slope @ mean + shift
        kl = kl + (away @ away + (slope @ covariance @ slope.T).trace()) / (2 * STD[k] ** 2)
        mean = net.slope[k] @ mean + net.shift[k]
        covariance = net.slope[k] @ covariance @ net.slope[k].T + STD[k] ** 2 * torch.eye(SIZE, dtype=torch.float64)
    reward = LINEAR @ mean - (mean @ CROSS @ mean + (CROSS @ covariance).trace()) / 2
    return reward - alpha * kl


def optimum(base: AffineNet, alpha: float) -> AffineNet:
    """The maximiser of J among affine kernels, for r = b·x − ½ xᵀAx."""
    return AffineNet(*optimal_means(base.slope.detach(), base.shift.detach(), STD, CROSS / alpha, LINEAR / alpha))


def optimal_means(
    slope: Tensor, shift: Tensor, std: Sequence[float], curve: Tensor, push: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes `(K, D, D)` and shifts `(K, D)` of the best means, from those of the base.

    Backward recursion on the policy's own value W_k(x) = −½ xᵀPx + h·x in units of α, from P = `curve`, h = `push`:
    m = argmax_m W_{k+1}(m) − |m − μ|²/2σ², so (σ² P + 1) m = μ + σ² h.
    """
    slopes, shifts = [], []
    for k in reversed(range(len(slope))):
        variance = std[k] ** 2
        gain = (variance * curve + torch.eye(len(push), dtype=torch.float64)).inverse()
        slopes.append(gain @ slope[k])
        shifts.append(gain @ (shift[k] + variance * push))
        # the envelope: ∇W_k(x) = (∂μ/∂x)ᵀ (m − μ)/σ², with m − μ affine in x
        curve = -slope[k].T @ (slopes[-1] - slope[k]) / variance
        push = slope[k].T @ (shifts[-1] - shift[k]) / variance
    return torch.stack(slopes[::-1]), torch.stack(shifts[::-1])
