"""Bounds on log p of a design that is revealed letter by letter, in an order that is drawn.

Let z say at which step each position i is revealed, and f_i(z) be the probability of its letter then. The chain's law
is p(x) = E_z[ Π_i f_i(z) ]. Jensen's inequality gives log p ≥ Σ_i E_z[log f_i]. Hölder's, for n positions, gives
p ≤ Π_i E_z[f_i^n]^(1/n), and power means grow with their exponent, so that for every β ≥ n

    Σ_i E_z[log f_i]  ≤  log p(x)  ≤  (1/β) Σ_i log E_z[ f_i^β ].

Both need only states that are hidden at random, never a whole path: see `letter_evidence` of the processes. In
arguments, draws `(M, B, L)` carry `log_prob` = log f_i and `weight`, whose mean over draws turns f_i into E_z[f_i]; it
is 0 where the position was not hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor


def evidence_lower(log_prob: Tensor, weight: Tensor) -> Tensor:
    """Return an unbiased estimate of the lower bound, Σ_i E_z[log f_i], `(B,)`."""
    return (weight * log_prob).mean(0).sum(-1)


def evidence_upper(log_prob: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Return an estimate of (1/β) Σ_i log E_z[f_i^β], `(B,)`, with β ≥ 1.

    It is a bound for β ≥ the number of positions, in the limit of many draws; the log of a mean of few is low. With
    smaller β it is the bound of SPG (Wang et al. 2025, arXiv 2510.09541, Theorem 1) without its constant C(T), which
    does not depend on the network: it may lie below log p. A position that no draw hid counts 0.
    """
    total = weight.sum(0)
    seen = total > 0
    # −inf in every draw would be NaN in the gradient, even where it is not used
    log_weight = torch.where(seen, weight.log(), torch.zeros_like(weight))
    log_mean = (log_weight + beta * log_prob).logsumexp(0) - torch.where(seen, total, torch.ones_like(total)).log()
    return torch.where(seen, log_mean, torch.zeros_like(total)).sum(-1) / beta
