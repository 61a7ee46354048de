"""What a reward declares: direction, range, repeats; each by hand."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch

from biotilt.errors import ConfigError
from biotilt.oracle import Oracle, Store
from biotilt.rewards import FunctionReward, LogProbability, NotScored, Sum, Threshold
from biotilt.rewards.generic.declare import Declared, declare
from biotilt.rewards.generic.functions import reward
from biotilt.testing.spaces import Written

NAN, INF = math.nan, math.inf


def constant(*scores: float) -> FunctionReward:
    return FunctionReward(lambda designs: list(scores), "energy", "v7", units="kcal/mol")


class Counter:
    """A noisy reward: the n-th call gives each design n times its length."""

    name, version, differentiable, units = "noisy", "1", False, ""

    def __init__(self, *failing: int):
        self.calls, self.failing = 0, failing

    def __call__(self, designs: list[str]) -> list[float]:
        self.calls += 1
        if self.calls in self.failing:
            return [NotScored("crashed") for _ in designs]
        return [float(self.calls * len(design)) for design in designs]


def test_minimised_scores_are_negated_and_the_units_say_so():
    stability = declare(constant(-7.5, 2.0, 0.0), direction="minimise")
    assert stability(["A", "B", "C"]) == [7.5, -2.0, 0.0]
    assert math.copysign(1, stability(["A", "B", "C"])[2]) == 1.0  # no −0 on a page
    assert stability.units == "−kcal/mol"  # type: ignore[attr-defined]
    assert declare(constant(1.0), direction="minimise", units="").units == ""  # type: ignore[attr-defined]
    assert declare(constant(1.0), units="kJ/mol").units == "kJ/mol"  # type: ignore[attr-defined]


def test_infeasible_stays_infeasible_in_both_directions():
    assert declare(constant(-INF, 1.0), direction="minimise")(["A", "B"]) == [-INF, -1.0]
    # an energy of +inf is as bad as can be
    assert declare(constant(INF), direction="minimise")(["A"]) == [-INF]
    assert declare(constant(-INF, 3.0), range=(0, 5))(["A", "B"]) == [-INF, 3.0]


def test_the_range_is_in_the_users_own_units_and_direction():
    scores = declare(constant(-50.0, -50.1, 10.0, 10.5, INF), direction="minimise", range=[-50, 10])(list("ABCDE"))
    assert [scores[0], scores[2]] == [50.0, -10.0]
    assert [math.isnan(score) for score in scores] == [False, True, False, True, True]
    assert scores[1].reason == "the score -50.1 is outside the declared range [-50, 10]"  # type: ignore[attr-defined]
    one_sided = declare(constant(1e9, -1.0), range=(0, INF))(["A", "B"])
    assert one_sided[0] == 1e9 and math.isnan(one_sided[1])


def asked(reward) -> tuple[list[float], Oracle]:
    """Return what the oracle says of one design, "A"."""
    oracle = Oracle(reward, store=Store(None), max_calls=None, run_id="r", space=Written(lambda x: ["A"] * len(x)))
    return oracle(torch.zeros(1, 1)).tolist(), oracle


def test_repeats_are_averaged_by_the_oracle():
    noisy = Counter()
    averaged = declare(noisy, repeats=3)
    assert asked(averaged)[0] == [(1 + 2 + 3) / 3] and noisy.calls == 3
    assert not averaged.deterministic  # type: ignore[attr-defined]


def test_a_failed_attempt_enters_no_mean():
    assert asked(declare(Counter(2), repeats=3))[0] == [(1 + 3) / 2]
    ways = iter([[1.0], [-INF], [3.0]])
    assert asked(declare(FunctionReward(lambda designs: next(ways), "r"), repeats=3))[0] == [-INF]


def test_what_changes_a_score_is_in_the_version():
    part = constant(1.0)
    others = [
        declare(part, direction="minimise"), declare(part, range=(0, 1)), declare(part, range=(0, 2)),
        declare(part, repeats=2), declare(part, repeats=3), declare(constant(1.0), repeats=3, range=(0, 1)),
    ]  # fmt: skip
    versions = [part.version, *(other.version for other in others)]
    assert len(set(versions)) == len(versions)
    for same in (declare(part, deterministic=False), declare(part, units="points"), declare(part)):
        assert same.version == "v7"
    assert declare(part, range=[0, 1]).version == declare(constant(2.0), range=(0.0, 1.0)).version
    assert {other.name for other in others} == {"energy"}


def test_nothing_declared_is_the_reward_itself():
    part = constant(1.0)
    assert declare(part) is part


def test_deterministic_is_taken_from_the_part_unless_said():
    part = Counter()
    assert Declared(part).deterministic is True
    part.deterministic = False  # type: ignore[attr-defined]
    assert Declared(part).deterministic is False
    assert Declared(part, deterministic=True).deterministic is True


def test_the_oracle_is_told_the_range_of_the_scores_that_it_gets():
    part = constant(-3.0)
    assert declare(part, range=(-5, 1)).range == (-5, 1)  # type: ignore[attr-defined]
    assert declare(part, range=(-5, 1), direction="minimise").range == (-1, 5)  # type: ignore[attr-defined]
    assert declare(part, direction="minimise").range is None  # type: ignore[attr-defined]
    noisy = Counter()
    noisy.range, noisy.repeats, noisy.deterministic = (0.0, 7.0), 5, False  # type: ignore[attr-defined]
    assert declare(noisy, direction="minimise").range == (-7.0, 0.0)  # type: ignore[attr-defined]
    assert declare(noisy, repeats=2).repeats == 2  # type: ignore[attr-defined]
    assert declare(noisy, direction="minimise").repeats == 5  # type: ignore[attr-defined]


def test_through_the_oracle_a_minimised_noisy_reward_is_averaged_once():
    noisy = Counter()
    reward = declare(noisy, direction="minimise", repeats=3, range=(0, 50))
    scores, oracle = asked(reward)
    assert scores == [-(1 + 2 + 3) / 3]
    assert noisy.calls == 3 and oracle.calls == 1


def test_other_attributes_are_those_of_the_part():
    total = Sum([constant(1.0), constant(2.0)])
    declared = declare(total, direction="minimise")
    assert declared(["A"]) == [-3.0]
    assert declared.components(["A"]) == {"energy": [1.0], "energy#2": [2.0]}  # type: ignore[attr-defined]
    assert declare(FunctionReward(len, "r", batched=False), repeats=2).batched is False  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = declared.no_such_thing  # type: ignore[attr-defined]


def test_it_can_be_sent_to_another_process():
    again = pickle.loads(pickle.dumps(declare(Counter(), direction="minimise", repeats=2)))
    assert again(["AA"]) == [-2.0] and again.repeats == 2


class Linear:
    name, version, differentiable = "linear", "1", True

    def __call__(self, designs: list[str]) -> list[float]:
        return [2.0 * design.count("A") for design in designs]

    def score_one_hot(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * x[..., 0].sum(-1)


def test_gradients_turn_with_the_direction():
    x = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]], requires_grad=True)
    declared = declare(Linear(), direction="minimise", range=(1, 9))
    assert declared.differentiable
    score = declared.score_one_hot(x)  # type: ignore[attr-defined]
    assert score[0] == -4.0 and score[1].isnan()  # 0 is outside [1, 9]
    score[0].backward()
    assert x.grad is not None and x.grad[0].tolist() == [[-2.0, 0.0], [-2.0, 0.0]]


def test_the_decorator_declares_too():
    @reward(direction="minimise", range=(-20, 0), units="kcal/mol", version="3", per_design=True)
    def energy(design):
        return -float(len(design))

    assert energy(["AAA", "A" * 21])[0] == 3.0
    assert math.isnan(energy(["A" * 21])[0])
    assert (energy.name, energy.units, energy.batched) == ("energy", "−kcal/mol", False)
    assert energy.version.startswith("3-")

    @reward(version="3")
    def plain(designs):
        return [0.0 for _ in designs]

    assert isinstance(plain, FunctionReward) and plain.version == "3"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"direction": "up"}, 'direction: unknown choice "up"'),
        ({"range": [1.0]}, r"range = \[1.0\] must be two numbers"),
        ({"range": [2, 2]}, r"range = \[2, 2\] must have its low end first"),
        ({"range": [NAN, 2]}, "low end first"),
        ({"repeats": 0}, "repeats must be ≥ 1"),
        ({"repeats": 2, "deterministic": True}, "deterministic reward would all be the same"),
    ],
)
def test_what_cannot_be_is_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        declare(constant(1.0), **keys)


def test_a_whole_is_asked_as_its_most_demanding_part():
    slow = FunctionReward(len, "slow", batched=False)
    noisy = declare(constant(1.0), repeats=4)
    noisy.part.__dict__["imports"] = ("rdkit",)  # type: ignore[attr-defined]
    whole: Any = Sum([LogProbability(noisy, above=0.0), Threshold(slow, at_least=0)])
    assert (whole.batched, whole.deterministic, whole.repeats, whole.imports) == (False, False, 4, ("rdkit",))
    plain: Any = Sum([constant(1.0)])
    assert (plain.batched, plain.deterministic, plain.repeats, plain.imports) == (True, True, 1, ())
