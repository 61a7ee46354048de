"""The KL of p* ∝ p_pre exp(r/α) by scored designs of the base, and the α that has a given KL."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEW = 10.0  # designs that count, below which the weights of p* say less than they hide


def tilted_kl(scores: Tensor, alpha: float) -> tuple[float, float]:
    """Return KL(p* ‖ p_pre) in nats by N designs of the base, and how many of them count, 1 to N.

    `scores` `(N,)`, some finite: −inf weighs nothing, and NaN is no design.

    >>> kl, counted = tilted_kl(torch.tensor([0.0, 1.0]).log(), alpha=0.5)
    >>> round(kl, 4), counted
    (0.6931, 1.0)
    """
    known = scores[~scores.isnan()].double()
    log_weight = (known / alpha).log_softmax(0)
    held = log_weight > -torch.inf
    kl = (log_weight.exp()[held] * (log_weight[held] + math.log(len(known)))).sum()
    return kl.item(), (-(2 * log_weight).logsumexp(0)).exp().item()


def alpha_of_kl(scores: Tensor, kl: float) -> float | None:
    """Return the α at which KL(p* ‖ p_pre) is `kl` > 0 by N designs of the base; None where none differ.

    The KL falls with α, so bisection finds it, but only where `FEW` designs count does it tell the truth. Beyond, it is
    taken to go on as α⁻², as for scores of a normal law.
    """
    known = scores[scores.isfinite()].double()
    spread = known.std(correction=0).item() if len(known) else 0.0
    if spread == 0.0:
        return None
    low, high = math.log(1e-3 * spread), math.log(1e3 * spread)
    for _ in range(60):
        middle = (low + high) / 2
        found, counted = tilted_kl(scores, math.exp(middle))
        low, high = (middle, high) if found > kl or counted < min(FEW, len(known) / 2) else (low, middle)
    alpha = math.exp(high)
    reached, _ = tilted_kl(scores, alpha)
    return alpha * math.sqrt(min(1.0, reached / kl)) if reached > 0 else alpha
