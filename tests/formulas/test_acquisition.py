"""Acquisition functions against numerical integration, ranks by hand."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.formulas.acquisition import expected_improvement, lead_and_error, rank_correlation, upper_confidence


@pytest.mark.parametrize(
    ("mean", "deviation", "best"), [(0.3, 0.7, 1.1), (-2.0, 0.5, 0.0), (4.0, 0.1, 1.0), (0.0, 3.0, 0.0)]
)
def test_expected_improvement_is_its_integral(mean, deviation, best):
    r = torch.linspace(best, mean + 12 * deviation, 200_001, dtype=torch.float64)
    density = torch.distributions.Normal(mean, deviation).log_prob(r).exp()
    integral = torch.trapezoid((r - best) * density, r).item() if mean + 12 * deviation > best else 0.0
    given = torch.tensor([mean], dtype=torch.float64), torch.tensor([deviation], dtype=torch.float64)
    assert expected_improvement(*given, best).item() == pytest.approx(integral, rel=1e-6, abs=1e-12)


def test_the_upper_bound_of_a_standard_normal_law():
    assert upper_confidence(torch.tensor([1.0]), torch.tensor([2.0]), 0.25).item() == 1.5


def test_ranks_that_are_equal_share_them():
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5
    a, b = torch.tensor([0.0, 1.0, 1.0, 9.0]), torch.tensor([-3.0, 0.1, 0.2, 0.3])
    assert rank_correlation(a, b) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-torch.inf, -5.0, -7.0])) == pytest.approx(0.5)
    assert math.isnan(rank_correlation(torch.ones(4), torch.arange(4)))
    assert math.isnan(rank_correlation(torch.arange(2), torch.arange(2)))


def test_the_lead_of_a_mean_and_its_error():
    lead, error = lead_and_error(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0, 3.0]))
    assert lead == pytest.approx(1.0)
    assert error == pytest.approx(math.sqrt(2 / 2 + 3 / 3))
