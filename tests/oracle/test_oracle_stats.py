from __future__ import annotations

import math

import torch

from biotilt.oracle import finite_mean, infeasible_fraction, unscored_fraction

SCORES = torch.tensor([2.0, math.nan, -math.inf, 7.0, -math.inf, -math.inf, 3.0, math.nan])


def test_summaries_by_hand():
    assert finite_mean(SCORES) == 4.0
    assert unscored_fraction(SCORES) == 2 / 8
    assert infeasible_fraction(SCORES) == 3 / 6


def test_nothing_finite_has_no_mean():
    assert math.isnan(finite_mean(torch.tensor([math.nan, -math.inf])))
    assert math.isnan(infeasible_fraction(torch.tensor([math.nan])))
