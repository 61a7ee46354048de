"""A round that is not paid for: it counts what a real one asks, and asks the reward nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from biotilt import Experiment, trial
from biotilt.testing import RowCounter
from biotilt.trial import Unpaid, seconds_of_round
from biotilt.wiring import build_trainer

OBJECTIVES: dict[str, dict[str, Any]] = {
    "vidd": {"updates": 3},
    "vidd, sampled": {"name": "vidd", "value": "posterior_mean", "teacher": "sampled", "updates": 3, "states": 8},
    "ppo": {"name": "ppo", "updates": 3},
    "reward_weighted": {"name": "reward_weighted", "updates": 3},
    "path_consistency": {"name": "path_consistency", "updates": 3},
}


def asked(designs: list[str]) -> list[float]:
    raise AssertionError("a round that is not paid for asks nothing of the reward")


def scored(designs: list[str]) -> list[float]:
    return [float(design.count("G")) for design in designs]


def experiment(reward: Any, objective: dict[str, Any]) -> Experiment:
    train = {"max_calls": 256, "batch": 64}
    return Experiment.for_task("utr", reward=reward, held_out=scored, objective=objective, train=train)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_it_counts_the_rows_of_a_real_round(objective, monkeypatch):
    """On a clock on which a row takes a second and nothing else any time, an estimate is a number of rows."""
    real = build_trainer(experiment(scored, objective), None)
    with RowCounter.of(real.context) as rows:
        real.objective.collect(real.context, 64)
    drawn = rows.total.plain

    monkeypatch.setattr(trial, "_update", lambda trainer: 7.0)
    found = build_trainer(experiment(asked, objective), None)
    with RowCounter.of(found.context) as rows:
        monkeypatch.setattr(trial, "clock", lambda: float(rows.total.total))
        seconds = seconds_of_round(found)
    # once while rows are counted, which this clock sees, and once as the time that they would take
    assert seconds == pytest.approx(2 * drawn + 3 * 7.0)


def test_the_update_is_a_real_one():
    found = build_trainer(experiment(asked, OBJECTIVES["vidd"]), None)
    assert seconds_of_round(found) > 0
    policy = found.context.roles.policy.net
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.parameters() if p.requires_grad)


def test_networks_are_computed_again_afterwards():
    net = nn.Linear(3, 2)
    x = torch.arange(12.0).reshape(4, 3)
    before = net(x)
    with Unpaid([net]) as unpaid:
        said = net(x)
        net(x[:3])
    torch.testing.assert_close(said, before[:1].expand(4, 2))
    assert unpaid.rows[net] == 7 and unpaid.seconds() > 0
    assert torch.equal(net(x), before) and "forward" not in vars(net)
    with pytest.raises(RuntimeError), Unpaid([net]):
        net(torch.zeros(2, 7))
    assert "forward" not in vars(net)
