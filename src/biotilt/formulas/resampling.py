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


def log_mean_error(log_weight: Tensor, lineage: Tensor | None = None, resampled: int = 0) -> float | None:
    """Return the standard error of the log of an estimate of Z by N ≥ 2 weights `(N,)`; None for one.

    √V, by the delta method, of the relative variance V of the estimate (Lee and Whiteley 2018, arXiv 1509.00394):

        V = 1 − (N/(N−1))^(R+1) · (1 − Σ_e W_e²),

    W_e the share of the weight that descends from the particle e of the start, `lineage` `(N,)`, after R = `resampled`
    resamplings. Unbiased for multinomial resampling, too large for systematic; of use only while many lineages live.
    Without resampling it is the relative error of a mean of independent weights, and never less than that here.

    >>> round(log_mean_error(torch.tensor([1.0, 3.0]).log()), 6)  # the mean is 2, its standard error √2/√2
    0.5
    """
    count = len(log_weight)
    if count < 2 or not log_weight.isfinite().any():
        return None
    shares = log_weight.double().softmax(0)
    factor = count / (count - 1)
    variance = 1 - factor * (1 - shares.square().sum().item())
    if lineage is not None and resampled:
        families = shares.new_zeros(count).index_add(0, lineage, shares)
        variance = max(variance, 1 - factor ** (resampled + 1) * (1 - families.square().sum().item()))
    return math.sqrt(max(variance, 0.0))
