"""Paths, levels and exact denoisers that the tests of gaussian and flow share."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.core.fixed import Fixed
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.processes import Flow, Gaussian
from biotilt.processes.gaussian_path import GaussianPath
from biotilt.testing import Mixture, MixtureDenoiser

PATHS = {
    "cosine": lambda **o: Gaussian(**{"size": 1, "prediction": "x0", **o}),
    "linear": lambda **o: Gaussian(**{"size": 1, "prediction": "x0", "schedule": "linear", **o}),
    "flow": lambda **o: Flow(**{"size": 1, "prediction": "x0", **o}),
}
each_path = pytest.mark.parametrize("make", PATHS.values(), ids=PATHS)
each_eta = pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
SKEWED = Mixture(
    torch.tensor([0.5, 0.3, 0.2]),
    torch.tensor([[1.2, 0.3], [-1.0, 0.8], [-0.2, -1.3]]),
    torch.tensor([[[0.10, 0.04], [0.04, 0.06]], [[0.05, 0.0], [0.0, 0.15]], [[0.2, -0.1], [-0.1, 0.12]]]),
)
MEAN, VARIANCE = 0.8, 0.3
HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([0.0, -0.6, 0.0]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def level(process: GaussianPath, t: float) -> tuple[float, float]:
    """a and s written out again, in plain numbers."""
    if isinstance(process, Flow):
        return 1 - t, t
    a = math.cos(math.pi * t / 2) if process.schedule == "cosine" else math.exp(-(0.1 * t + 19.9 * t * t / 2) / 2)  # type: ignore[attr-defined]
    return a, math.sqrt(1 - a * a)


def levels(process: GaussianPath) -> list[tuple[float, float]]:
    first, last, count = 0.99 if process.prediction == "eps" else 1.0, process.t_min, process.steps
    return [
        level(process, (math.sqrt(first) * (1 - k / count) + math.sqrt(last) * k / count) ** 2)
        for k in range(count + 1)
    ]


def constant(value: float):
    return lambda x, t: torch.full_like(x, value)


def exact(process: GaussianPath, mean: float = MEAN, variance: float = VARIANCE) -> MixtureDenoiser:
    """The denoiser of designs N(mean, variance) on a line."""
    law = Mixture(torch.ones(1), torch.tensor([[mean]]), torch.tensor([[[variance]]]))
    return MixtureDenoiser(law, process, VectorMLP(VectorMLPConfig(1, width=4, depth=1)))
