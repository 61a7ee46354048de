"""Draws from and distances between categorical distributions given by log-probabilities."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def draw(log_prob: Tensor, generator: Generator) -> Tensor:
    """Draw one index a row from normalised log-probabilities `(..., V)`, by inverting the cumulative sum."""
    return drawn_at(log_prob, torch.rand(log_prob.shape[:-1], generator=generator, device=log_prob.device))


def drawn_at(log_prob: Tensor, level: Tensor) -> Tensor:
    """Return the index at which the cumulative sum of probabilities `(..., V)` passes `level` `(...)` in [0, 1)."""
    cumulative = log_prob.exp().cumsum(-1)
    # scaled by the last entry: rounding may leave the sum a little off 1
    u = level * cumulative[..., -1]
    return torch.searchsorted(cumulative, u.unsqueeze(-1), right=True).squeeze(-1).clamp(max=log_prob.shape[-1] - 1)


def draw_straight_through(log_prob: Tensor, generator: Generator, temperature: float) -> Tensor:
    """Draw one-hot letters `(..., V)` from normalised log-probabilities, differentiably; `temperature` > 0.

    The value is a draw, whatever the temperature; the gradient is that of softmax((log p + g)/temperature) with the
    same Gumbel noise g (Jang et al. 2017, arXiv 1611.01144; Maddison et al. 2017, arXiv 1611.00712).
    """
    u = torch.rand(log_prob.shape, generator=generator, device=log_prob.device, dtype=log_prob.dtype)
    # u = 0 would make the noise −inf, and a row whose only letter it hits NaN
    noisy = log_prob - (-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()
    soft = (noisy / temperature).softmax(-1)
    hard = torch.zeros_like(soft).scatter_(-1, noisy.argmax(-1, keepdim=True), 1.0)
    # the difference is exactly 0: the value stays exactly one-hot
    return hard + (soft - soft.detach())


def kl_categorical(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p ‖ q) over the last axis; 0 · log 0 counts 0."""
    p = log_p.exp()
    # the ratio is replaced before the product: 0 · inf after it would be NaN in the gradient
    return (p * torch.where(p > 0, log_p - log_q, torch.zeros_like(p))).sum(-1)


def geometric_mixture(log_p: Tensor, log_q: Tensor, weight: float) -> Tensor:
    """Return log of p^(1−weight) q^weight, normalised over the last axis; `weight` in [0, 1], 0^0 = 1."""
    # −inf · 0 would be NaN where one side forbids a letter and its weight is 0
    lowest = torch.finfo(log_p.dtype).min / 2
    return torch.lerp(log_p.clamp(min=lowest), log_q.clamp(min=lowest), weight).log_softmax(-1)


def neg_log_prob(logits: Tensor, letters: Tensor) -> Tensor:
    """Return −log softmax(logits)[letter] `(B, L)` of logits `(B, L, V)` and letters `(B, L)`."""
    return -logits.log_softmax(-1).gather(-1, letters.long().unsqueeze(-1)).squeeze(-1)


def log_choose(n: Tensor, m: Tensor) -> Tensor:
    """Return log of the binomial coefficient C(n, m), elementwise, for integers 0 ≤ m ≤ n."""
    n, m = n.to(torch.get_default_dtype()), m.to(torch.get_default_dtype())
    return torch.lgamma(n + 1) - torch.lgamma(m + 1) - torch.lgamma(n - m + 1)


def stratified_uniform(batch: int, generator: Generator) -> Tensor:
    """Return `(batch,)` numbers, each uniform on [0, 1), one in every stratum, in random order.

    The mean over the batch of a function of them varies less than with independent draws (MDLM §3.5).
    """
    device = generator.device
    order = torch.randperm(batch, generator=generator, device=device)
    return (order + torch.rand(batch, generator=generator, device=device)) / batch
