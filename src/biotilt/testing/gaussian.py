"""Exact answers for points: mixtures of gaussians, their denoiser, their tilt, and how far two samples are apart."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from biotilt.core.policy import Policy
from biotilt.processes.gaussian_kernel import GaussianDraws
from biotilt.processes.gaussian_path import GaussianPath


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of J gaussians on points `(N, D)`, in float64.

    `weights` `(J,)`, positive, summing to 1; `means` `(J, D)`; `covariances` `(J, D, D)`, symmetric, eigenvalues ≥ 0.

    Raises:
        ValueError: shapes that disagree, weights that do not sum to 1, or a covariance that is none.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        for field in ("weights", "means", "covariances"):
            object.__setattr__(self, field, getattr(self, field).double())
        count, size = self.means.shape
        if self.weights.shape != (count,) or self.covariances.shape != (count, size, size):
            raise ValueError(
                f"weights (J,), means (J, D) and covariances (J, D, D) disagree: {tuple(self.weights.shape)}, "
                f"{tuple(self.means.shape)}, {tuple(self.covariances.shape)}"
            )
        if not (self.weights > 0).all() or abs(self.weights.sum().item() - 1) > 1e-6:
            raise ValueError(f"weights must be positive and sum to 1, got {self.weights.tolist()}")
        symmetric = torch.allclose(self.covariances, self.covariances.mT)
        if not symmetric or self._spectrum[0].min() < -1e-9:
            raise ValueError("covariances must be symmetric, with no eigenvalue below 0")

    def sample(self, count: int, generator: Generator) -> Tensor:
        """Return `count` points `(count, D)`."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        z = torch.randn(count, self.means.shape[1], dtype=torch.float64, generator=generator)
        values, vectors = self._spectrum
        return self.means[which] + torch.einsum("bij,bj->bi", vectors[which], values.clamp(min=0).sqrt()[which] * z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of points, `(N,)`; covariances must be positive definite."""
        one = x.new_ones(len(x), dtype=torch.float64)
        return self._components(x.double(), one, 0 * one)[0].logsumexp(-1)

    def denoise(self, x: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
        """Return E[x_0 | x] `(N, D)` of x = a x_0 + s ε, with a = `signal` and s = `spread` `(N,)`; differentiable."""
        log_joint, projected, widths = self._components(x.double(), signal.double(), spread.double())
        values, vectors = self._spectrum
        gain = signal.double().view(-1, 1, 1) * values / widths
        means = self.means + torch.einsum("jde,bje->bjd", vectors, gain * projected)
        return torch.einsum("bj,bjd->bd", log_joint.softmax(-1), means)

    def noised(self, signal: float, spread: float) -> Mixture:
        """Return the law of a x + s ε, a = `signal`, s = `spread`."""
        eye = torch.eye(self.means.shape[1], dtype=torch.float64)
        return Mixture(self.weights, signal * self.means, signal**2 * self.covariances + spread**2 * eye)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the mean `(D,)` and the covariance `(D, D)`."""
        mean = self.weights @ self.means
        away = self.means - mean
        return mean, torch.einsum("j,jde->de", self.weights, self.covariances + away.unsqueeze(-1) * away.unsqueeze(-2))

    def tilted(self, linear: Tensor, quadratic: Tensor, alpha: float) -> tuple[Mixture, float]:
        """Return the law ∝ p exp(r/α), and log Z, for the reward r(x) = b·x − ½ xᵀ A x.

        `linear` b `(D,)`; `quadratic` A `(D, D)`, symmetric; `alpha` > 0; covariances positive definite. Each
        component stays gaussian: precision P + A/α, and its weight is multiplied by its own Z.

        Raises:
            ValueError: exp(r/α) has no integral, because A bends the wrong way.
        """
        precision = self.covariances.inverse()
        after = precision + quadratic.double() / alpha
        if torch.linalg.eigvalsh(after).min() <= 0:
            raise ValueError("exp(r/α) has no integral under the mixture: raise alpha, or the eigenvalues of A")
        covariances = after.inverse()
        push = torch.einsum("jde,je->jd", precision, self.means) + linear.double() / alpha
        means = torch.einsum("jde,je->jd", covariances, push)
        energy = (push * means).sum(-1) - torch.einsum("jd,jde,je->j", self.means, precision, self.means)
        log_each = self.weights.log() + (energy + covariances.logdet() - self.covariances.logdet()) / 2
        return Mixture(log_each.softmax(0), means, covariances), log_each.logsumexp(0).item()

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.covariances)
        return values, vectors

    def _components(self, x: Tensor, signal: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log w_j N(x; a m_j, a² C_j + s²) `(N, J)`, x − a m_j in the axes of C_j, and the variances there."""
        values, vectors = self._spectrum
        a, s = signal.view(-1, 1, 1), spread.view(-1, 1, 1)
        projected = torch.einsum("jde,bjd->bje", vectors, x.unsqueeze(1) - a * self.means)
        widths = a.square() * values + s.square()
        log_each = -(projected.square() / widths + widths.log() + math.log(2 * math.pi)).sum(-1) / 2
        return self.weights.log() + log_each, projected, widths


class MixtureDenoiser(nn.Module):
    """A net that is exact for a mixture, plus a trainable correction: a base with a known law, and a policy to tune.

    `designs` is the law of the designs x[K], which the chain reaches as its steps grow finer; `process`: gaussian or
    flow. `correction`, any module of states `(B, D)` and times `(B,)` to `(B, D)`, such as a `VectorMLP`, is set to
    return 0 at first: its last Linear layer is zeroed in place.

    Raises:
        ValueError: the mixture is narrower than the noise that designs have at t_min; or the correction has no Linear.
    """

    def __init__(self, designs: Mixture, process: GaussianPath, correction: nn.Module):
        super().__init__()
        end = torch.tensor(process.t_min, dtype=torch.float64)
        signal, spread = process.signal(end).item(), process.spread(end).item()
        eye = torch.eye(designs.means.shape[1], dtype=torch.float64)
        inner = designs.covariances - spread**2 * eye
        if torch.linalg.eigvalsh(inner).min() < 0:
            raise ValueError(f"the mixture is narrower than the noise of its designs, std {spread:.3g}: lower t_min")
        self.process, self.correction = process, correction
        self.clean = Mixture(designs.weights, designs.means / signal, inner / signal**2)
        _zero_last_layer(correction)

    def blank(self) -> nn.Module:
        """Return a copy of the correction that returns 0: what learns a value of the states."""
        fresh = copy.deepcopy(self.correction).requires_grad_(True)
        _zero_last_layer(fresh)
        return fresh

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x_double, t_double = x.double(), t.double()
        x0 = self.clean.denoise(x_double, self.process.signal(t_double), self.process.spread(t_double))
        exact = self.process.output_of(x0, x_double, t_double).to(x.dtype)
        return exact + self.correction(x, t)


def _zero_last_layer(net: nn.Module) -> None:
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("the correction has no Linear layer to set to zero")
    for parameter in linear[-1].parameters():
        nn.init.zeros_(parameter)


@torch.no_grad()
def affine_law(policy: Policy, *, start: Tensor | None = None) -> Mixture:
    """Return the exact law of the designs of a chain of gaussian kernels whose means are affine in the state.

    So is the chain of the exact denoiser of one gaussian, at any number of steps; whether a net is affine is not
    checked. x[0] is standard normal, or the point `start` `(D,)`. The result has one component.
    """
    process = policy.process
    generator = torch.Generator().manual_seed(0)
    zero = torch.zeros_like(process.noise(1, generator))
    size = zero.shape[1]
    probes = torch.cat([zero, torch.eye(size)]).to(zero)
    mean, covariance = torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)
    if start is not None:
        mean, covariance = start.double(), torch.zeros_like(covariance)
    for k in range(process.steps):
        kernel = policy.kernel_as(GaussianDraws, probes, k)
        values = kernel.mean.double()
        matrix = (values[1:] - values[0]).T
        std = kernel.std[0].double()
        mean = values[0] + matrix @ mean
        covariance = matrix @ covariance @ matrix.T + std.square() * torch.eye(size, dtype=torch.float64)
    return Mixture(torch.ones(1), mean.unsqueeze(0), covariance.unsqueeze(0))


def energy_distance(a: Tensor, b: Tensor, *, chunk: int = 1024) -> float:
    """Return an unbiased estimate of 2 E|X − Y| − E|X − X'| − E|Y − Y'| from two samples `(N, D)` and `(M, D)`.

    It is 0 on average when the laws agree, and may then be a little below. `chunk` rows are compared at a time.

    >>> energy_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [5.0]]))
    4.0
    """
    a, b = a.double(), b.double()

    def total(x: Tensor, y: Tensor) -> float:
        return sum(
            torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist").sum().item() for part in x.split(chunk)
        )

    n, m = len(a), len(b)
    return 2 * total(a, b) / (n * m) - total(a, a) / (n * (n - 1)) - total(b, b) / (m * (m - 1))
