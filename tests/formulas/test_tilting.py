"""The KL of p* by scored designs: against hand values, another implementation, and the normal law."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.evaluation.attainable import attainable
from biotilt.formulas.tilting import alpha_of_kl, tilted_kl

SKEWED = torch.tensor([0.3, -1.2, 2.0, 0.9, float("nan"), -torch.inf, 0.1, 1.1, -0.4, 0.6])


def test_two_designs_by_hand():
    """Weights 1/5 and 4/5 at α = 1/2: KL = 0.2 log 0.4 + 0.8 log 1.6, and 1/(0.04 + 0.64) count."""
    kl, counted = tilted_kl(torch.tensor([0.0, math.log(2.0)]), alpha=0.5)
    assert kl == pytest.approx(0.2 * math.log(0.4) + 0.8 * math.log(1.6))
    assert counted == pytest.approx(1 / 0.68)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 7.0])
def test_as_what_an_alpha_can_give(alpha):
    found = attainable(SKEWED.tolist(), alpha)
    assert found is not None
    assert tilted_kl(SKEWED, alpha) == (pytest.approx(found["kl"], rel=1e-6), pytest.approx(found["counted"], rel=1e-6))


def test_the_alpha_of_a_kl_has_that_kl():
    scores = torch.randn(500, generator=torch.Generator().manual_seed(0)).exp()
    for kl in (0.05, 0.4, 1.0):
        alpha = alpha_of_kl(scores, kl)
        assert alpha is not None
        found = attainable(scores.tolist(), alpha)
        assert found is not None and found["kl"] == pytest.approx(kl, rel=1e-5)


def test_of_a_normal_law_the_kl_is_half_the_square_of_sigma_over_alpha_however_few_count():
    """KL(p* ‖ p) = σ²/2α² for N(m, σ²); at 8 nats a handful of 2,000 designs would count."""
    scores = 7 + 0.4 * torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)
    for kl, rel in ((0.5, 0.01), (2.0, 0.05), (8.0, 0.15)):
        assert alpha_of_kl(scores, kl) == pytest.approx(0.4 / math.sqrt(2 * kl), rel=rel)


def test_scores_that_do_not_differ_tell_no_alpha():
    assert alpha_of_kl(torch.tensor([2.0, 2.0, -torch.inf, float("nan")]), 1.0) is None
    assert alpha_of_kl(torch.tensor([-torch.inf, float("nan")]), 1.0) is None
