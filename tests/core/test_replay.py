"""What is kept of a round: the replay, unscored rows, and rewards made finite."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, Trajectory, drop_unscored, roll_in_metrics, trainable
from biotilt.networks.table import Table
from biotilt.processes import Finite


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*numbers: int) -> dict[str, Tensor]:
    values = torch.tensor(numbers)
    return {"a": values, "b": values.unsqueeze(-1) * torch.tensor([10, 100])}


def test_the_newest_rows_are_kept():
    memory = Replay(5)
    assert len(memory) == 0
    memory.add(rows(1, 2, 3))
    memory.add(rows(4, 5))
    assert memory.rows["a"].tolist() == [1, 2, 3, 4, 5]
    memory.add(rows(6, 7, 8))
    assert memory.rows["a"].tolist() == [4, 5, 6, 7, 8] and len(memory) == 5
    assert torch.equal(memory.rows["b"], memory.rows["a"].unsqueeze(-1) * torch.tensor([10, 100]))
    memory.add(rows(*range(20, 30)))
    assert memory.rows["a"].tolist() == [25, 26, 27, 28, 29]


def test_on_policy_keeps_the_last_round_only():
    memory = Replay(None)
    memory.add(rows(1, 2, 3, 4))
    memory.add(rows(5))
    assert memory.rows["a"].tolist() == [5]


@pytest.mark.parametrize("capacity", [None, 3])
def test_rows_that_differ_in_number_are_refused(capacity):
    memory = Replay(capacity)
    with pytest.raises(ValueError, match=r"rows differ in number.*'a': 2, 'b': 1"):
        memory.add({"a": torch.zeros(2), "b": torch.zeros(1)})


def test_empty_rounds_are_harmless():
    for capacity in (None, 4):
        memory = Replay(capacity)
        memory.add(rows())
        assert len(memory) == 0
        memory.add(rows(1, 2))
        assert memory.rows["a"].tolist() == [1, 2]
    memory.add(rows())
    assert memory.rows["a"].tolist() == [1, 2]


def test_draw_gives_distinct_rows_uniformly():
    memory = Replay(10)
    memory.add(rows(*range(10)))
    draws = torch.stack([memory.draw(3, generator(seed))["a"] for seed in range(3000)])
    assert all(len(set(row)) == 3 for row in draws.tolist())
    frequency = torch.bincount(draws.flatten(), minlength=10) / draws.numel()
    assert (frequency - 0.1).abs().max() < 0.013  # four standard errors
    batch = memory.draw(4, generator())
    assert torch.equal(batch["b"][:, 0], batch["a"] * 10)
    assert sorted(memory.draw(50, generator())["a"].tolist()) == list(range(10))


def test_a_row_with_any_nan_is_dropped():
    batch = {
        "x": torch.tensor([1, 2, 3, 4], dtype=torch.int8),
        "r": torch.tensor([0.5, torch.nan, torch.inf, 2.0]),
        "terms": torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [torch.nan, 1.0]]),
    }
    kept = drop_unscored(batch)
    assert kept["x"].tolist() == [1, 3]
    assert kept["r"].tolist() == [0.5, math.inf] and kept["terms"].shape == (2, 2)
    integers = {"x": torch.arange(3)}
    assert drop_unscored(integers)["x"].tolist() == [0, 1, 2]


def context_of(scorer: Any, value: Any = None, alpha: float = 0.5) -> Context:
    base = Policy(Finite(4, 2), Table(4, 2))
    return Context(Roles.start(base), scorer, alpha, generator(), Replay(None), value)


def test_infeasible_designs_get_a_finite_reward_below_all_others():
    scores = torch.tensor([1.5, -torch.inf, torch.nan, -2.0, -torch.inf])
    got = context_of(lambda designs: scores).rewards(torch.zeros(5))
    # the worst feasible, −2, less 10 α
    assert got[[0, 1, 3, 4]].tolist() == [1.5, -7.0, -2.0, -7.0]
    assert got[2].isnan()


@pytest.mark.parametrize("score", [-torch.inf, torch.nan])
def test_a_batch_without_feasible_designs_is_not_scored(score):
    assert context_of(lambda designs: torch.full((3,), score)).rewards(torch.zeros(3)).isnan().all()


def test_rewards_have_the_default_type():
    got = context_of(lambda designs: torch.tensor([1.0, 2.0], dtype=torch.float64)).rewards(torch.zeros(2))
    assert got.dtype == torch.get_default_dtype() and got.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("shape", [(3, 1), (1,), ()])
def test_scores_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="for 3 designs"):
        context_of(lambda designs: torch.zeros(shape)).rewards(torch.zeros(3, 2))


def test_roll_in_metrics_by_hand():
    chain = Trajectory(torch.zeros(3, 2), log_ratio=torch.tensor([[0.5, 1.0], [-0.25, 2.0]]))
    assert roll_in_metrics(chain, torch.tensor([3.0, torch.nan])) == {"reward": 3.0, "kl": 1.625}
    assert roll_in_metrics(Trajectory(torch.zeros(3, 2)), None) == {}


def test_trainable_modules():
    value = Table(4, 2)
    with_value, without = context_of(None, value), context_of(None, object())
    assert trainable(with_value) == [with_value.roles.policy.net, value]
    assert trainable(without) == [without.roles.policy.net]
