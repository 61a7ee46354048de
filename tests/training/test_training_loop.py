"""The loop: what it counts, when it stops, what it refuses, and that it does Adam, clipping and averaging."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import (
    Batch,
    Columns,
    Context,
    Follows,
    Learned,
    Objective,
    Policy,
    Replay,
    Roles,
    Round,
    Target,
    Value,
)
from biotilt.errors import BiotiltError, BudgetSpent, ConfigError, NothingScored
from biotilt.networks.table import Table
from biotilt.objectives import PPO
from biotilt.processes import Finite
from biotilt.training import EachRound, TrainConfig, Trainer
from biotilt.values.learned import LearnedValueConfig

S, K = 5, 2
REWARD = torch.tensor([0.2, 1.5, -0.7, 0.9, -1.1])


class Lookup:
    """A table of rewards with a budget of calls."""

    def __init__(self, budget: int = 10**9):
        self.calls, self.budget = 0, budget

    def __call__(self, designs: Tensor) -> Tensor:
        if self.calls + len(designs) > self.budget:
            raise BudgetSpent("no calls are left")
        self.calls += len(designs)
        return REWARD[designs.long()]

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.calls = state["calls"]


def ppo(updates: int = 4) -> PPO:
    return PPO(advantage="batch", group=4, clip=0.2, updates=updates, states=32)


def train(**options: Any) -> TrainConfig:
    return TrainConfig(**({"max_calls": 64, "batch": 16, "lr": 0.05, "schedule": "constant", "warmup": 0,
                           "clip": 1.0, "ema": 0.0, "checkpoint_every": 1} | options))  # fmt: skip


def trainer_of(objective: Any, config: TrainConfig, oracle: Any = None, value: Any = None, **options: Any) -> Trainer:
    logits = torch.randn(K, S, S, generator=torch.Generator().manual_seed(1))
    roles = Roles.start(Policy(Finite(S, K), Table(S, K, logits)))
    oracle = oracle or Lookup()
    context = Context(roles, Target(oracle, 0.5), torch.Generator().manual_seed(2), Replay(objective.capacity), value)
    return Trainer(context, objective, config, oracle, **options)


@dataclass(frozen=True)
class Pull(Objective):
    """Pulls the policy's first logit by a loss given as a function: gradients are then known by hand."""

    slope: Any
    updates: int = 1
    name: ClassVar[str] = "pull"

    refresh_every: int = 1

    @property
    def capacity(self) -> None:
        return None

    @property
    def batch_size(self) -> int | None:
        return 1

    def columns(self, value: Value | None) -> Columns:
        return {"r": "float"}

    def collect(self, context: Context, calls: int) -> Round:
        designs = torch.zeros(calls, dtype=torch.int8)
        return Round({"r": context.target.rewards(designs)}, designs, {"reward": 0.2})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, dict[str, float]]:
        return self.slope(context.roles.policy.net.logits), {"figure": 3.0}


def test_history_counts_rounds_updates_and_calls():
    reported: list[dict[str, float]] = []
    trainer = trainer_of(
        ppo(), train(), callbacks=[EachRound(reported.append)], monitor=lambda d: {"held_out": float(len(d))}
    )
    average = trainer.run()
    assert [row["round"] for row in trainer.history] == [1, 2, 3, 4]
    assert [row["update"] for row in trainer.history] == [4, 8, 12, 16]
    assert [row["calls"] for row in trainer.history] == [16, 32, 48, 64]
    assert all(row["held_out"] == 16.0 for row in trainer.history)
    assert {"reward", "kl", "gradient", "clip_fraction", "seconds"} <= set(trainer.history[0])
    assert trainer.history[0]["kl"] == pytest.approx(0, abs=1e-6)  # drawn before anything was learned
    assert [row["seconds"] for row in trainer.history] == sorted(row["seconds"] for row in trainer.history)
    assert reported == trainer.history
    assert average is trainer.average


def test_only_full_rounds_are_run():
    trainer = trainer_of(ppo(), train(max_calls=60))
    trainer.run()
    assert len(trainer.history) == 3 and trainer.oracle.calls == 48


def test_a_spent_budget_ends_the_run_cleanly(tmp_path):
    trainer = trainer_of(ppo(), train(), Lookup(budget=40), folder=tmp_path)
    average = trainer.run()
    assert [row["calls"] for row in trainer.history] == [16, 32]
    assert not torch.equal(average.logits, trainer.context.roles.base.net.logits)
    assert trainer.checkpoint.is_file()


def test_a_round_without_scores_makes_no_update():
    class Blind(Lookup):
        def __call__(self, designs: Tensor) -> Tensor:
            super().__call__(designs)
            return torch.full((len(designs),), torch.nan)

    trainer = trainer_of(ppo(), train(), Blind())
    before = trainer.context.roles.policy.net.logits.detach().clone()
    with pytest.raises(NothingScored, match="no design of 4 rounds got a score"):
        trainer.run()
    assert [row["update"] for row in trainer.history] == [0, 0, 0, 0]
    assert all(math.isnan(row["reward"]) for row in trainer.history)
    assert torch.equal(trainer.context.roles.policy.net.logits, before)


def test_the_update_is_adam_on_the_clipped_gradient():
    """Gradients (3, 4) and then (0.3, 0.4): the first is clipped to (0.6, 0.8), the second is not."""
    direction = torch.zeros(K, S, S)
    direction[0, 0, :2] = torch.tensor([3.0, 4.0])
    scale = iter([1.0, 0.1])
    trainer = trainer_of(Pull(lambda logits: next(scale) * (direction * logits).sum()), train(max_calls=32))
    reference = nn.Parameter(trainer.context.roles.policy.net.logits.detach()[0, 0, :2].clone())
    adam = torch.optim.Adam([reference], lr=0.05)
    trainer.run()
    for gradient in ([0.6, 0.8], [0.3, 0.4]):
        reference.grad = torch.tensor(gradient)
        adam.step()
    torch.testing.assert_close(
        trainer.context.roles.policy.net.logits.detach()[0, 0, :2], reference.detach(), rtol=1e-4, atol=1e-5
    )
    assert [row["gradient"] for row in trainer.history] == pytest.approx([5.0, 0.5], rel=1e-4)
    assert trainer.history[0]["figure"] == 3.0


def test_figures_are_means_over_the_updates_of_a_round():
    scale = iter([1.0, 3.0, 5.0, 9.0])
    objective = Pull(lambda logits: next(scale) * logits[0, 0, 0], updates=2)
    trainer = trainer_of(objective, train(max_calls=32, clip=100.0))
    trainer.run()
    assert [row["gradient"] for row in trainer.history] == pytest.approx([2.0, 7.0], rel=1e-4)


def test_the_proposal_is_renewed_when_the_objective_says():
    """Two updates a round, renewed after every third: after rounds 1 to 4 it stands at updates 0, 3, 6 and 6."""
    before: list[Tensor] = []  # the weights that update n starts from, which are those after n updates
    after_round: list[Tensor] = []

    def slope(logits: Tensor) -> Tensor:
        before.append(logits.detach().clone())
        return logits.square().sum()

    trainer = trainer_of(Pull(slope, updates=2, refresh_every=3), train())
    roles = trainer.context.roles
    trainer.callbacks = [EachRound(lambda row: after_round.append(roles.proposal.net.logits.detach().clone()))]
    trainer.run()
    for seen, update in zip(after_round, (0, 3, 6, 6), strict=True):
        assert torch.equal(seen, before[update])
    assert not torch.equal(before[3], before[6])
    assert not roles.proposal.net.logits.requires_grad


@pytest.mark.parametrize(("size", "given"), [(5, 5), (99, 16), (None, 16)])
def test_a_loss_is_given_as_many_rows_as_the_objective_asks_for(size, given):
    class Asks(Pull):
        batch_size = size

        def loss(self, context: Context, rows: Batch) -> tuple[Tensor, dict[str, float]]:
            assert set(rows) == {"r"} and len(rows["r"]) == given
            return super().loss(context, rows)

    trainer_of(Asks(lambda logits: logits.sum()), train()).run()


def test_a_value_with_a_slow_copy_follows_after_every_update():
    class Slow(nn.Linear, Learned, Follows):
        config = LearnedValueConfig()

        def follow(self) -> None:
            steps.append(trainer.update)

    steps: list[int] = []
    trainer = trainer_of(Pull(lambda logits: logits.sum(), updates=2), train(max_calls=32), value=Slow(1, 1))
    trainer.run()
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_average_follows_by_hand(ema):
    """decay at update n is min(ema, (1 + n)/(10 + n)): short-sighted at first."""
    trainer = trainer_of(Pull(lambda logits: logits.square().sum()), train(ema=ema))
    net = trainer.context.roles.policy.net
    expected = net.logits.detach().clone()
    seen: list[Tensor] = []
    trainer.callbacks = [EachRound(lambda row: seen.append(net.logits.detach().clone()))]
    average = trainer.run()
    for n, weights in enumerate(seen, start=1):
        decay = min(ema, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(average.logits, expected)
    assert torch.equal(average.logits, net.logits.detach()) == (ema == 0)
    assert average.logits.requires_grad, "it can be tuned again, as the network that it started from"


def test_the_learning_rate_follows_the_schedule():
    rates: list[float] = []
    trainer = trainer_of(Pull(lambda logits: logits.sum()), train(schedule="linear", warmup=2, max_calls=64))
    trainer.callbacks = [EachRound(lambda row: rates.append(trainer.optimiser.param_groups[0]["lr"]))]
    trainer.run()
    # factors (½)(1), 1 − 0.9/4, 1 − 1.8/4, 1 − 2.7/4
    assert rates == pytest.approx([0.05 * f for f in (0.5, 0.775, 0.55, 0.325)])


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1]),
        ("constant", 4, [0.25, 0.5, 0.75, 1, 1]),
        ("linear", 0, [1, 0.82, 0.64, 0.46, 0.28]),
        ("cosine", 0, [1, 0.9140576, 0.6890576, 0.4109424, 0.1859424]),
        ("cosine", 2, [0.5, 0.9140576, 0.6890576, 0.4109424, 0.1859424]),
    ],
)
def test_rates_by_hand(schedule, warmup, expected):
    """Cosine: 0.1 + 0.45 (1 + cos(π u/5)), with cos 36° = 0.809017 and cos 72° = 0.309017."""
    config = train(schedule=schedule, warmup=warmup)
    assert [config.rate(u, 5) for u in range(5)] == pytest.approx(expected)
    if schedule != "constant":
        assert config.rate(5, 5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_calls": 0}, r"train\.max_calls: must be ≥ 1"),
        ({"batch": 0}, r"train\.batch: must be ≥ 1"),
        ({"checkpoint_every": 0}, r"train\.checkpoint_every: must be ≥ 1"),
        ({"lr": 0.0}, r"train\.lr"),
        ({"lr": math.nan}, r"train\.lr"),
        ({"clip": -1.0}, r"train\.clip"),
        ({"ema": 1.0}, r"train\.ema"),
        ({"ema": -0.1}, r"train\.ema"),
        ({"warmup": -1}, r"train\.warmup"),
        ({"schedule": "cosin"}, r'train\.schedule: unknown choice "cosin"; did you mean "cosine"'),
        ({"batch": 65}, r"train\.batch: 65 is larger than train\.max_calls, 64"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        train(**options)


@pytest.mark.parametrize(
    ("what", "slope"),
    [
        ("loss", lambda logits: logits.sum() * torch.nan),
        ("loss", lambda logits: logits.sum() + torch.inf),
        # finite, but its gradient is 0/0
        (
            "gradient",
            lambda logits: (logits - logits.detach()).norm() + (logits - logits.detach()).square().sum().sqrt(),
        ),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(what, slope, tmp_path):
    calls = iter([lambda logits: logits.square().sum(), slope])
    trainer = trainer_of(Pull(lambda logits: next(calls)(logits)), train(), folder=tmp_path)
    with pytest.raises(BiotiltError, match=f"the {what} became (nan|inf) at update 1"):
        trainer.run()
    assert len(trainer.history) == 1
    assert trainer.context.roles.policy.net.logits.isfinite().all()
    assert all(p.isfinite().all() for p in trainer.average.parameters())
    fresh = trainer_of(Pull(lambda logits: logits.square().sum()), train(), folder=tmp_path)
    fresh.resume()
    assert fresh.round == 1
    assert torch.equal(fresh.context.roles.policy.net.logits, trainer.context.roles.policy.net.logits)
    fresh.run()
    assert len(fresh.history) == 4


def test_without_a_folder_there_is_no_checkpoint():
    with pytest.raises(BiotiltError, match="no folder"):
        _ = trainer_of(ppo(), train()).checkpoint


def test_checkpoints_are_written_at_the_given_rounds_and_at_the_end(tmp_path):
    """What there is when a round is told is what the rounds before left: its own checkpoint comes after."""
    times: list[bool] = []
    trainer = trainer_of(ppo(), train(max_calls=80, checkpoint_every=3), folder=tmp_path)

    def report(row: dict[str, float]) -> None:
        times.append(trainer.checkpoint.exists())
        trainer.checkpoint.unlink(missing_ok=True)

    trainer.callbacks = [EachRound(report)]
    trainer.run()
    assert times == [False, False, False, True, False] and trainer.checkpoint.exists()


def test_the_base_stays_where_it_is():
    trainer = trainer_of(ppo(), train())
    policy, base = trainer.context.roles.policy.net, copy.deepcopy(trainer.context.roles.base.net)
    trainer.run()
    assert torch.equal(trainer.context.roles.base.net.logits, base.logits)
    assert not torch.equal(policy.logits, base.logits)


class Tally(Table):
    """A table that writes down of how many rows it and its copies were asked."""

    asked: ClassVar[list[int]] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        Tally.asked.append(len(inputs[0]))
        return super().__call__(*inputs)


def test_the_history_counts_the_rows_of_networks_so_far_also_of_a_run_that_goes_on(tmp_path):
    def counted(rounds: int) -> Trainer:
        roles, oracle = Roles.start(Policy(Finite(S, K), Tally(S, K))), Lookup()
        context = Context(roles, Target(oracle, 0.5), torch.Generator().manual_seed(2), Replay(None))
        config = train(max_calls=16 * rounds)
        return Trainer(context, ppo(), config, oracle, folder=tmp_path, callbacks=[EachRound(look)])

    seen: list[int] = []

    def look(row: Any) -> None:
        seen.append(sum(Tally.asked))

    Tally.asked.clear()
    counted(2).run()
    again = counted(4)
    again.resume()
    again.run()
    assert [row["network_rows"] for row in again.history] == seen
    assert len(seen) == 4 and 0 < seen[0] < seen[1] < seen[2]
