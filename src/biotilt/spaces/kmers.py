"""Counts of k-mers: by them two texts are alike wherever in them the same words stand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LONGEST = 3
MOST = 8192  # columns of one k: longer words of large vocabularies share columns
PRIME = 8191


def kmer_counts(rows: Sequence[Sequence[int]], signs: int, longest: int = LONGEST) -> Tensor:
    """Return float32 counts `(N, F)` of all words of 1 to `longest` signs in rows of numbers in [0, signs).

    The columns of one k are the signsᵏ words in order; where these are more than 8,192, words share a column by the
    remainder of their number.

    >>> kmer_counts([[0, 1, 0, 1]], 2, longest=2).tolist()
    [[2.0, 2.0, 0.0, 2.0, 1.0, 0.0]]
    """
    blocks = []
    for k in range(1, longest + 1):
        width = signs**k if signs**k <= MOST else PRIME
        block = torch.zeros(len(rows), width)
        for i, row in enumerate(rows):
            signs_of = torch.tensor(row, dtype=torch.int64)
            if len(signs_of) >= k:
                powers = signs ** torch.arange(k - 1, -1, -1)
                words = (signs_of.unfold(0, k, 1) * powers).sum(-1) % width
                block[i] = words.bincount(minlength=width)
        blocks.append(block)
    return torch.cat(blocks, 1)
