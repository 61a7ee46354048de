"""Numbered equations of KL-regularised control, as pure functions of log-probabilities, rewards and values."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_return(reward: Tensor, log_ratio: Tensor, alpha: float) -> Tensor:
    """Return r − α Σ_k log p_θ/p_pre of whole chains, `(B,)`, from rewards `(B,)` and steps' log-ratios `(K, B)`.

    Its expectation under p_θ is the objective J of the tutorial (arXiv 2407.13734, eq. 5). The whole sum, not only
    the steps to come: the past terms do not depend on later choices, so the gradient stays unbiased, and at the
    optimum they cancel v_k(x[k]) exactly, so that the return is the constant v_0 and its noise is gone.
    """
    if log_ratio.shape[1:] != reward.shape:
        raise ValueError(f"log_ratio {tuple(log_ratio.shape)} does not end in reward's {tuple(reward.shape)}")
    return reward - alpha * log_ratio.sum(0)


def mean_within(values: Tensor, group: Tensor | None) -> Tensor:
    """Return the mean of those values `(B,)` that are known (no NaN): of all, `()`, or of each one's group, `(B,)`.

    >>> mean_within(torch.tensor([1.0, 3.0, 8.0, torch.nan]), torch.tensor([0, 0, 1, 1]))
    tensor([2., 2., 8., 8.])
    """
    if group is None:
        return values.nanmean()
    groups = int(group.max()) + 1
    total = values.new_zeros(groups).index_add(0, group, values.nan_to_num())
    count = values.new_zeros(groups).index_add(0, group, (~values.isnan()).to(values.dtype))
    return (total / count)[group]


def clipped_surrogate(log_new: Tensor, log_old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return PPO's min(ρ A, clip(ρ, 1−ε, 1+ε) A), `(B,)`, with ρ = p_new/p_old of whole steps (arXiv 1707.06347)."""
    if not log_new.shape == log_old.shape == advantage.shape:
        raise ValueError(f"shapes differ: {log_new.shape}, {log_old.shape}, {advantage.shape}")
    ratio = (log_new - log_old).exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def vidd_log_weight(value_y: Tensor, value_x: Tensor, alpha: float) -> Tensor:
    """Return (v(y) − v(x)) / α `(B,)`: VIDD's log-weight (arXiv 2507.00445, eq. 7), subtracted before any exp."""
    return (value_y - value_x) / alpha


def effective_fraction(log_weight: Tensor) -> Tensor:
    """Return (Σw)² / (N Σw²) in (0, 1]: the effective share of samples with log-weights `(N,)`."""
    normalised = log_weight.softmax(0)
    return 1 / (normalised.square().sum() * len(log_weight))
