"""Updates made while the oracle works: as many as otherwise, on earlier designs, to the same law, resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, Target
from biotilt.errors import ConfigError
from biotilt.networks.table import Table
from biotilt.objectives import PPO, TrajectoryBalance
from biotilt.oracle import Oracle, Store
from biotilt.processes import Finite
from biotilt.rewards import FunctionReward
from biotilt.testing import law, tilted_law, total_variation
from biotilt.testing.spaces import Written
from biotilt.training import EarlyStopping, TrainConfig, Trainer

S, K, ALPHA = 5, 2, 0.5
REWARD = torch.tensor([0.2, 1.5, -0.7, 0.9, -1.1])


class Slow:
    """An oracle with workers: what was given to it to do meanwhile is done between question and answer."""

    def __init__(self, fails_at: int = 10**9):
        self.calls, self.fails_at = 0, fails_at
        self.meanwhile: Callable[[], None] | None = None
        self.events: list[str] = []

    def __call__(self, designs: Tensor) -> Tensor:
        self.events.append("asked")
        work, self.meanwhile = self.meanwhile, None
        if work is not None:
            work()
        self.calls += len(designs)
        if self.calls >= self.fails_at:
            raise KeyboardInterrupt
        self.events.append("answered")
        return REWARD[designs.long()]

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.calls = state["calls"]


def trainer_of(oracle: Slow, folder: Path | None = None, objective: Any = None, **options: Any) -> Trainer:
    objective = objective or TrajectoryBalance(updates=3, chains=16)
    logits = torch.randn(K, S, S, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(**({"max_calls": 64, "batch": 16, "lr": 0.05, "warmup": 0, "overlap": True} | options))
    roles = Roles.start(Policy(Finite(S, K), Table(S, K, logits)))
    context = Context(roles, Target(oracle, ALPHA), torch.Generator().manual_seed(2), Replay(objective.capacity))
    return Trainer(context, objective, config, oracle, folder)


def test_updates_fall_between_question_and_answer_and_are_as_many_as_otherwise():
    oracle = Slow()
    trainer = trainer_of(oracle)
    step = trainer.optimiser.step
    trainer.optimiser.step = lambda *args, **kwargs: (oracle.events.append("update"), step(*args, **kwargs))[1]
    trainer.run()
    overlapped = ["asked", "update", "update", "update", "answered"]
    assert oracle.events == ["asked", "answered", *overlapped * 3, "update", "update", "update"]
    assert [row["update"] for row in trainer.history] == [0, 3, 6, 12]
    assert "gradient" not in trainer.history[0] and "gradient" in trainer.history[1]


def test_the_tilted_law_is_reached():
    trainer = trainer_of(Slow(), max_calls=8192, batch=128, lr=0.05, warmup=5, ema=0.98,
                         objective=TrajectoryBalance(updates=10, chains=256, buffer=100_000))  # fmt: skip
    base = trainer.context.roles.base
    p_star, _ = tilted_law(law(base), REWARD, ALPHA)
    assert total_variation(law(base), p_star) > 0.3
    assert total_variation(law(Policy(base.process, trainer.run())), p_star) < 0.01


@pytest.mark.parametrize("fails_at", [16 * 2, 16 * 4], ids=["second round", "last round"])
def test_a_killed_run_goes_on_bit_for_bit(fails_at, tmp_path):
    whole = trainer_of(Slow()).run()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(Slow(fails_at), tmp_path).run()
    second = trainer_of(Slow(), tmp_path)
    second.resume()
    assert 0 < second.round < 4
    assert torch.equal(second.run().logits, whole.logits)  # type: ignore[arg-type]


def test_the_oracle_does_once_what_it_was_given():
    done: list[int] = []
    reward = FunctionReward(lambda designs: [float(len(d)) for d in designs], "length")
    oracle = Oracle(
        reward, store=Store(None), max_calls=None, run_id="r", space=Written(lambda x: ["A" * int(n) for n in x])
    )
    oracle.meanwhile = lambda: done.append(oracle.calls)
    assert oracle(torch.tensor([1, 3])).tolist() == [1.0, 3.0]
    assert oracle(torch.tensor([1, 3])).tolist() == [1.0, 3.0]  # all known: nothing is asked, and nothing done again
    assert done == [2]
    oracle.meanwhile = lambda: done.append(oracle.calls)
    assert oracle(torch.tensor([3])).tolist() == [3.0] and done == [2, 2]


def test_an_objective_without_replay_has_nothing_to_do_meanwhile():
    with pytest.raises(ConfigError, match=r'train\.overlap: "ppo" learns from designs of the newest policy only'):
        trainer_of(Slow(), objective=PPO())


def test_a_round_that_became_the_last_teaches_something_too():
    """Stopped after two rounds: the updates on the designs of the second are made, as after a last round."""
    oracle = Slow()
    trainer = trainer_of(oracle, stop=EarlyStopping(plateau=1))
    answers = iter([0.5, 0.2])
    trainer.objective = Known(trainer.objective, answers)
    trainer.run()
    assert trainer.round == 2 and trainer.update == 6
    assert [row["update"] for row in trainer.history] == [0, 3]


class Known:
    """An objective whose rounds have a mean reward that is given."""

    def __init__(self, objective: Any, rewards: Any):
        self.objective, self.rewards = objective, rewards

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def collect(self, context: Context, calls: int) -> Any:
        found = self.objective.collect(context, calls)
        found.metrics["reward"] = next(self.rewards)
        return found
