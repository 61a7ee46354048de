"""Multipliers step by step against numbers worked out by hand; prices of scores and of replays; what is saved."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from biotilt.constraints import Adapting, Bounds, Constrained, Constraint, LagrangianConfig, Multiplier
from biotilt.core import Replay
from biotilt.core.objective import Round
from biotilt.errors import CheckpointError, ConfigError

NAN, INF = math.nan, math.inf
ALPHA = 0.5


class Column:
    """Scores of designs `(B, 1)` by their letter; it counts what it is asked for and its count can be saved."""

    def __init__(self, *table: float):
        self.table, self.asked = torch.tensor(table, dtype=torch.float64), []

    def __call__(self, states: Tensor) -> Tensor:
        self.asked.append(states[:, 0].tolist())
        return self.table[states[:, 0].long()]

    def relaxed(self, designs: Tensor) -> Tensor:
        return designs[:, 0] @ self.table

    def state_dict(self) -> dict[str, int]:
        return {"calls": len(self.asked)}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.asked = [[]] * state["calls"]


def designs(*letters: int) -> Tensor:
    return torch.tensor(letters, dtype=torch.int8).unsqueeze(-1)


def priced(*prices: float, constraints: list[Constraint] | None = None, reward: Column | None = None) -> Constrained:
    scorer = Constrained(
        reward or Column(1.0, 2.0, 3.0),
        constraints or [Constraint(Column(10.0, 20.0, 40.0), Bounds("g", at_least=1.0))],
    )
    for multiplier, price in zip(scorer.multipliers, prices, strict=True):
        multiplier.price = price
    return scorer


def test_two_outer_iterations_by_hand():
    """g of mean 1 and standard deviation 2 against E[g] ≥ 3, α = 0.5, penalty 0.4: μ = 0.4 · 0.5 / 4 = 0.05."""
    config = LagrangianConfig(penalty=0.4, every=2, average=0.5, growth=2.0, max_growth=4.0, shrink=0.5)
    m = Multiplier("g", 1.0, 3.0)
    m.observe(torch.tensor([-1.0, 3.0]), config, ALPHA)
    assert (m.unit, m.mean, m.violation) == (2.0, 1.0, 2.0)
    assert m.penalty == pytest.approx(0.05)
    assert m.price == pytest.approx(0.1) and m.value == 0.0
    # mean of the new designs 2: running mean 1.5, v = 1.5; the outer iteration ends, λ ← λ̃ = 0.075
    m.observe(torch.tensor([2.0, 2.0]), config, ALPHA)
    assert m.mean == 1.5 and m.value == m.price == pytest.approx(0.075)
    # no iteration ended before this one, so it has nothing to be measured against: μ stays
    assert m.penalty == pytest.approx(0.05) and m.left == 1.5
    m.observe(torch.tensor([1.5, 1.5]), config, ALPHA)
    assert m.value == pytest.approx(0.075) and m.price == pytest.approx(0.075 + 0.05 * 1.5)
    # v = 1.5 has not halved and has no noise: μ doubles after λ ← 0.075 + 0.05 · 1.5
    m.observe(torch.tensor([1.5]), config, ALPHA)
    assert m.value == pytest.approx(0.15) and m.penalty == pytest.approx(0.1)
    for _ in range(8):
        m.observe(torch.tensor([1.5]), config, ALPHA)
    assert m.penalty == pytest.approx(0.2)  # four times the first, and no more


def test_a_violation_within_the_noise_does_not_raise_the_penalty():
    config = LagrangianConfig(penalty=0.4, every=1, average=1.0, growth=2.0)
    for values, raised in ((torch.tensor([-1.0, 3.0]), False), (torch.tensor([0.99, 1.01]), True)):
        m = Multiplier("g", 1.0, 1.5, unit=2.0, penalty=0.05, mean=1.0, left=0.5)
        m.observe(values, config, ALPHA)  # v = 0.5 both times; standard errors 1.4 and 0.007
        assert (m.penalty > 0.05) is raised


def test_an_upper_bound_turns_the_sign():
    config = LagrangianConfig(penalty=1.0, every=1, average=1.0)
    m = Multiplier("g", -1.0, 3.0)
    m.observe(torch.tensor([3.0, 7.0]), config, ALPHA)  # mean 5, sd 2
    assert m.violation == 2.0 and m.price == pytest.approx(2.0 * ALPHA / 4)
    m.observe(torch.tensor([1.0, 1.0]), config, ALPHA)
    assert m.violation == -2.0 and m.price == 0.0


def test_a_multiplier_is_never_negative_and_at_most_the_cap():
    config = LagrangianConfig(penalty=1.0, every=1, average=1.0, max_multiplier=3.0)
    m = Multiplier("g", 1.0, -100.0)
    m.observe(torch.tensor([-1.0, 1.0]), config, ALPHA)
    assert m.price == m.value == 0.0
    far = Multiplier("g", 1.0, 100.0)
    far.observe(torch.tensor([-2.0, 2.0]), config, ALPHA)
    assert far.price == pytest.approx(3.0 * ALPHA / 2)


def test_what_is_not_finite_is_left_out_of_the_mean():
    config = LagrangianConfig(average=1.0)
    m = Multiplier("g", 1.0, 0.0)
    m.observe(torch.tensor([NAN, -INF]), config, ALPHA)
    assert m.rounds == 0 and math.isnan(m.violation) and m.price == 0.0
    m.observe(torch.tensor([NAN, 1.0, -INF, 5.0]), config, ALPHA)
    assert m.mean == 3.0 and m.unit == 2.0


def test_a_constant_constraint_has_the_way_to_its_limit_as_unit():
    config = LagrangianConfig(penalty=1.0)
    m = Multiplier("g", 1.0, 5.0)
    m.observe(torch.tensor([1.0, 1.0, 1.0]), config, ALPHA)
    assert m.unit == 4.0 and m.penalty == pytest.approx(ALPHA / 16)


def test_the_score_is_the_reward_and_the_priced_constraints():
    first = Constraint(Column(10.0, 20.0, 40.0), Bounds("g", at_least=1.0, at_most=9.0))
    both = [first, Constraint(Column(5.0, 6.0, 7.0), Bounds("h", at_most=1))]
    scorer = priced(0.5, 0.25, 2.0, constraints=both)
    assert [m.name for m in scorer.multipliers] == ["g_at_least", "g_at_most", "h_at_most"]
    expected = [1 + 0.5 * 10 - 0.25 * 10 - 2 * 5, 2 + 0.25 * 20 - 2 * 6, 3 + 0.25 * 40 - 2 * 7]
    assert scorer(designs(0, 1, 2, 1)).tolist() == pytest.approx([*expected, expected[1]])


@pytest.mark.parametrize("price", [0.0, 0.5])
@pytest.mark.parametrize("key", ["at_least", "at_most"])
def test_marks_win_over_prices(price, key):
    g = Constraint(Column(NAN, -INF, 1.0, -INF, NAN), Bounds("g", **{key: 0.0}))
    scores = priced(price, constraints=[g], reward=Column(1.0, 1.0, -INF, NAN, -INF))(designs(0, 1, 2, 3, 4))
    assert scores.isnan().tolist() == [True, False, False, True, True]
    assert scores[1] == scores[2] == -INF


def test_relaxed_scores_have_the_gradient_of_all():
    x = torch.tensor([[[0.5, 0.5, 0.0]]], dtype=torch.float64, requires_grad=True)
    score = priced(0.1).relaxed(x)
    assert score.tolist() == pytest.approx([0.5 * (1 + 2) + 0.1 * 0.5 * (10 + 20)])
    score.sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].tolist() == pytest.approx([1 + 1.0, 2 + 2.0, 3 + 4.0])


def test_a_constraint_is_asked_once_for_a_design_and_after_the_reward():
    scorer = priced(0.5)
    scorer(designs(2, 0, 2))
    scorer(designs(0, 1))
    assert [sorted(asked) for asked in scorer.constraints[0].scorer.asked] == [[0, 2], [1]]  # type: ignore[attr-defined]

    class Spent(Column):
        def __call__(self, states: Tensor) -> Tensor:
            raise KeyboardInterrupt

    broke = priced(0.5, reward=Spent())
    with pytest.raises(KeyboardInterrupt):
        broke(designs(0))
    assert broke.constraints[0].scorer.asked == []  # type: ignore[attr-defined]


REPLAYS = {
    "designs": {"designs": designs(2, 0), "rewards": torch.tensor([3.0, 1.0])},
    "chain": {"chain": torch.stack([designs(9, 9), designs(2, 0)], 1), "rewards": torch.tensor([3.0, 1.0])},
}


@pytest.mark.parametrize("rows", REPLAYS.values(), ids=REPLAYS)
def test_rewards_in_a_replay_follow_the_prices(rows):
    """g = 40 and 10 at a price that went from 0.1 to 0.3."""
    scorer, memory = priced(0.3), Replay(10, dict(rows))
    assert scorer._reprice(memory, [0.3 - 0.1]) == 0
    assert memory.rows["rewards"].tolist() == pytest.approx([3 + 0.2 * 40, 1 + 0.2 * 10])
    assert rows["rewards"].tolist() == [3.0, 1.0]  # not in place: a row may be shared


def test_designs_that_were_never_scored_are_not_priced():
    rows = {"designs": designs(1, 2), "rewards": torch.tensor([0.0, 7.0]), "scored": torch.tensor([False, True])}
    scorer, memory = priced(0.3), Replay(10, rows)
    scorer._reprice(memory, [0.2])
    assert memory.rows["rewards"].tolist() == pytest.approx([0.0, 7.0 + 0.2 * 40])
    assert scorer.constraints[0].scorer.asked == [[2]]  # type: ignore[attr-defined]


def test_a_replay_of_values_is_dropped_and_none_on_policy_is_touched():
    rows = {"x": designs(0, 1), "value_x": torch.zeros(2)}
    memory = Replay(10, rows)
    scorer = priced(0.3)
    assert scorer._reprice(memory, [0.0]) == 0
    assert memory.rows is rows
    assert scorer._reprice(memory, [0.1]) == 2
    assert memory.rows == {}
    on_policy = Replay(None, rows)
    scorer._reprice(on_policy, [0.1])
    assert on_policy.rows is rows


def test_an_infeasible_row_of_a_replay_keeps_its_floor():
    scorer = priced(0.3, constraints=[Constraint(Column(10.0, -INF, NAN), Bounds("g", at_least=1.0))])
    memory = Replay(10, {"designs": designs(0, 1, 2), "rewards": torch.tensor([1.0, -9.0, 2.0])})
    scorer._reprice(memory, [0.2])
    assert memory.rows["rewards"].tolist() == pytest.approx([3.0, -9.0, 2.0])


def test_calls_and_the_work_meanwhile_are_the_oracles():
    class Working(Column):
        calls = 7
        meanwhile = None

    oracle = Working(1.0, 2.0, 3.0)
    scorer = priced(0.5, reward=oracle)
    assert scorer.calls == 7
    scorer.meanwhile = list
    assert oracle.meanwhile is list
    with pytest.raises(ConfigError, match="Unhurried, and Column is none"):
        priced(0.5, reward=Column(1.0)).meanwhile = list


def test_the_state_is_json_and_restores_every_digit():
    scorer = priced(1 / 3)
    (m,) = scorer.multipliers
    m.observe(torch.tensor([1.0, 2.5, 7.1]), scorer.config, ALPHA)
    state = json.loads(json.dumps(scorer.state_dict(), allow_nan=False))
    again = priced(0.0)
    again.load_state_dict(state)
    assert again.multipliers == scorer.multipliers
    # before the first round there are NaN and inf, which are no JSON
    fresh = json.loads(json.dumps(priced(0.0).state_dict(), allow_nan=False))
    again.load_state_dict(fresh)
    assert math.isnan(again.multipliers[0].mean) and again.multipliers[0].left == INF


def test_the_state_of_an_oracle_alone_starts_again():
    scorer = priced(0.7)
    scorer.constraints[0].scorer.load_state_dict = lambda state, behind: seen.append(dict(state))  # type: ignore[attr-defined]
    seen: list[dict] = []
    scorer.load_state_dict({"calls": 0})
    assert scorer.multipliers[0].price == 0.0 and seen == [{"position": 0, "calls": 0}]


def test_a_checkpoint_of_other_constraints_is_refused():
    state = priced(0.5).state_dict()
    other = priced(0.5, constraints=[Constraint(Column(1.0), Bounds("g", at_least=2.0))])
    with pytest.raises(CheckpointError, match="saved with the constraints g_at_least"):
        other.load_state_dict(state)


def test_adapting_is_the_objective_but_for_what_a_round_starts_with():
    made = Round({"x": designs(0)}, designs(0), {"reward": 1.0})
    objective = SimpleNamespace(name="ppo", updates=4, collect=lambda context, calls: made)
    scorer = SimpleNamespace(adapt=lambda context: {"multiplier/g": 0.5}, mean_reward=None)
    adapting = Adapting(objective, scorer)
    assert (adapting.name, adapting.updates) == ("ppo", 4)
    got = adapting.collect(None, 8)  # type: ignore[arg-type]
    assert got.rows is made.rows and got.metrics == {"reward": 1.0, "multiplier/g": 0.5}
    assert made.metrics == {"reward": 1.0}
    scorer.mean_reward = 0.25
    got = adapting.collect(None, 8)  # type: ignore[arg-type]
    assert got.metrics == {"reward": 0.25, "priced_reward": 1.0, "multiplier/g": 0.5}


def test_the_mean_reward_is_that_of_the_reward_alone():
    scorer = priced(
        0.5, reward=Column(1.0, 2.0, NAN, -INF), constraints=[Constraint(Column(*[9.0] * 4), Bounds("g", at_most=1))]
    )
    assert scorer.mean_reward is None
    scorer(designs(0, 1, 2))
    scorer(designs(3, 1))
    assert scorer.mean_reward == pytest.approx((1 + 2 + 2) / 3)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "needs a bound"),
        ({"at_least": INF}, "at_least must be a finite number"),
        ({"at_least": 2.0, "at_most": 1.0}, "above at_most"),
    ],
)
def test_bounds_are_checked(bounds, message):
    with pytest.raises(ConfigError, match=f'constraint "g".*{message}'):
        Constraint(Column(1.0), Bounds("g", **bounds))


@pytest.mark.parametrize(
    "options", [{"draws": 1}, {"every": 0}, {"growth": 0.9}, {"average": 0.0}, {"average": 1.5}, {"penalty": 0.0}]
)
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match=f"lagrangian.{next(iter(options))}: must be"):
        LagrangianConfig(**options)


def test_names_must_differ():
    with pytest.raises(ConfigError, match="two constraints have one name"):
        Constrained(Column(1.0), [Constraint(Column(1.0), Bounds("g", at_least=0.0))] * 2)
    with pytest.raises(ConfigError, match="no constraint"):
        Constrained(Column(1.0), [])
