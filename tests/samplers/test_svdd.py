"""SVDD: its weights summed over every child and every choice, its law against p*, and what it does without scores."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

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
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import ConfigError, RewardError
from biotilt.networks.table import Table
from biotilt.processes import Finite, Masked
from biotilt.processes.finite import FiniteKernel
from biotilt.samplers import SVDD
from biotilt.testing import ExactValue, TableScorer, law, tilted_law, total_variation
from biotilt.testing.contracts import check_sampler, enumerated_answer
from biotilt.values import MonteCarlo, PosteriorMean

FINITE = PROCESSES["finite"]


def found_law(designs: Tensor, weight: Tensor | None = None) -> Tensor:
    """The law of weighted designs over the 5 states."""
    weight = torch.ones(len(designs)) if weight is None else weight
    total = torch.zeros(5, dtype=torch.float64).index_add_(0, designs.long(), weight.double())
    return total / total.sum()


@dataclass(frozen=True)
class ScriptedKernel(FiniteKernel):
    script: list[Tensor]

    def sample(self, generator: torch.Generator) -> Tensor:
        return self.script.pop(0)


@dataclass(frozen=True)
class Scripted(Finite):
    """A chain whose draws are read from a script."""

    script: list[Tensor] = field(default_factory=list)

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> ScriptedKernel:
        kernel = super().kernel_of(output, x, k)
        return ScriptedKernel(kernel.x, kernel.log_probs, self.script)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("value_seed", [None, 7, 8])
@pytest.mark.parametrize("tuned", [False, True])
def test_weights_are_proper_summed_over_all_that_can_happen(monkeypatch, tuned, value_seed):
    """Σ over children and choices of probability · w · f = Z E_{p*}[f], for any value, to rounding."""
    states, steps, children = 3, 2, 2
    logits = [normal(steps, states, states, seed=s) for s in (1, 2)]
    reward = normal(states, seed=3)
    value = TableValue(torch.zeros(steps, states) if value_seed is None else 2 * normal(steps, states, seed=value_seed))
    step = list(itertools.product(range(states), range(states), range(children)))
    events = torch.tensor(list(itertools.product(step, repeat=steps)))  # (rows, steps, children + 1)
    process = Scripted(states, steps)
    for k, j in itertools.product(range(steps), range(children)):
        process.script.append(events[:, k, j].to(torch.int8))
    choices = [events[:, k, children] for k in range(steps)]
    log_choice = torch.zeros(len(events))

    def choose(log_prob: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal log_choice
        chosen = choices.pop(0)
        log_choice = log_choice + log_prob.gather(1, chosen.unsqueeze(1)).squeeze(1)
        return chosen

    monkeypatch.setattr("biotilt.samplers.svdd.draw_category", choose)
    base, proposal = (Policy(process, Table(states, steps, table)) for table in logits)
    context = context_of(base, TableScorer(process, reward), proposal=proposal if tuned else None, value=value)
    drawn = SVDD(children=children).draw(context, len(events))

    log_prob = logits[1 if tuned else 0].log_softmax(-1)
    x = torch.zeros(len(events), dtype=torch.long)
    total = log_choice
    for k in range(steps):
        for j in range(children):
            total = total + log_prob[k, x, events[:, k, j]]
        x = events[torch.arange(len(events)), k, events[:, k, children]]
    assert total.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert drawn.designs.tolist() == x.tolist()
    pushed = (total + drawn.log_weight).exp()
    found = torch.zeros(states).index_add_(0, x, pushed)
    exact, log_z = tilted_law(law(Policy(Finite(states, steps), base.net)), reward, ALPHA)
    torch.testing.assert_close(found, exact * math.exp(log_z), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))
def test_unbiased(process, tuned):
    value = "monte_carlo" if process is FINITE else "posterior_mean"  # a finite chain has no guess
    base = base_of(process)
    plug = MonteCarlo(2) if process is FINITE else PosteriorMean()
    context = context_of(base, proposal=tuned_of(process) if tuned else None, value=plug)
    answer = enumerated_answer(base, reward_of(process), ALPHA)
    check_sampler(SVDD(children=3, value=value), context, answer, repeats=60)


def test_one_child_is_ancestral_and_its_weights_are_importance_weights():
    base, tuned = base_of(FINITE), tuned_of(FINITE)
    context = context_of(base, proposal=tuned, value=TableValue(3 * normal(3, 5, seed=5)))
    drawn = SVDD(children=1).draw(context, 100_000)
    assert total_variation(found_law(drawn.designs), law(tuned)) < 0.01
    p_star, _ = tilted_law(law(base), reward_of(FINITE), ALPHA)
    assert total_variation(law(tuned), p_star) > 0.1
    assert total_variation(found_law(drawn.designs, drawn.log_weight.softmax(0)), p_star) < 0.01


def test_with_the_exact_value_many_children_are_p_star():
    """Without the weights; few children are not, and with the weights they are."""
    base, reward = base_of(FINITE), reward_of(FINITE)
    p_star, _ = tilted_law(law(base), reward, ALPHA)
    context = context_of(base, proposal=tuned_of(FINITE), value=ExactValue(base, reward, ALPHA))
    distance = {}
    for children in (1, 2, 64):
        drawn = SVDD(children=children).draw(context, 30_000)
        distance[children] = total_variation(found_law(drawn.designs), p_star)
        assert total_variation(found_law(drawn.designs, drawn.log_weight.softmax(0)), p_star) < 0.02
    assert distance[64] < 0.012 < 0.05 < distance[2] < distance[1]
    assert drawn.metrics["ess"] > 0.97


def test_argmax_takes_the_best_child_and_has_no_weights():
    """With many children the child of the largest value is the state of the largest value."""
    table = normal(3, 5, seed=6)
    value, reward = TableValue(table), reward_of(FINITE)
    drawn = SVDD(children=100, choose="argmax").draw(context_of(base_of(FINITE), value=value), 20)
    assert [step for step, _ in value.asked] == [1, 2]
    assert (drawn.designs == reward.argmax()).all() and (drawn.rewards == reward.max()).all()
    assert drawn.log_weight.tolist() == [0.0] * 20 and drawn.log_z is None


def test_the_reward_is_asked_only_at_the_end_and_no_state_twice():
    value, context = TableValue(normal(3, 5, seed=6)), context_of(base_of(FINITE))
    context.value = value
    SVDD(children=7).draw(context, 11)
    assert [(step, len(x)) for step, x in value.asked] == [(1, 77), (2, 77)]
    assert context.target.scorer.calls == 77  # type: ignore[attr-defined]


@pytest.mark.parametrize("choose", ["draw", "argmax"])
def test_an_unscored_child_is_chosen_only_when_all_are(choose):
    """On the way states 1, 2 and 4 cannot be scored; the second step changes nothing and so shows what was chosen."""
    table = torch.zeros(3, 5)
    table[1:, [1, 2, 4]] = math.nan
    reward = reward_of(FINITE)
    reward[[0, 3]] = math.nan
    logits = torch.zeros(3, 5, 5)
    logits[1] = 50 * torch.eye(5)
    value = TableValue(table)
    context = context_of(Policy(FINITE, Table(5, 3, logits)), TableScorer(FINITE, reward), value=value)
    drawn = SVDD(children=3, choose=choose).draw(context, 4000)
    first, second = (x.view(3, 4000) for _, x in value.asked)
    unscored = torch.isin(first, torch.tensor([1, 2, 4]))
    chosen = torch.isin(second[0], torch.tensor([1, 2, 4]))
    assert torch.equal(chosen, unscored.all(0)) and chosen.any()
    # at the end, likewise: all three of three uniform children fall on {0, 3}
    lost = torch.isin(drawn.designs, torch.tensor([0, 3]))
    assert torch.equal(lost, drawn.rewards.isnan()) and torch.equal(lost, drawn.log_weight == -torch.inf)
    assert lost.float().mean().item() == pytest.approx((2 / 5) ** 3, abs=0.02)


def test_an_infeasible_child_is_preferred_to_an_unscored_one():
    """Of one step's three uniform children: 0 is feasible, 2 infeasible, 1, 3 and 4 cannot be scored."""
    base = Policy(Finite(5, 1), Table(5, 1))
    reward = torch.tensor([0.5, torch.nan, -torch.inf, torch.nan, torch.nan])
    drawn = SVDD(children=3).draw(context_of(base, TableScorer(base.process, reward)), 8000)
    found = [drawn.rewards.isfinite(), drawn.rewards == -torch.inf, drawn.rewards.isnan()]
    exact = [1 - 0.8**3, 0.8**3 - 0.6**3, 0.6**3]
    assert [share.float().mean().item() for share in found] == pytest.approx(exact, abs=0.025)
    assert torch.equal(found[0], drawn.log_weight.isfinite())


def test_unscored_everywhere_on_the_way_it_is_choice_at_the_end_only():
    """Every child keeps the value of its parent, 0: the weight is the mean of exp(r/α) over the last children."""
    base = base_of(FINITE)
    context = context_of(base, value=TableValue(torch.full((3, 5), math.nan)))
    check_sampler(SVDD(children=3), context, enumerated_answer(base, reward_of(FINITE), ALPHA), repeats=100)


def test_infeasible_states_are_never_left_or_entered_with_weight():
    """The exact value is −inf where no feasible design can be reached: then no chain has a weight, or all do."""
    logits = torch.full((2, 4, 4), -torch.inf)
    logits[0, 0] = torch.tensor([-torch.inf, 0.0, 0.0, -torch.inf])
    logits[1, 1] = torch.tensor([0.3, 0.0, -torch.inf, -torch.inf])  # 1 → 0 or 1, feasible
    logits[1, 2] = torch.tensor([-torch.inf, -torch.inf, 0.0, 0.0])  # 2 → 2 or 3, infeasible
    logits[logits == -torch.inf] = -1e4
    base = Policy(Finite(4, 2), Table(4, 2, logits))
    reward = torch.tensor([0.5, -0.4, -torch.inf, -torch.inf])
    context = context_of(base, TableScorer(base.process, reward), value=ExactValue(base, reward, ALPHA))
    drawn = SVDD(children=2).draw(context, 4000)
    lost = drawn.rewards == -torch.inf
    assert lost.float().mean().item() == pytest.approx(1 / 4, abs=0.03)  # both children fell on 2
    assert torch.equal(lost, drawn.log_weight == -torch.inf)
    assert drawn.log_z == pytest.approx(tilted_law(law(base), reward, ALPHA)[1], abs=0.05)


@pytest.mark.parametrize("choose", ["draw", "argmax"])
@pytest.mark.parametrize("reward", [math.nan, -math.inf])
def test_no_weight_at_all_is_said(reward, choose):
    scorer = TableScorer(FINITE, torch.full((5,), reward))
    context = context_of(base_of(FINITE), scorer, value=TableValue(torch.zeros(3, 5)))
    with pytest.raises(RewardError, match="none of 6 chains has a weight"):
        SVDD(choose=choose).draw(context, 6)


@pytest.mark.parametrize("change", [{"children": 0}, {"choose": "best"}, {"value": 3}])
def test_options_are_checked(change):
    with pytest.raises(ConfigError, match=rf"sampler\.{next(iter(change))}"):
        SVDD(**change)


def test_memory_does_not_grow_with_steps():
    net = Watching(base_of(Masked(3, 3)).net)
    base = Policy(Masked(3, 3, num_steps=40), net)
    context = context_of(base, value=PosteriorMean())
    context.roles.base = context.roles.proposal = base
    SVDD(children=2).draw(context, 5)
    assert len(net.shown) == 40 and net.most <= 4
