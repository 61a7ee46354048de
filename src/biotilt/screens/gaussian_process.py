"""An exact gaussian process whose Cholesky factor grows with its rows (Rasmussen and Williams 2006, ch. 2 and 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from biotilt.screens.kernels import Features, Setting, Similarity

NOISES = (0.01, 0.1, 1.0)


class GaussianProcess:
    """y = m + s (f + √η ε), f a gaussian process with covariance k, k(x, x) = 1; all in float64.

    A = K + ηI = L Lᵀ. The mean m = 1ᵀA⁻¹y / 1ᵀA⁻¹1 is that of least squares, and s² = (y − m)ᵀA⁻¹(y − m)/n the most
    likely scale. L depends on neither, so scores may change their unit, or what stands for −inf, without a new one.
    """

    def __init__(self, kernel: Similarity, setting: Setting, noise: float):
        self.kernel, self.setting, self.noise = kernel, setting, noise
        self.features: Features = ()
        self.factor = torch.zeros(0, 0, dtype=torch.float64)
        self.weights = torch.zeros(0, dtype=torch.float64)
        self.mean, self.variance = 0.0, 1.0

    def __len__(self) -> int:
        return len(self.factor)

    def add(self, features: Features, compared: Features | None = None) -> None:
        """Add rows: L becomes [[L, 0], [Bᵀ, C]], B = L⁻¹k(old, new), C Cᵀ = k(new, new) + ηI − BᵀB.

        `compared`: how the new rows compare with each other, where it is known already.
        """
        old, new = len(self), len(features[0])
        compared = compared or self.kernel.compare(features, features)
        corner = self.kernel.alike(compared, self.setting) + self.noise * torch.eye(new, dtype=torch.float64)
        factor = torch.zeros(old + new, old + new, dtype=torch.float64)
        if old:
            side = self._whitened(self.kernel.between(features, self.features, self.setting))
            factor[:old, :old], factor[old:, :old] = self.factor, side.T
            corner = corner - side.T @ side
        factor[old:, old:] = torch.linalg.cholesky(corner)
        self.factor = factor
        self.features = tuple(map(torch.cat, zip(self.features, features))) if old else features

    def condition(self, scores: Tensor) -> float:
        """Take the scores `(n,)` of all rows, and return their log marginal likelihood at the best m and s²."""
        solved = torch.cholesky_solve(torch.stack([torch.ones_like(scores), scores], 1), self.factor)
        self.mean = (solved[:, 1].sum() / solved[:, 0].sum()).item()
        self.weights = solved[:, 1] - self.mean * solved[:, 0]
        variance = ((scores - self.mean) @ self.weights).item() / len(scores)
        self.variance = max(variance, 1e-300)  # of scores that are all the same
        log_det = 2 * self.factor.diagonal().log().sum().item()
        return -0.5 * (len(scores) * (math.log(2 * math.pi * self.variance) + 1) + log_det)

    def predict(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation `(N,)` of the score without its noise."""
        between = self.kernel.between(features, self.features, self.setting)
        left = 1 - self._whitened(between).square().sum(0)
        return self.mean + between @ self.weights, (self.variance * left.clamp(min=0)).sqrt()

    def covariance(self, features: Features) -> Tensor:
        """Return the covariance `(N, N)` of the scores without their noise."""
        side = self._whitened(self.kernel.between(features, self.features, self.setting))
        return self.variance * (self.kernel.between(features, features, self.setting) - side.T @ side)

    def _whitened(self, between: Tensor) -> Tensor:
        """Return L⁻¹k(old, new) `(n, N)` of k(new, old)."""
        return torch.linalg.solve_triangular(self.factor, between.T, upper=False)


def most_likely(
    kernel: Similarity, features: Features, scores: Tensor, noises: Sequence[float] = NOISES
) -> GaussianProcess:
    """Return the process of these rows in the setting, and with the noise, of the largest marginal likelihood."""
    compared = kernel.compare(features, features)
    found: list[tuple[float, GaussianProcess]] = []
    for setting in kernel.settings(compared):
        for noise in noises:
            process = GaussianProcess(kernel, setting, noise)
            process.add(features, compared)
            found.append((process.condition(scores), process))
    return max(found, key=lambda each: each[0])[1]
