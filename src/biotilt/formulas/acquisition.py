"""What a call promises, by a gaussian prediction of its score: acquisition functions, and how ranks agree."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROOT_2 = math.sqrt(2)
_ROOT_2_PI = math.sqrt(2 * math.pi)


def upper_confidence(mean: Tensor, deviation: Tensor, kappa: float) -> Tensor:
    """Return μ + κσ (Srinivas et al. 2010, arXiv 0912.3995).

    >>> upper_confidence(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 1.0]), 0.5)
    tensor([3.0000, 2.5000])
    """
    return mean + kappa * deviation


def expected_improvement(mean: Tensor, deviation: Tensor, best: float) -> Tensor:
    """Return E[max(r − best, 0)] = (μ − b)Φ(z) + σφ(z), z = (μ − b)/σ, of r ∼ N(μ, σ²) (Jones et al. 1998).

    With σ = 0 it is max(μ − b, 0).

    >>> expected_improvement(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.0]), 0.0)
    tensor([0.3989, 3.0000])
    """
    lead = mean - best
    z = lead / deviation.clamp(min=torch.finfo(mean.dtype).tiny)
    below = 0.5 * torch.special.erfc(-z / _ROOT_2)
    density = (-z.square() / 2).exp() / _ROOT_2_PI
    return torch.where(deviation > 0, lead * below + deviation * density, lead.clamp(min=0)).clamp(min=0)


def ranks(values: Tensor) -> Tensor:
    """Return the ranks `(N,)` of values from 1; those that are equal share the mean of their ranks.

    >>> ranks(torch.tensor([0.3, 0.1, 0.3]))
    tensor([2.5000, 1.0000, 2.5000])
    """
    values = values.contiguous()
    ordered = values.sort().values
    first = torch.searchsorted(ordered, values, right=False)
    last = torch.searchsorted(ordered, values, right=True)
    return (first + last + 1).to(torch.get_default_dtype()) / 2


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Return Spearman's ρ of pairs, both `(N,)`; NaN where one of them has a single value, or there are fewer than 3.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 9.0, 8.0, 70.0])), 3)
    0.8
    """
    if len(a) < 3:
        return math.nan
    x, y = (ranks(values).double() for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = x.norm() * y.norm()
    return (x @ y / scale).item() if scale > 0 else math.nan


def lead_and_error(ours: Tensor, others: Tensor) -> tuple[float, float]:
    """Return the difference of two means, and its standard error as Welch (1947) has it; each has 2 values or more."""
    variance = ours.var() / len(ours) + others.var() / len(others)
    return (ours.mean() - others.mean()).item(), variance.sqrt().item()
