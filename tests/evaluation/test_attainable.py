"""What α can give, against the closed form of a normal law and by hand."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from biotilt.evaluation.attainable import alpha_to_pass, attainable, below_choosing


def normal_scores(count=20_000, mean=2.0, std=0.5):
    """Return the quantiles of a normal law: a sample without noise."""
    return [NormalDist(mean, std).inv_cdf((i + 0.5) / count) for i in range(count)]


def test_of_a_normal_law_the_closed_form():
    found = attainable(normal_scores(), alpha=0.6, chosen=0.125)
    # exp(r/α) moves the mean of N(μ, σ²) by σ²/α, at σ²/2α² nats; the effective part is exp(−σ²/α²)
    assert found["mean"] == pytest.approx(2.0 + 0.25 / 0.6, abs=2e-3)
    assert found["kl"] == pytest.approx(0.25 / (2 * 0.36), abs=5e-3)
    assert found["counted"] / 20_000 == pytest.approx(math.exp(-0.25 / 0.36), rel=0.02)
    assert not found["at_least"]
    # the median of the best eighth is the quantile at 15/16
    assert found["best_of_n"] == pytest.approx(NormalDist(2.0, 0.5).inv_cdf(15 / 16), abs=1e-3)


def test_by_hand_with_what_is_infeasible_and_what_has_no_score():
    found = attainable([3.0, -math.inf, math.nan, 1.0], alpha=2.0)
    e = math.exp(-1.0)  # of the lesser of the two, (1 − 3)/2
    weights = np.array([1, e]) / (1 + e)
    assert found["designs"] == 3
    assert found["mean"] == pytest.approx(weights @ [3.0, 1.0])
    assert found["kl"] == pytest.approx(weights @ np.log(3 * weights))
    assert found["at_least"]
    assert "best_of_n" not in found


@pytest.mark.parametrize("scores", [[], [math.nan], [-math.inf, math.nan]])
def test_without_a_score_nothing_is_said(scores):
    assert attainable(scores, alpha=1.0) is None


def test_the_alpha_that_passes_choosing():
    scores = normal_scores()
    found = attainable(scores, alpha=1.0, chosen=0.125)
    level = NormalDist(2.0, 0.5).inv_cdf(15 / 16)
    exact = 0.25 / (level - 2.0)  # σ²/α above the mean
    assert exact / 1.06 <= alpha_to_pass(scores, level) <= exact * 1.01
    words = below_choosing(found, scores)
    assert words is not None
    assert "even perfect tuning has a mean reward of 2.25" in words
    assert "lower it to 0.3" in words
    assert below_choosing(attainable(scores, alpha=0.2, chosen=0.125), scores) is None


def test_where_few_designs_count_no_alpha_is_named():
    assert alpha_to_pass([1.0, 2.0, 3.0], 2.9) is None
