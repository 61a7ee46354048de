"""Weights of designs from a mixture, with and without a control, against laws written out."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.formulas.weighted import controlled_weights, draw_signed, mixture_log_ratio, with_unscored

P_PRE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
P_OUT = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
RHO = (P_OUT / P_PRE).log()
TILT = torch.tensor([0.4, -1.2, 0.9], dtype=torch.float64)  # r/α
P_STAR = (P_PRE.log() + TILT).softmax(0)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_mixture_log_ratio_is_that_of_the_mixed_density(beta):
    expected = ((beta * P_OUT + (1 - beta) * P_PRE) / P_PRE).log()
    torch.testing.assert_close(mixture_log_ratio(RHO, beta), expected)


def test_mixture_log_ratio_of_extreme_paths():
    """e^800 overflows in any float; the base's share bounds what a path that the policy never draws can weigh."""
    mixed = mixture_log_ratio(torch.tensor([800.0, -800.0]), 0.75)
    torch.testing.assert_close(mixed, torch.tensor([800 + math.log(0.75), math.log(0.25)]))
    assert mixture_log_ratio(torch.tensor([-800.0]), 1.0).tolist() == [-800.0]


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_expected_weights_are_p_star(beta):
    """Designs in proportion to p_mix, each with the log-weight r/α − log p_mix/p_pre: their weighted law is p*."""
    mixed = mixture_log_ratio(RHO, beta)
    drawn = beta * P_OUT + (1 - beta) * P_PRE  # the share of each design among the draws, as a log-weight
    weights = controlled_weights(drawn.log() + TILT - mixed, torch.zeros(3).double(), torch.ones(3).bool())
    torch.testing.assert_close(weights, P_STAR)


def base_draws_with_unscored() -> tuple[torch.Tensor, ...]:
    """Scored designs in proportion to the base; ten unscored ones in proportion to a policy of 0.1, 0.3, 0.6."""
    design = torch.tensor([0] + [1] * 3 + [2] * 6 + [0, 1, 2])
    log_weight = torch.cat([torch.zeros(10).double(), P_PRE.log() + TILT])
    log_control = torch.cat([torch.zeros(10).double(), P_PRE.log() + RHO])
    return design, log_weight, log_control, torch.arange(13) >= 10


def test_the_control_cancels_in_expectation():
    design, log_weight, log_control, scored = base_draws_with_unscored()
    weights = controlled_weights(log_weight, log_control, scored)
    assert (weights[10:] - P_STAR).abs().max() > 0.1, "nothing was subtracted"
    total = torch.zeros(3).double().index_add_(0, design, weights)
    torch.testing.assert_close(total, P_STAR)


def test_the_control_has_the_strength_of_least_squares():
    _, log_weight, log_control, scored = base_draws_with_unscored()
    got = controlled_weights(log_weight, log_control, scored).square().sum()
    grid = torch.linspace(-1, 2, 3001).double()
    squares = (P_STAR - grid.unsqueeze(-1) * P_OUT).square().sum(-1) + 10 * (grid / 10).square()
    assert got.item() == pytest.approx(squares.min().item(), abs=1e-6)


def test_on_policy_at_p_star_all_designs_count_the_same():
    """Scored or not, each is then a draw from p*."""
    weights = controlled_weights(torch.full((7,), 3.0), torch.full((7,), -1.0), torch.arange(7) >= 5)
    torch.testing.assert_close(weights, torch.full((7,), 1 / 7))


def test_a_control_that_says_nothing_of_the_weight_is_left_out():
    """All the control on designs that weigh nothing."""
    log_weight, log_control = torch.tensor([0.0, 0.0, 1.0, -60.0]), torch.tensor([0.0, -60.0, -60.0, 1.0])
    weights = controlled_weights(log_weight, log_control, torch.tensor([False, True, True, True]))
    torch.testing.assert_close(weights, torch.tensor([0.0, 0.2689, 0.7311, 0.0]), atol=1e-4, rtol=0)


def test_unscored_designs_come_first_and_are_marked():
    rows = {"designs": torch.tensor([[1, 2]]), "log_weight": torch.tensor([0.5]), "log_control": torch.tensor([-1.0])}
    joined = with_unscored(rows, torch.tensor([[0, 0], [2, 2]]))
    assert joined["designs"].tolist() == [[0, 0], [2, 2], [1, 2]]
    assert joined["scored"].tolist() == [False, False, True]
    assert joined["log_weight"].tolist() == [0.0, 0.0, 0.5] and joined["log_control"].tolist() == [0.0, 0.0, -1.0]


def test_signed_draws_estimate_the_weighted_sum():
    weights, values = torch.tensor([0.9, -0.5, 0.6, 0.0]), torch.tensor([1.0, 2.0, -3.0, 1e6])
    rows, coefficient = draw_signed(weights, 200_000, torch.Generator().manual_seed(0))
    assert coefficient.unique().tolist() == [-2.0, 2.0]
    terms = coefficient * values[rows]
    error = terms.std().item() / 200_000**0.5
    assert terms.mean().item() == pytest.approx((weights * values).sum().item(), abs=4 * error)
