"""Sets drawn one by one without replacement, with chances ∝ weights (Plackett 1975): the laws of Gumbel top-m."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def gumbel(like: Tensor, generator: Generator) -> Tensor:
    """Draw standard Gumbel noise shaped and typed as `like`.

    The m largest of log-weights with this noise are m draws without replacement (Yellott 1977; Kool et al. 2019, arXiv
    1903.06059).
    """
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return -(-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()


def log_prob_of_set(log_weight: Tensor, among: Tensor, chosen: Tensor, count: Tensor) -> Tensor:
    """Return the log-probability `(B,)` that `count` draws are the set `chosen`, bool `(B, L)`, in whatever order.

    `log_weight` `(B, L)` is read where `among` `(B, L)`. Rows in which `count` `(B,)` are all that there are have one
    set; elsewhere all rows have the same count m. The sum over the m! orders goes over the 2^m subsets:
    g(U), of drawing U next where U and what is not chosen are left, is Σ_{i∈U} w_i / (W_U + W_rest) g(U∖i). −inf for a
    set of another size, or of others than `among`.

    >>> w = torch.tensor([[1.0, 2.0, 3.0]]).log()
    >>> first = torch.tensor([[True, True, False]])
    >>> log_prob_of_set(w, torch.ones(1, 3).bool(), first, torch.tensor([2])).exp()  # 1/6 · 2/5 + 2/6 · 1/4
    tensor([0.1500])
    """
    right = (chosen.sum(-1) == count) & ~(chosen & ~among).any(-1)
    open_rows = right & (count < among.sum(-1))
    found = torch.zeros_like(log_weight[:, 0])
    if open_rows.any():
        rows = open_rows.nonzero().squeeze(-1)
        some = _over_orders(log_weight[rows], among[rows], chosen[rows], int(count[rows].max()))
        found = found.index_put((rows,), some)
    return found.masked_fill(~right, -torch.inf)


def _over_orders(log_weight: Tensor, among: Tensor, chosen: Tensor, m: int) -> Tensor:
    places = chosen.to(torch.int8).topk(m, -1).indices
    weights = log_weight.gather(-1, places)
    rest = log_weight.masked_fill(~(among & ~chosen), -torch.inf).logsumexp(-1)
    next_ones: list[Tensor] = [torch.zeros_like(rest)]
    for subset in range(1, 2**m):
        members = [i for i in range(m) if subset >> i & 1]
        here = weights[:, members]
        after = torch.stack([next_ones[subset ^ (1 << i)] for i in members], -1)
        left = torch.logaddexp(rest, here.logsumexp(-1))
        next_ones.append((here + after).logsumexp(-1) - left)
    return next_ones[-1]
