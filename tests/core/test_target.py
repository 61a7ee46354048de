"""The tilt exp(r/α): what scores become for a loss and for a weight."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Target

DESIGNS = torch.zeros(4, 2, dtype=torch.int8)


def target(*scores: float) -> Target:
    return Target(lambda designs: torch.tensor(scores), alpha=0.5)


def test_an_infeasible_design_weighs_nothing_and_costs_ten_alpha_in_a_loss():
    tilt = target(2.0, -1.0, -math.inf, math.nan)
    scores, rewards = tilt.scores(DESIGNS).tolist(), tilt.rewards(DESIGNS).tolist()
    assert scores[:3] == [2.0, -1.0, -math.inf] and math.isnan(scores[3])
    assert rewards[:3] == [2.0, -1.0, -1.0 - 5.0] and math.isnan(rewards[3])
    assert tilt.log_weight(tilt.scores(DESIGNS)).tolist() == [4.0, -2.0, -math.inf, -math.inf]


def test_without_a_feasible_design_nothing_is_scored():
    assert target(-math.inf, math.nan, -math.inf, -math.inf).rewards(DESIGNS).isnan().all()


def test_scores_of_another_shape_are_refused():
    class Wide:
        def __call__(self, designs: Tensor) -> Tensor:
            return torch.zeros(len(designs), 1)

        def relaxed(self, designs: Tensor) -> Tensor:
            return self(designs)

    for ask in (Target(Wide(), 1.0).scores, Target(Wide(), 1.0).rewards, Target(Wide(), 1.0).relaxed_rewards):
        with pytest.raises(ValueError, match=r"shape \(4, 1\) for 4 designs"):
            ask(DESIGNS)
