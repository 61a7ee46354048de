"""Importance weights of designs drawn from the base, the policy or both, relative to p* ∝ p_pre exp(r/α).

ρ = log p_out/p_pre is the log-ratio of a whole path, policy over base, whoever drew it. Where a share β of the
chains is drawn by the policy and the rest by the base, the density of a path is p_mix = β p_out + (1−β) p_pre,
whichever of the two drew it (the balance heuristic, Veach & Guibas 1995; deterministic mixture, Owen & Zhou 2000).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

Rows = dict[str, Tensor]


def mixture_log_ratio(log_ratio: Tensor, beta: float) -> Tensor:
    """Return log p_mix/p_pre = log(β e^ρ + 1 − β) of ρ `(N,)`, with β in [0, 1]."""
    if beta in (0.0, 1.0):
        return log_ratio * beta
    return torch.logaddexp(log_ratio + math.log(beta), torch.full_like(log_ratio, math.log1p(-beta)))


def with_unscored(rows: Rows, designs: Tensor) -> Rows:
    """Put designs `(M, ...)` that were not scored before the rows of scored ones, and say which is which.

    `rows` has `designs` and columns of numbers, which are 0 for what was not scored. The scored ones come last: the
    newest of a replay, however small, are then never all unscored.
    """
    count = len(rows["designs"])
    before = {key: value.new_zeros(len(designs)) for key, value in rows.items()} | {"designs": designs}
    scored = torch.arange(len(designs) + count, device=designs.device) >= len(designs)
    return {key: torch.cat([before[key], value]) for key, value in rows.items()} | {"scored": scored}


def controlled_weights(log_weight: Tensor, log_control: Tensor, scored: Tensor) -> Tensor:
    """Return signed weights `(N,)`, summing to 1, whose weighted sums estimate E_{p*}[f] with the policy as control.

    Of scored designs: w − s c, with w = softmax(`log_weight`) and c = softmax(`log_control`), the densities of p* and
    of the policy over that of the draws. Of unscored ones, which the policy drew: an equal part each of s. The two
    uses of the policy cancel in expectation, for any policy and any s. The s taken is that of the least sum of
    squared weights. Near p* it is close to 1 and leaves little of the noise of the scored designs; where c says
    nothing of w it is close to 0. Without unscored designs it is 0.

    >>> scored = torch.tensor([False, True, True])
    >>> controlled_weights(torch.tensor([0.0, 0.0, 1.0986]), torch.zeros(3), scored).numpy().round(3)
    array([0.333, 0.083, 0.583], dtype=float32)
    """
    weights = log_weight.masked_fill(~scored, -torch.inf).softmax(0)
    if scored.all():
        return weights
    control = log_control.masked_fill(~scored, -torch.inf).softmax(0)
    part = 1 / (~scored).sum()
    strength = (weights * control).sum() / (control.square().sum() + part)
    return torch.where(scored, weights - strength * control, strength * part)


def draw_signed(weights: Tensor, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw rows in proportion to |w|: indices and coefficients c `(count,)`; the mean of c·f estimates Σ w f.

    In proportion to the weight, rather than uniformly with the weight as a factor: a network call on a row of small
    weight teaches next to nothing. Uniform draws would multiply the second moment of the gradient by
    N Σw² / (Σ|w|)², the inverse of the effective share of the rows: tenfold where that is a tenth.
    """
    size = weights.abs()
    rows = torch.multinomial(size, count, replacement=True, generator=generator)
    return rows, weights[rows].sign() * size.sum()
