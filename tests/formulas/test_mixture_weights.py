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


def test_the_control_cancels_in_expectation():
    """Scored designs in proportion to the base; unscored ones in proportion to a policy that draws 0.1, 0.3, 0.6."""
    unscored = torch.tensor([0] + [1] * 3 + [2] * 6)
    design = torch.cat([unscored, torch.arange(3)])
    log_weight = torch.cat([torch.zeros(10).double(), P_PRE.log() + TILT])
    log_control = torch.cat([torch.zeros(10).double(), P_PRE.log() + RHO])
    scored = torch.arange(13) >= 10
    weights = controlled_weights(log_weight, log_control, scored)
    torch.testing.assert_close(weights[10:], P_STAR - P_OUT)
    total = torch.zeros(3).double().index_add_(0, design, weights)
    torch.testing.assert_close(total, P_STAR)


def test_at_p_star_scored_designs_carry_no_weight():
    """w and its control are then the same for each draw: nothing random is left of the scored designs."""
    tilt = (P_STAR / P_PRE).log()
    design = torch.tensor([0, 0, 2, 1, 0])  # any draw at all
    scored = torch.arange(9) >= 4
    log_weight = torch.cat([torch.zeros(4).double(), TILT[design]])
    log_control = torch.cat([torch.zeros(4).double(), tilt[design]])
    assert controlled_weights(log_weight, log_control, scored)[4:].abs().max() < 1e-12


def test_unscored_designs_come_first_and_are_marked():
    rows = {"design": torch.tensor([[1, 2]]), "log_weight": torch.tensor([0.5]), "log_control": torch.tensor([-1.0])}
    joined = with_unscored(rows, torch.tensor([[0, 0], [2, 2]]))
    assert joined["design"].tolist() == [[0, 0], [2, 2], [1, 2]]
    assert joined["scored"].tolist() == [False, False, True]
    assert joined["log_weight"].tolist() == [0.0, 0.0, 0.5] and joined["log_control"].tolist() == [0.0, 0.0, -1.0]


def test_signed_draws_estimate_the_weighted_sum():
    weights, values = torch.tensor([0.9, -0.5, 0.6, 0.0]), torch.tensor([1.0, 2.0, -3.0, 1e6])
    rows, coefficient = draw_signed(weights, 200_000, torch.Generator().manual_seed(0))
    assert coefficient.unique().tolist() == [-2.0, 2.0]
    terms = coefficient * values[rows]
    error = terms.std().item() / 200_000**0.5
    assert terms.mean().item() == pytest.approx((weights * values).sum().item(), abs=4 * error)
