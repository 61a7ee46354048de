"""Resampling of weighted particles, as pure functions of log-weights."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def systematic_resample(log_weight: Tensor, generator: Generator) -> Tensor:
    """Return N indices `(N,)` of particles with log-weights `(N,)`, particle i expected N wᵢ times, w normalised.

    One uniform number shifts a comb of N teeth, so that each count is N wᵢ rounded down or up (Douc and Cappé 2005,
    cs/0507025). A particle of log-weight −inf is never drawn.

    Raises ValueError when no log-weight is finite.
    """
    if not log_weight.isfinite().any():
        raise ValueError("no particle has a weight")
    count = len(log_weight)
    cumulative = log_weight.softmax(0).cumsum(0)
    shift = torch.rand((), generator=generator, device=log_weight.device, dtype=log_weight.dtype)
    teeth = (torch.arange(count, device=log_weight.device) + shift) / count
    # the last tooth may round up to 1, beyond which there is no particle
    teeth = teeth.clamp(max=1 - torch.finfo(log_weight.dtype).eps)
    return torch.searchsorted(cumulative / cumulative[-1], teeth, right=True)


def log_mean_exp(log_weight: Tensor, dim: int = 0) -> Tensor:
    """Return the log of the mean of exp over one axis; −inf entries count 0, and −inf comes of nothing else.

    >>> log_mean_exp(torch.tensor([0.0, -torch.inf])).exp().item()
    0.5
    """
    return log_weight.logsumexp(dim) - math.log(log_weight.shape[dim])
