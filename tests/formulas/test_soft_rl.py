"""Each formula against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.formulas.soft_rl import clipped_surrogate, effective_fraction, soft_return, vidd_log_weight


def test_soft_return_charges_every_step():
    reward = torch.tensor([3.0, -1.0])
    log_ratio = torch.tensor([[0.5, -0.25], [1.5, 0.75], [-1.0, 2.0]])
    # 3 − 0.2 (0.5 + 1.5 − 1) and −1 − 0.2 (−0.25 + 0.75 + 2)
    torch.testing.assert_close(soft_return(reward, log_ratio, 0.2), torch.tensor([2.8, -1.5]))
    assert soft_return(torch.tensor([torch.nan, 1.0]), log_ratio, 0.2).isnan().tolist() == [True, False]


@pytest.mark.parametrize("shape", [(2, 1), (1,), (3,), ()])
def test_soft_return_refuses_other_shapes(shape):
    """(B, 1) would broadcast to (B, B): every chain would be credited with every reward."""
    with pytest.raises(ValueError, match="log_ratio"):
        soft_return(torch.zeros(shape), torch.zeros(3, 2), 0.2)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.1, 2.0, 2.2, 2.2),  # inside: ρA, whose slope in log ρ is itself
        (1.5, 2.0, 2.4, 0.0),  # better and already more likely: clipped at 1.2
        (0.5, 2.0, 1.0, 1.0),  # better but less likely: not clipped
        (1.5, -2.0, -3.0, -3.0),  # worse but more likely: not clipped
        (0.5, -2.0, -1.6, 0.0),  # worse and already less likely: clipped at 0.8
        (1.0, 3.0, 3.0, 3.0),
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, value, slope):
    log_old = torch.tensor([-7.0], dtype=torch.float64)
    log_new = (log_old + math.log(ratio)).requires_grad_(True)
    result = clipped_surrogate(log_new, log_old, torch.tensor([advantage], dtype=torch.float64), 0.2)
    assert result.item() == pytest.approx(value)
    result.sum().backward()
    assert log_new.grad is not None
    assert log_new.grad.item() == pytest.approx(slope)


@pytest.mark.parametrize("shapes", [((2,), (2,), (2, 1)), ((2,), (2, 1), (2,)), ((2, 3), (2,), (2,))])
def test_clipped_surrogate_refuses_other_shapes(shapes):
    with pytest.raises(ValueError, match="shapes differ"):
        clipped_surrogate(*(torch.zeros(shape) for shape in shapes), 0.2)


def test_vidd_weight_subtracts_before_it_divides():
    """exp(v(y)/α) / exp(v(x)/α) overflows at r/α = 5000; the difference does not."""
    log_weight = vidd_log_weight(torch.tensor([5.0, 4.9985]), torch.tensor([4.999, 5.0]), 1e-3)
    torch.testing.assert_close(log_weight, torch.tensor([1.0, -1.5]), atol=2e-3, rtol=0)


def test_effective_fraction_by_hand():
    weights = torch.tensor([1.0, 2.0, 5.0, 0.0])
    expected = (1 + 2 + 5) ** 2 / (4 * (1 + 4 + 25))
    assert effective_fraction(weights.log()).item() == pytest.approx(expected)
    assert effective_fraction(weights.log() + 500).item() == pytest.approx(expected, rel=1e-4)
    assert effective_fraction(torch.full((7,), -3.0)).item() == pytest.approx(1)
    assert effective_fraction(torch.tensor([0.0, -200.0, -200.0, -200.0])).item() == pytest.approx(1 / 4)
