"""Numbers about sets of designs and their scores, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from biotilt.errors import DataError

Scores = Sequence[float] | np.ndarray | Tensor


def as_array(scores: Scores) -> np.ndarray:
    """Return scores `(B,)`, given as a list, an array or a tensor on any device, as float64.

    Raises:
        DataError: they have another number of dimensions.
    """
    raw = scores.detach().cpu().numpy() if isinstance(scores, Tensor) else scores
    values = np.asarray(raw, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"scores must have shape (B,), not {values.shape}")
    return values


def kmer_counts(sequences: Sequence[str], k: int, letters: str) -> np.ndarray:
    """Return how often each k-mer occurs in all sequences together, `(len(letters)**k,)` int64.

    Args:
        sequences: of any lengths; one shorter than `k` has no k-mer.
        k: length of the words, at least 1.
        letters: the alphabet; its order is the order of the counts, the last letter changing fastest.

    Raises:
        DataError: `k` is below 1, or a sequence has another letter.

    >>> kmer_counts(["AAB"], 2, "AB").tolist()
    [1, 1, 0, 0]
    """
    if k < 1:
        raise DataError(f"k must be at least 1, not {k}")
    size = len(letters)
    token = {letter: number for number, letter in enumerate(letters)}
    counts = np.zeros(size**k, dtype=np.int64)
    for row, sequence in enumerate(sequences, start=1):
        try:
            tokens = np.array([token[letter] for letter in sequence], dtype=np.int64)
        except KeyError as error:
            column = sequence.index(error.args[0]) + 1
            raise DataError(
                f"sequence {row}, column {column}: {error.args[0]!r} is not one of {', '.join(letters)}"
            ) from None
        words = len(tokens) - k + 1
        if words > 0:
            index = sum(tokens[start : start + words] * size ** (k - 1 - start) for start in range(k))
            np.add.at(counts, index, 1)
    return counts


def kmer_correlation(counts_a: np.ndarray, counts_b: np.ndarray) -> float:
    """Return Pearson's r between two k-mer frequency tables of one size; NaN when either is constant.

    Raises:
        DataError: the tables differ in size.

    >>> round(kmer_correlation(np.array([1, 2, 3]), np.array([2, 4, 6])), 6)
    1.0
    """
    if counts_a.shape != counts_b.shape:
        raise DataError(f"k-mer tables differ in size: {counts_a.shape} and {counts_b.shape}; same k and letters?")
    if counts_a.sum() == 0 or counts_b.sum() == 0:
        return math.nan
    a, b = counts_a / counts_a.sum(), counts_b / counts_b.sum()
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0 else math.nan


def unique_fraction(designs: Sequence[str]) -> float:
    """Return the number of different designs over the number of designs; NaN for none.

    >>> unique_fraction(["A", "A", "C", "G"])
    0.75
    """
    return len(set(designs)) / len(designs) if designs else math.nan


def quantile(sorted_values: np.ndarray, q: float) -> float:
    """Return the `q` quantile, 0 ≤ q ≤ 1, of ascending values without NaN; linear between neighbours.

    Unlike numpy's it takes -inf: between -inf and a finite value lies -inf. NaN for no values.

    >>> quantile(np.array([-np.inf, 1.0, 2.0]), 0.75), quantile(np.array([-np.inf, 1.0, 2.0]), 0.25)
    (1.5, -inf)
    """
    if not len(sorted_values):
        return math.nan
    place = q * (len(sorted_values) - 1)
    low = float(sorted_values[math.floor(place)])
    high = float(sorted_values[math.ceil(place)])
    part = place - math.floor(place)
    return low if part == 0 or math.isinf(low) else low + part * (high - low)


def summary(scores: Scores) -> dict[str, float]:
    """Return median, p5, p95, mean and the counts n, unscored and infeasible of scores `(B,)`.

    NaN, "not scored", enters nothing but `unscored`. -inf, "infeasible", is left out of the mean but takes
    part in the quantiles as the lowest score. `n` is the number given. Statistics of nothing are NaN.

    >>> summary([1.0, 2.0, 6.0, float("nan")])["mean"]
    3.0
    """
    values = as_array(scores)
    scored = np.sort(values[~np.isnan(values)])
    feasible = scored[~np.isneginf(scored)]
    return {
        "median": quantile(scored, 0.5),
        "p5": quantile(scored, 0.05),
        "p95": quantile(scored, 0.95),
        "mean": float(feasible.mean()) if len(feasible) else math.nan,
        "n": len(values),
        "unscored": len(values) - len(scored),
        "infeasible": len(scored) - len(feasible),
    }


def beyond(scores: Scores, limit: float) -> float:
    """Return the fraction of the scored designs whose score is above `limit`; NaN when none is scored.

    >>> beyond([1.0, 2.0, 3.0, float("nan")], 2.0)
    0.3333333333333333
    """
    values = as_array(scores)
    scored = values[~np.isnan(values)]
    return float((scored > limit).mean()) if len(scored) else math.nan


def bootstrap_interval(
    values: Scores,
    statistic: Callable[[np.ndarray], float],
    generator: Generator,
    *,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic of values `(B,)`; NaNs when nothing is scored.

    Args:
        values: NaN entries are left out before drawing.
        statistic: takes a resample `(n,)` and returns a number.
        generator: a CPU generator, draws the resamples.
        resamples: how many are drawn, at least 1.
        level: coverage, between 0 and 1.
    """
    array = as_array(values)
    scored = array[~np.isnan(array)]
    if not len(scored):
        return math.nan, math.nan
    drawn = torch.randint(len(scored), (resamples, len(scored)), generator=generator).numpy()
    found = np.sort([float(statistic(scored[rows])) for rows in drawn])
    return quantile(found, (1 - level) / 2), quantile(found, (1 + level) / 2)
