"""The value that samplers learn before they draw: the exact soft value, what it costs, and what it refuses."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from biotilt import Experiment, reward, steer
from biotilt.core import Context, Policy, Roles, Target
from biotilt.errors import ConfigError, RewardError
from biotilt.networks import MLP, MLPConfig, value_network
from biotilt.networks.table import Table
from biotilt.processes import AnyOrder, Finite
from biotilt.samplers import SMC, SVDD
from biotilt.testing import (
    RowCounter,
    Rows,
    TableScorer,
    law,
    push,
    soft_values,
    space,
    tilted_law,
    total_variation,
    transition_matrices,
)
from biotilt.testing.contracts import check_sampler, enumerated_answer
from biotilt.values import SoftValue, SoftValueConfig

S, K, ALPHA = 5, 3, 0.7
PROCESS = Finite(S, K)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


BASE = Policy(PROCESS, Table(S, K, torch.randn(K, S, S, generator=generator(1))))
REWARD = torch.tensor([1.1, -0.9, 0.2, 2.3, -0.4])
INFEASIBLE = torch.tensor([1.1, -torch.inf, 0.2, 2.3, -0.4])


def learned(scores: Tensor, config: SoftValueConfig | None = None) -> tuple[SoftValue, Context]:
    value = SoftValue(value_network(BASE), PROCESS, config)
    context = Context(Roles.start(BASE), Target(TableScorer(PROCESS, scores), ALPHA), generator(0), value=value)
    return value, context


@pytest.mark.parametrize("scores", [REWARD, INFEASIBLE], ids=["feasible", "one infeasible"])
def test_it_is_the_exact_soft_value_and_not_the_mean_reward(scores):
    """At states as the base visits them, within three standard errors of a mean of so many chains.

    Those of log mean y, y = exp(r/α), in a state that n chains visit are √(Var y / n) / E y, and
    E y² = exp(2 v/α) with v the soft value at α/2.
    """
    value, context = learned(scores, SoftValueConfig(calls=2048, lr=0.02))
    assert value.prepare(context).warnings == []
    states, start, _ = space(PROCESS)
    visits, exact = push(transition_matrices(BASE, states), start), soft_values(BASE, scores, ALPHA)
    spread = (2 * (soft_values(BASE, scores, ALPHA / 2) - exact) / ALPHA).exp() - 1  # Var y / (E y)²
    mean = soft_values(BASE, scores.clamp(min=-20), 1e3 * ALPHA)  # α without end: the mean reward
    for k in range(K):
        found, seen = value.state_value(context, states, k).double(), visits[k] > 0
        off = (visits[k] * (found - exact[k]).square()).sum().sqrt().item()
        from_mean = (visits[k] * (found - mean[k]).square()).sum().sqrt().item()
        allowed = 3 * ALPHA * (spread[k][seen].sum() / (0.8 * 2048)).sqrt().item()
        assert off < allowed < 0.25
        assert from_mean > 3 * off


def test_smc_stays_unbiased_whatever_the_value_has_learned():
    value, context = learned(REWARD, SoftValueConfig(calls=64, epochs=2))
    value.prepare(context)
    for sampler in (SMC("learned", resample=1.0, temper=False), SVDD(children=3, value="learned")):
        check_sampler(sampler, context, enumerated_answer(BASE, REWARD, ALPHA), repeats=100)


def test_with_it_svdd_is_near_p_star():
    """Of 8 children: the error left is theirs, of order 1/8 of what there was, and that of 4,000 designs, 0.01."""
    value, context = learned(REWARD, SoftValueConfig(calls=2048, lr=0.02))
    value.prepare(context)
    p_star, _ = tilted_law(law(BASE), REWARD, ALPHA)
    designs = SVDD(children=8, value="learned").draw(context, 4000).designs
    found = torch.bincount(designs.long(), minlength=S).double() / 4000
    start = total_variation(law(BASE), p_star)
    assert start > 0.2
    assert total_variation(found, p_star) < start / 4


def test_rows_and_calls_as_formulas():
    """Learning: a chain of the base a call. Drawing: a row of the value a state before the last, no call there."""
    length, letters, count, children, calls = 5, 3, 7, 4, 20
    process, steps = AnyOrder(length, letters), length  # each step reveals a letter, so each row is asked
    asked = []

    def scorer(designs: Tensor) -> Tensor:
        asked.append(len(designs))
        return designs.float().sum(-1)

    base = Policy(process, MLP(MLPConfig(letters, length, 8, 1)))
    for sampler, final in ((SMC("learned"), count), (SVDD(children, "learned"), children * count)):
        value = SoftValue(value_network(base), process, SoftValueConfig(calls=calls, states=2, epochs=1))
        context = Context(Roles.start(base), Target(scorer, 1.0), generator(0), value=value)
        asked.clear()
        with RowCounter.of(context) as rows:
            value.prepare(context)
        held = round(0.2 * calls)
        assert sum(asked) == calls
        # the held-out states are valued before the first epoch and after it
        assert rows["base"] == Rows(plain=1 + calls * (steps - 1)) and rows["proposal"] == Rows()
        assert rows["value.state"] == Rows(plain=2 * 2 * held, graph=2 * (calls - held))
        asked.clear()
        with RowCounter.of(context) as rows:
            sampler.draw(context, count)
        assert sum(asked) == final
        assert rows["value.state"] == Rows(plain=final * (steps - 1))
        assert rows["proposal"] == Rows(plain=1 + count * (steps - 1)) and rows["base"] == Rows()


def test_a_reward_that_tells_nothing_is_warned_about_and_guides_nowhere():
    value, context = learned(torch.full((S,), 3.0), SoftValueConfig(calls=40))
    told = value.prepare(context)
    assert told.metrics["value_gain"] == 0
    assert len(told.warnings) == 1 and "knows nothing" in told.warnings[0] and "value.calls" in told.warnings[0]
    assert value.state_value(context, torch.arange(S), 1).tolist() == pytest.approx([3.0] * S, abs=1e-5)


def test_unscored_designs_teach_nothing_and_none_that_count_are_refused():
    scores = torch.tensor([math.nan, 1.0, 1.0, 1.0, 1.0])
    value, context = learned(scores, SoftValueConfig(calls=60, epochs=1))
    value.prepare(context)
    assert value.state.centre.item() == pytest.approx(1 / ALPHA)
    for nothing in (math.nan, -math.inf):
        value, context = learned(torch.full((S,), nothing), SoftValueConfig(calls=20))
        with pytest.raises(RewardError, match=r"learns nothing from 20 designs"):
            value.prepare(context)


def test_before_it_has_learned_it_says_so():
    _, context = learned(REWARD)
    with pytest.raises(ConfigError, match="prepare"):
        SMC("learned").draw(context, 3)


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"value.calls must be ≥ 10.*got 9"):
        SoftValueConfig(calls=9)
    with pytest.raises(ConfigError, match=r'vidd works with values.*"learned" does not'):
        Experiment.for_task("utr", objective={"name": "vidd", "value": "learned"})


def started(seed: int = 3, **sampler: str | int) -> Experiment:
    counts = reward(version="1")(lambda designs: [float(d.count("A")) for d in designs])
    return Experiment.for_task(
        "utr", reward=counts, alpha=2.0, seed=seed, sampler={"value": "learned"} | sampler,
        value={"calls": 16, "states": 2, "epochs": 1},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["smc", "svdd", "refinement"])
def test_an_experiment_steers_with_it_and_charges_what_it_learned_from(name):
    options: dict[str, int] = {} if name == "smc" else {"children": 2} | ({"rounds": 1} if name == "refinement" else {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = steer(started(name=name, **options), 4)
    final = {"smc": 4, "svdd": 8, "refinement": 16}[name]
    assert 16 < found.calls <= 16 + final and found.metrics["value_calls"] == 16
    assert len(found.designs) == 4


def test_the_same_seed_learns_the_same_and_draws_the_same():
    torch.manual_seed(5)
    first = steer(started(name="smc"), 4)
    torch.manual_seed(6)
    again, other = steer(started(name="smc"), 4), steer(started(seed=4, name="smc"), 4)
    assert (first.designs, first.weights, first.metrics) == (again.designs, again.weights, again.metrics)
    assert first.designs != other.designs
