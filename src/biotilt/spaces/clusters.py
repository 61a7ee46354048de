"""Related sequences, so that a split of a corpus never divides them: by keys that they share, or near-duplicates."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np


def linked(keys: Iterable[Iterable[Hashable]]) -> list[int]:
    """Return a cluster number, from 0, for each item: items that share a key, also by way of others, are one cluster.

    >>> linked([["AACC"], ["TTAA", "AACC"], ["GGGG"], ["TTAA"]])
    [0, 0, 1, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = [list(dict.fromkeys(some)) for some in keys]
    number: dict[Hashable, int] = {}
    pairs = [(item, number.setdefault(key, len(number))) for item, some in enumerate(own) for key in some]
    items, found = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    size = len(own) + len(number)
    graph = coo_array((np.ones(len(items), dtype=np.int8), (items, len(own) + found)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][: len(own)]
    order: dict[int, int] = {}
    return [order.setdefault(label, len(order)) for label in labels.tolist()]


def windows(sequence: str, width: int) -> list[str]:
    """Return all stretches of `width` letters; none of a shorter sequence.

    >>> windows("ACGT", 3)
    ['ACG', 'CGT']
    """
    return [sequence[start : start + width] for start in range(len(sequence) - width + 1)]
