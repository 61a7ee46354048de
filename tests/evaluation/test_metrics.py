from __future__ import annotations

import math
import random
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biotilt.errors import DataError
from biotilt.evaluation import (
    as_array,
    beyond,
    bootstrap_interval,
    kmer_correlation,
    kmer_counts,
    summary,
    unique_fraction,
)
from biotilt.spaces.distances import mean_pairwise_distance

NAN, INF = math.nan, math.inf
sequences = st.lists(st.text("ACGU", min_size=0, max_size=7), min_size=0, max_size=12)


@settings(max_examples=60, deadline=None)
@given(sequences, st.integers(1, 3))
def test_kmers_are_counted_like_a_scan_with_a_window(texts: list[str], k: int) -> None:
    words = ["".join(word) for word in product("ACGU", repeat=k)]
    expected = [sum(text[i : i + k] == word for text in texts for i in range(len(text) - k + 1)) for word in words]
    assert kmer_counts(texts, k, "ACGU").tolist() == expected


def test_a_letter_outside_the_alphabet_is_named_with_its_place() -> None:
    with pytest.raises(DataError, match=r"sequence 2, column 3: 'N' is not one of A, C"):
        kmer_counts(["AC", "ACN"], 1, "AC")
    with pytest.raises(DataError, match="k must be at least 1"):
        kmer_counts(["AC"], 0, "AC")


def test_kmer_correlation_is_pearson_by_hand() -> None:
    # frequencies (1, 1, 2)/4 and (3, 0, 1)/4; deviations (-1, -1, 2)/12 and (5, -4, -1)/12
    expected = (-5 + 4 - 2) / math.sqrt(6 * 42)
    assert kmer_correlation(np.array([1, 1, 2]), np.array([3, 0, 1])) == pytest.approx(expected)


def test_kmer_correlation_ignores_the_number_of_sequences_and_refuses_other_tables() -> None:
    a, b = np.array([5, 1, 2, 9]), np.array([2, 2, 7, 1])
    assert kmer_correlation(a, b) == pytest.approx(kmer_correlation(a * 10, b))
    assert math.isnan(kmer_correlation(np.array([2, 2]), np.array([1, 3])))
    assert math.isnan(kmer_correlation(np.zeros(2), np.array([1, 3])))
    with pytest.raises(DataError, match="differ in size"):
        kmer_correlation(a, b[:2])


@settings(max_examples=60, deadline=None)
@given(sequences.filter(lambda texts: len(texts) > 1))
def test_distance_is_the_mean_over_all_pairs(texts: list[str]) -> None:
    distances = []
    for a, b in combinations(texts, 2):
        differing = sum(x != y for x, y in zip(a, b))
        distances.append(differing + abs(len(a) - len(b)))
    assert mean_pairwise_distance(texts) == pytest.approx(sum(distances) / len(distances))


def test_distance_of_less_than_a_pair_and_of_repeats() -> None:
    assert math.isnan(mean_pairwise_distance(["ACG"]))
    assert mean_pairwise_distance(["ACG", "ACG", "ACG"]) == 0


def test_distance_needs_no_pairs_to_be_listed() -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices("ACGU", k=50)) for _ in range(5000)]  # twelve million pairs
    assert mean_pairwise_distance(texts) == pytest.approx(37.5, abs=0.1)


def test_unique_fraction() -> None:
    assert unique_fraction(["A", "C", "A", "A", "G"]) == pytest.approx(0.6)
    assert math.isnan(unique_fraction([]))


def test_summary_by_hand() -> None:
    # places 0.05*4 = 0.2 and 0.95*4 = 3.8 between the sorted values 1 2 4 8 10
    result = summary([8.0, 1.0, 10.0, 2.0, 4.0])
    assert result == {
        "median": 4.0,
        "p5": pytest.approx(1.2),
        "p95": pytest.approx(9.6),
        "mean": 5.0,
        "n": 5,
        "unscored": 0,
        "infeasible": 0,
    }


def test_nan_counts_nowhere_and_minus_infinity_only_as_the_lowest() -> None:
    result = summary([NAN, 3.0, -INF, 5.0, NAN, -INF, 7.0])
    assert (result["n"], result["unscored"], result["infeasible"]) == (7, 2, 2)
    assert result["median"] == 3.0  # of -inf -inf 3 5 7
    assert result["p5"] == -INF
    assert result["mean"] == 5.0


@pytest.mark.parametrize("scores", [[], [NAN, NAN]])
def test_statistics_of_nothing_are_nan(scores: list[float]) -> None:
    result = summary(scores)
    assert all(math.isnan(result[key]) for key in ("median", "p5", "p95", "mean"))
    assert result["unscored"] == len(scores)


def test_all_infeasible_has_a_median_and_no_mean() -> None:
    result = summary([-INF, -INF])
    assert result["median"] == -INF and math.isnan(result["mean"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_quantiles_agree_with_numpy_on_finite_scores(scores: list[float]) -> None:
    result = summary(scores)
    expected = np.quantile(scores, [0.05, 0.5, 0.95])
    np.testing.assert_allclose([result["p5"], result["median"], result["p95"]], expected, atol=1e-6)


def test_beyond_counts_scored_designs_strictly_above() -> None:
    assert beyond([1.0, 2.0, 3.0, NAN, -INF], 2.0) == 0.25
    assert math.isnan(beyond([NAN], 0.0))


def test_lists_arrays_and_tensors_are_the_same_scores() -> None:
    values = [1.5, NAN, -2.0]
    tensor = torch.tensor(values, requires_grad=True)
    for given_as in (values, np.array(values, dtype=np.float32), tensor):
        np.testing.assert_array_equal(as_array(given_as), np.array(values))
    with pytest.raises(DataError, match=r"shape \(B,\)"):
        as_array(np.zeros((2, 1)))


def test_bootstrap_interval_of_a_mean_has_the_textbook_width() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)) * 3 + 5
    with_nan = torch.cat([values, torch.tensor([NAN])])
    low, high = bootstrap_interval(with_nan, np.mean, torch.Generator().manual_seed(0), resamples=4000)
    standard_error = values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - 1.96 * standard_error, abs=0.1 * standard_error)
    assert high == pytest.approx(values.mean().item() + 1.96 * standard_error, abs=0.1 * standard_error)


def test_bootstrap_interval_depends_on_the_generator_alone() -> None:
    values = [1.0, 5.0, 2.0, 9.0]
    first, again = (bootstrap_interval(values, np.median, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == again
    assert all(math.isnan(end) for end in bootstrap_interval([NAN], np.mean, torch.Generator()))
