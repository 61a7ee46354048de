"""Against collapse: designs counted once, selection by rank, and no family of relatives that crowds out the rest."""

from __future__ import annotations

import torch
from torch import Tensor

GRAMS = 1000  # k of the k-grams that tell likeness: so many different ones are possible at least


def first_of_each(keys: Tensor) -> Tensor:
    """Return which rows are the first with their key `(B,)`, bool `(B,)`.

    >>> first_of_each(torch.tensor([7, 3, 7, 7, 3])).tolist()
    [True, True, False, False, False]
    """
    _, group = keys.unique(return_inverse=True)
    rows = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(keys, len(keys)).scatter_reduce(0, group, rows, "amin")
    return first[group] == rows


def unique_share(keys: Tensor) -> float:
    """Return the number of different keys `(B,)` as a share of B; 1 of none."""
    return len(keys.unique()) / max(len(keys), 1)


def best_first(rewards: Tensor) -> Tensor:
    """Return the rows with a finite reward of `(N,)`, the best first; equal ones in the order in which they came."""
    order = rewards.argsort(descending=True, stable=True)
    return order[rewards[order].isfinite()]


def rank_weights(count: int, offset: float, device: torch.device) -> Tensor:
    """Return 1/(offset + rank) `(count,)`, rank from 0, normalised.

    >>> rank_weights(3, 1.0, torch.device("cpu")) * (1 + 1 / 2 + 1 / 3)
    tensor([1.0000, 0.5000, 0.3333])
    """
    weights = 1 / (offset + torch.arange(count, device=device, dtype=torch.get_default_dtype()))
    return weights / weights.sum()


def likeness(tokens: Tensor, pad: int | None = None) -> Tensor:
    """Return for all pairs of designs `(N, L)` the share `(N, N)` of their k-grams that both have (Tanimoto, of sets).

    A k-gram is k neighbouring tokens, pads left out, with the least k for which more than a thousand are possible: a
    shift of what follows changes next to nothing, as it does not in an alignment.

    >>> likeness(torch.tensor([[40, 1, 2, 3, 4], [9, 40, 1, 2, 3], [5, 6, 7, 8, 9]])).numpy().round(2)
    array([[1. , 0.6, 0. ],
           [0.6, 1. , 0. ],
           [0. , 0. , 1. ]], dtype=float32)
    """
    letters = int(tokens.max()) + 1 if tokens.numel() else 1
    width = 1
    while letters**width < GRAMS and width < tokens.shape[1] and letters > 1:
        width += 1
    kept = tokens.long()
    valid = torch.ones_like(kept, dtype=torch.bool) if pad is None else kept != pad
    if pad is not None:  # letters first, in their order
        order = (~valid).to(torch.int8).argsort(dim=-1, stable=True)
        kept, valid = kept.gather(1, order), valid.gather(1, order)
    grams = sum(part * letters**place for place, part in enumerate(kept.unfold(1, width, 1).unbind(-1)))
    whole = valid.unfold(1, width, 1).all(-1)
    if not isinstance(grams, Tensor):
        raise ValueError(f"designs of shape {tuple(tokens.shape)} have no k-grams")
    known, number = grams.unique(return_inverse=True)
    has = torch.zeros(len(tokens), len(known) + 1, device=tokens.device, dtype=torch.float32)
    has.scatter_(1, torch.where(whole, number, len(known)), 1.0)
    has = has[:, :-1]
    both = has @ has.T
    either = has.sum(1, keepdim=True) + has.sum(1) - both
    # those shorter than a k-gram are like nothing but themselves
    return torch.where(either > 0, both / either.clamp(min=1), torch.eye(len(tokens), device=tokens.device))


def without_crowds(related: Tensor, most: int) -> Tensor:
    """Return which rows are kept, bool `(N,)`, the best first: none that would be more than the `most`-th of a family.

    `related` `(N, N)` bool, of which a row is its own relative. A row goes when `most` of its relatives were kept
    before it.

    >>> family = torch.tensor([1, 1, 2, 1, 2])
    >>> without_crowds(family == family.unsqueeze(-1), 2).tolist()
    [True, True, True, False, True]
    """
    table = related.cpu().tolist()
    kept: list[int] = []
    for row, relatives in enumerate(table):
        if sum(relatives[other] for other in kept) < most:
            kept.append(row)
    chosen = torch.zeros(len(related), dtype=torch.bool)
    chosen[kept] = True
    return chosen.to(related.device)
