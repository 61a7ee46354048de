"""Through the real Trainer, path consistency and trajectory balance reach the tilted law of a chain on 12 states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, Target
from biotilt.networks.table import Table, ValueTable
from biotilt.objectives import PathConsistency, TrajectoryBalance
from biotilt.processes import Finite
from biotilt.testing import TableScorer, law, tilted_law, total_variation
from biotilt.training import EachRound, TrainConfig, Trainer
from biotilt.values import VALUES

S, K, ALPHA = 12, 3, 0.5


def problem() -> tuple[Policy, Tensor]:
    """A base, and an asymmetric reward that prefers what the base seldom makes."""
    generator = torch.Generator().manual_seed(100)
    base = Policy(Finite(S, K), Table(S, K, torch.randn(K, S, S, generator=generator)))
    reward = torch.randn(S, generator=generator)
    reward[3] += 1
    return base, reward


def context_of(objective: Any, seed: int, lr: float) -> Context:
    base, reward = problem()
    value = None
    if (kind := objective.value) is not None:
        value = VALUES[kind].build(VALUES.options_of(kind)(lr=lr), base.process, lambda *size: ValueTable(S, K))
    scorer = TableScorer(base.process, reward)
    generator = torch.Generator().manual_seed(seed)
    return Context(Roles.start(base), Target(scorer, ALPHA), generator, Replay(objective.capacity), value)


def config(calls: int, **options: Any) -> TrainConfig:
    return TrainConfig(
        **({"max_calls": calls, "batch": 256, "lr": 0.05, "warmup": 5, "clip": 10.0, "ema": 0.98} | options)
    )


BOTH = [
    TrajectoryBalance(form="log_variance", updates=15, chains=512, buffer=100_000),
    TrajectoryBalance(form="learned", updates=15, chains=512, buffer=100_000),
    PathConsistency(updates=15, chains=512, buffer=100_000),
    PathConsistency(span=1, updates=15, chains=512, buffer=100_000),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objective", BOTH, ids=["log_variance", "learned", "whole", "span 1"])
def test_the_tilted_law_is_reached(objective, seed):
    base, reward = problem()
    p_star, log_z = tilted_law(law(base), reward, ALPHA)
    assert total_variation(law(base), p_star) > 0.6
    context = context_of(objective, seed, lr=0.05)
    trainer = Trainer(context, objective, config(256 * 40), context.target.scorer)
    average = trainer.run()
    assert total_variation(law(Policy(base.process, average)), p_star) < 0.01
    assert context.target.scorer.calls == 256 * 40  # type: ignore[attr-defined]
    # what stands for log Z in the loss is log Z; a value keeps moving with its own rate
    assert trainer.history[-1]["log_z"] == pytest.approx(log_z, abs=0.08)
    if objective.value == "log_z":
        assert context.value().item() == pytest.approx(log_z, abs=0.08)


def test_off_policy_data_of_the_base_alone_is_enough():
    """No chain is ever drawn from the policy: the optimum is the same."""
    base, reward = problem()
    objective = TrajectoryBalance(beta=0.0, updates=15, chains=512, buffer=100_000)
    context = context_of(objective, 0, lr=0.05)
    average = Trainer(context, objective, config(256 * 40), context.target.scorer).run()
    p_star, _ = tilted_law(law(base), reward, ALPHA)
    assert total_variation(law(Policy(base.process, average)), p_star) < 0.02


@pytest.mark.parametrize("objective", [BOTH[1], BOTH[2]], ids=["learned", "whole"])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(objective, tmp_path):
    """The value and its units are in the checkpoint."""
    objective = replace(objective, updates=3, chains=16)

    class Saved(TableScorer):
        def state_dict(self) -> dict[str, int]:
            return {"calls": self.calls}

        def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
            self.calls = state["calls"]

    def trainer(folder: Any) -> Trainer:
        context = context_of(objective, 0, lr=0.05)
        context.target = replace(
            context.target, scorer=Saved(*(vars(context.target.scorer)[key] for key in ("process", "reward")))
        )
        return Trainer(context, objective, config(8 * 16, batch=16), context.target.scorer, folder)

    class Stop(BaseException):
        pass

    def stop(row: dict[str, float]) -> None:
        if row["round"] == 4:
            raise Stop

    whole = trainer(None)
    whole.run()
    first = trainer(tmp_path)
    first.callbacks = [EachRound(stop)]
    with pytest.raises(Stop):
        first.run()
    second = trainer(tmp_path)
    second.resume()
    second.run()
    pairs = [(whole.average, second.average), (whole.context.value, second.context.value)]
    for ours, theirs in pairs:
        for key, weight in ours.state_dict().items():
            assert torch.equal(weight, theirs.state_dict()[key]), key
