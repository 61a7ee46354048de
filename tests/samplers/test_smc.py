"""SMC: exact where nothing is left to chance, unbiased where something is, summed over all that can happen."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from sampler_problems import (
    ALPHA,
    PROCESSES,
    TableValue,
    Watching,
    base_of,
    context_of,
    normal,
    reward_of,
    tuned_of,
)
from test_svdd import Scripted
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import ConfigError, RewardError
from biotilt.networks.table import StateTable, Table
from biotilt.processes import Finite, Masked
from biotilt.samplers import SMC, Importance
from biotilt.testing import ExactValue, TableScorer, law, optimal_kernel, tilted_law
from biotilt.testing.contracts import check_sampler, enumerated_answer
from biotilt.values import MonteCarlo, PosteriorMean

FINITE = PROCESSES["finite"]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("temper", [False, True])
@pytest.mark.parametrize("tuned", [False, True])
def test_unbiased_summed_over_all_that_can_happen(monkeypatch, tuned, temper):
    """Two particles on three states, two steps, resampled between: Σ probability · exp(log_z) Σ W f = Z E_{p*}[f]."""
    states, particles = 3, 2
    logits = [normal(2, states, states, seed=s) for s in (1, 2)]
    reward, table = normal(states, seed=3), 2 * normal(2, states, seed=4)
    process = Scripted(states, 2)
    base, proposal = (Policy(process, Table(states, 2, each)) for each in logits)
    context = context_of(base, TableScorer(process, reward), proposal=proposal if tuned else None)
    log_prob = logits[1 if tuned else 0].log_softmax(-1)
    found, total = torch.zeros(states), 0.0
    pairs = list(itertools.product(range(states), repeat=particles))
    for first, kept, second in itertools.product(pairs, itertools.product(range(particles), repeat=2), pairs):
        weight: list[Tensor] = []

        def resample(log_weight: Tensor, generator: torch.Generator, kept=kept, weight=weight) -> Tensor:
            weight.append(log_weight)
            return torch.tensor(kept)

        monkeypatch.setattr("biotilt.samplers.smc.systematic_resample", resample)
        process.script[:] = [torch.tensor(first, dtype=torch.int8), torch.tensor(second, dtype=torch.int8)]
        context.value = TableValue(table)
        drawn = SMC(resample=1.0, temper=temper).draw(context, particles)
        if weight:
            probability = weight[0].softmax(0)[list(kept)].prod()
        else:  # equal weights are not resampled: count that once
            kept = (0, 1) if kept == (0, 1) else None
            probability = torch.tensor(0.0 if kept is None else 1.0)
        probability = probability * log_prob[0, 0, list(first)].exp().prod()
        if kept is not None:
            before = [first[i] for i in kept]
            probability = probability * log_prob[1, before, list(second)].exp().prod()
        total += probability.item()
        mass = probability * math.exp(drawn.log_z or 0) * drawn.log_weight.softmax(0)
        found.index_add_(0, drawn.designs.long(), mass)
    assert total == pytest.approx(1, abs=1e-12)
    exact, log_z = tilted_law(law(Policy(Finite(states, 2), base.net)), reward, ALPHA)
    torch.testing.assert_close(found, exact * math.exp(log_z), atol=1e-10, rtol=1e-10)


def perfect(process) -> tuple[Policy, Policy]:
    """A base and its p*: the optimal kernel of a finite chain; of one letter a step, the conditionals of p*."""
    base, reward = base_of(process), reward_of(process)
    if process is FINITE:
        return base, Policy(process, Table(5, 3, optimal_kernel(base, reward, ALPHA).log().float()))
    joint = normal(27, seed=1).exp() * (reward / ALPHA).exp()
    return base, Policy(process, StateTable.of_joint(joint, 3, 3))


@pytest.mark.parametrize("name", ["finite", "one letter a step"])
def test_weights_are_constant_at_p_star_with_the_exact_value(name):
    """Every particle weighs Z, at every step: no resampling, no variance."""
    process = PROCESSES[name]
    base, p_star = perfect(process)
    context = context_of(base, proposal=p_star, value=ExactValue(base, reward_of(process), ALPHA))
    drawn = SMC(temper=False).draw(context, 50)
    log_z = tilted_law(law(base), reward_of(process), ALPHA)[1]
    torch.testing.assert_close(drawn.log_weight, torch.full((50,), log_z), atol=2e-5, rtol=0)
    assert drawn.log_z == pytest.approx(log_z, abs=2e-5)
    assert drawn.metrics == {"ess": pytest.approx(1), "resampled": 0.0}
    assert len(drawn.designs.unique(dim=0)) > 3


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))
@pytest.mark.parametrize("value", ["posterior_mean", "monte_carlo"])
def test_unbiased(process, tuned, value):
    sampler = SMC("monte_carlo" if process is FINITE else value, resample=1.0 if value == "monte_carlo" else 0.5)
    base = base_of(process)
    plug = MonteCarlo(2) if sampler.value == "monte_carlo" else PosteriorMean()  # a finite chain has no guess
    context = context_of(base, proposal=tuned_of(process) if tuned else None, value=plug)
    check_sampler(sampler, context, enumerated_answer(base, reward_of(process), ALPHA), repeats=100)


@pytest.mark.parametrize("tuned", [False, True])
def test_without_a_value_it_is_importance_sampling(tuned):
    proposal = tuned_of(FINITE) if tuned else None
    ours = SMC("none", resample=1.0).draw(context_of(base_of(FINITE), proposal=proposal), 60)
    theirs = Importance().draw(context_of(base_of(FINITE), proposal=proposal), 60)
    assert torch.equal(ours.designs, theirs.designs) and ours.metrics["resampled"] == 0
    torch.testing.assert_close(ours.log_weight, theirs.log_weight, atol=1e-5, rtol=1e-5)
    assert ours.log_z == pytest.approx(theirs.log_z, abs=1e-5)


@pytest.mark.parametrize("temper", [False, True])
def test_what_is_resampled_by(monkeypatch, temper):
    """After step k, (k/K)(v(x[k]) − …)/α plus the path's ratio; a resampled particle starts from weight 1."""
    seen: list[Tensor] = []

    def keep(log_weight: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(log_weight)
        return torch.arange(len(log_weight))

    monkeypatch.setattr("biotilt.samplers.smc.systematic_resample", keep)
    table, value = normal(3, 5, seed=9), TableValue(normal(3, 5, seed=9))
    base, tuned = base_of(FINITE), tuned_of(FINITE)
    drawn = SMC(resample=1.0, temper=temper).draw(context_of(base, proposal=tuned, value=value), 30)
    (_, x1), (_, x2) = value.asked
    path = [torch.zeros(30, dtype=torch.int8), x1, x2, drawn.designs]
    share = [1 / 3, 2 / 3] if temper else [1.0, 1.0]
    twist = [torch.zeros(30), share[0] * table[1, x1.long()], share[1] * table[2, x2.long()], drawn.rewards]
    for k, found in enumerate([*seen, drawn.log_weight]):
        ratio = base.kernel(path[k], k).log_prob(path[k + 1]) - tuned.kernel(path[k], k).log_prob(path[k + 1])
        torch.testing.assert_close(found, ratio + (twist[k + 1] - twist[k]) / ALPHA, atol=1e-5, rtol=1e-5)
    assert len(seen) == 2 == drawn.metrics["resampled"]
    assert drawn.log_z == pytest.approx(sum(w.exp().mean().log().item() for w in [*seen, drawn.log_weight]), abs=1e-4)


@pytest.mark.parametrize(("resample", "expected"), [(0.0, 0), (0.5, 1), (0.99, 2)])
def test_resampling_waits_for_the_threshold(resample, expected):
    """Values that differ in the first step only a little, in the second a lot."""
    table = torch.zeros(3, 5)
    table[1] = torch.tensor([0.0, 0.3, 0.6, 0.0, 0.3]) * ALPHA
    table[2] = torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0]) * ALPHA
    context = context_of(Policy(FINITE, Table(5, 3)), value=TableValue(table))
    drawn = SMC(resample=resample, temper=False).draw(context, 200)
    assert drawn.metrics["resampled"] == expected


def test_no_state_is_asked_twice():
    value = TableValue(normal(3, 5, seed=6))
    context = context_of(base_of(FINITE), value=value)
    SMC(resample=1.0).draw(context, 11)
    assert [(step, len(x)) for step, x in value.asked] == [(1, 11), (2, 11)]
    assert context.target.scorer.calls == 11  # type: ignore[attr-defined]


def test_states_that_cannot_be_scored_leave_it_unbiased():
    """They keep the value of the state before; designs that cannot be scored or are infeasible weigh nothing."""
    table = 2 * normal(3, 5, seed=6)
    table[1, [0, 2]] = math.nan
    table[2, [1, 2]] = math.nan
    reward = reward_of(FINITE)
    reward[[0, 3]] = torch.tensor([math.nan, -math.inf])
    base = base_of(FINITE)
    context = context_of(base, TableScorer(FINITE, reward), proposal=tuned_of(FINITE), value=TableValue(table))
    check_sampler(SMC(), context, enumerated_answer(base, reward, ALPHA), repeats=400)
    drawn = SMC().draw(context, 100)
    assert (drawn.rewards.isfinite() == drawn.log_weight.isfinite()).all()
    assert (drawn.rewards[drawn.designs == 3] == -torch.inf).all() and (drawn.designs == 3).any()


def test_what_weighs_nothing_does_not_survive():
    """State 2 is known to be hopeless after the first step: nobody goes on from it once particles are resampled."""
    table = torch.zeros(3, 5)
    table[1, 2] = -torch.inf
    value = TableValue(table)
    logits = torch.zeros(3, 5, 5)
    logits[1] = 50 * torch.eye(5)  # a state stays itself in the second step
    base = Policy(FINITE, Table(5, 3, logits))
    SMC(resample=1.0).draw(context_of(base, value=value), 100)
    (_, after_one), (_, after_two) = value.asked
    assert (after_one == 2).any() and not (after_two == 2).any()
    value.asked.clear()
    drawn = SMC(resample=0.0).draw(context_of(base, value=value), 100)
    (_, after_one), _ = value.asked
    assert torch.equal(after_one == 2, drawn.log_weight == -torch.inf)


def test_no_weight_at_all_is_said():
    hopeless = torch.full((5,), -torch.inf)
    context = context_of(base_of(FINITE), TableScorer(FINITE, hopeless), value=TableValue(torch.zeros(3, 5)))
    with pytest.raises(RewardError, match="none of 6 particles has a weight"):
        SMC().draw(context, 6)
    context.value = TableValue(hopeless.expand(3, 5))
    with pytest.raises(RewardError, match="none of 6 particles has a weight"):
        SMC().draw(context, 6)
    assert len(context.value.asked) == 1, "and at once"


@pytest.mark.parametrize("change", [{"resample": 1.5}, {"resample": -0.1}, {"value": 3}])
def test_options_are_checked(change):
    with pytest.raises(ConfigError, match=rf"sampler\.{next(iter(change))}"):
        SMC(**change)


@pytest.mark.parametrize(("sampler", "asked"), [(SMC(), 40), (Importance(), 4)], ids=["smc", "importance"])
def test_memory_does_not_grow_with_steps(sampler, asked):
    """Importance sampling asks at the steps that reveal something: up to 15, of 3 letters in each of 5 chains."""
    net = Watching(base_of(Masked(3, 3)).net)
    base = Policy(Masked(3, 3, num_steps=40), net)
    context = context_of(base, value=PosteriorMean())
    context.roles.base = context.roles.proposal = base
    sampler.draw(context, 5)
    assert len(net.shown) >= asked and net.most <= 4


@pytest.mark.parametrize("resample", [0.0, 1.0])
def test_the_error_of_log_z_covers_its_spread_over_runs(resample):
    """Systematic resampling makes less noise than the estimate knows of, so it may be too large, but not too small."""
    base, sampler = base_of(FINITE), SMC(value="monte_carlo", resample=resample)
    exact = tilted_law(law(base), reward_of(FINITE), ALPHA)[1]
    found = [sampler.draw(context_of(base, value=MonteCarlo(), seed=seed), 60) for seed in range(60)]
    off = torch.tensor([(each.log_z or 0) - exact for each in found])
    told = torch.tensor([each.log_z_error or 0 for each in found])
    assert 0.75 * off.square().mean().sqrt() < told.mean() < 3 * off.square().mean().sqrt()
