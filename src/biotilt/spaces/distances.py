"""How far designs are from each other: texts by the letters that differ, arrays by their Euclidean distance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np


def mean_pairwise_distance(sequences: Sequence[str]) -> float:
    """Return the mean Hamming distance over all pairs, exactly, in O(N L); NaN for fewer than two sequences.

    Every pair counts, equal designs included. Where lengths differ, each letter beyond the end of the shorter
    sequence counts as a difference. Pairs that agree at a position are Σ_v C(n_v, 2), n_v of N sequences
    having letter v there, so no pair has to be looked at.

    >>> mean_pairwise_distance(["AA", "AC", "GC"])
    1.3333333333333333
    """
    pairs = math.comb(len(sequences), 2)
    if not pairs:
        return math.nan
    length = max(len(sequence) for sequence in sequences)
    # an end sign makes the missing letters of two equally short sequences agree
    padded = [sequence.ljust(length, "\0") for sequence in sequences]
    equal = sum(math.comb(n, 2) for column in zip(*padded) for n in Counter(column).values())
    return (length * pairs - equal) / pairs


def nearest_distances(sequences: Sequence[str]) -> list[float]:
    """Return for each sequence the Hamming distance to the nearest other, in the order given; [] for fewer than two.

    Letters beyond the end of the shorter of two count as differences. O(N² L).

    >>> nearest_distances(["AAAA", "AAAC", "GGG"])
    [1, 1, 4]
    """
    if len(sequences) < 2:
        return []
    length = max(map(len, sequences))
    codes = np.array([[ord(letter) for letter in text.ljust(length, "\0")] for text in sequences], dtype=np.int32)
    nearest: list[float] = []
    for row, code in enumerate(codes):
        differing = (codes != code).sum(1)
        differing[row] = length + 1  # not to itself
        nearest.append(int(differing.min()))
    return nearest


def euclidean(points: Sequence[np.ndarray]) -> tuple[float, list[float]]:
    """Return the mean Euclidean distance over all pairs of arrays of one shape, and each one's to its nearest other.

    NaN and [] for fewer than two. O(N² D) time, O(N D) memory.

    >>> mean, nearest = euclidean([np.array([0.0, 0.0]), np.array([3.0, 4.0]), np.array([0.0, 1.0])])
    >>> round(mean, 6), [round(distance, 6) for distance in nearest]
    (3.414214, [1.0, 4.242641, 1.0])
    """
    if len(points) < 2:
        return math.nan, []
    flat = np.stack([np.ravel(point) for point in points]).astype(np.float64)
    total, nearest = 0.0, list[float]()
    for row, point in enumerate(flat):
        apart = np.sqrt(np.square(flat - point).sum(1))
        total += float(apart.sum())
        apart[row] = math.inf  # not to itself
        nearest.append(float(apart.min()))
    return total / (len(flat) * (len(flat) - 1)), nearest
