"""Learned values foresee scores before they learn them: what they miss, by tables that know the reward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, RollIn, Target
from biotilt.networks.table import StateTable, Table, ValueTable
from biotilt.processes import AnyOrder, Finite
from biotilt.testing import all_states
from biotilt.testing.exact import lexicographic_index
from biotilt.values import LearnedQ, LearnedV

ALPHA, CENTRE, SPREAD = 0.4, 1.3, 2.5
S, K = 4, 3

pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def context_of(base: Policy, value: Any, reward: Any) -> Context:
    return Context(Roles.start(base), Target(reward, ALPHA), torch.Generator().manual_seed(0), Replay(None), value)


def index(state: Tensor, letters: int) -> int:
    return int(lexicographic_index(state, letters))


@pytest.mark.parametrize("run", ["return", "bootstrapped", "mixed"])
@pytest.mark.parametrize("missed", [0.0, 0.7])
def test_scores_are_foreseen_before_they_are_learned(run, missed):
    """Q knows the reward of any one letter but for a constant: that is what it misses, whichever letter is hidden."""
    process, reward = AnyOrder(3, 2), normal(8, seed=8)
    q = torch.zeros(27, 3, 2, dtype=torch.float64)
    for state in all_states(2, 3):
        hidden = (state == 2).nonzero().flatten().tolist()
        for letter in (0, 1) if len(hidden) == 1 else ():
            whole = state.clone()
            whole[hidden[0]] = letter
            q[index(state, 3), hidden[0], letter] = reward[index(whole, 2)] / ALPHA
    base = Policy(process, StateTable(2, 3, normal(27, 3, 2, seed=1)))
    new = LearnedQ(StateTable(2, 3, normal(27, 3, 2, seed=2)), process, run)
    taught = LearnedQ(StateTable(2, 3, (q + missed - CENTRE) / SPREAD), process, run)
    taught.centre.fill_(CENTRE)
    taught.spread.fill_(SPREAD)
    found = []
    for value in (new, taught):
        context = context_of(base, value, lambda designs: reward[lexicographic_index(designs, 2)])
        found.append((value.gather(context, RollIn(), 60), context.generator.get_state()))
    (before, drawn), (after, drawn_too) = found
    assert "value_held_out" not in before.metrics  # nothing was learned yet
    expected = (missed * ALPHA) ** 2 / after.rows["rewards"].var(correction=0).item()
    assert after.metrics["value_held_out"] == pytest.approx(expected)
    assert torch.equal(drawn, drawn_too)  # what is drawn does not depend on it


def test_states_foresee_by_where_the_last_step_leads():
    """V of the last step is the reward but for a constant: that is missed. Nothing is told before it learns."""
    base, reward = Policy(Finite(S, K), Table(S, K, normal(K, S, S, seed=5))), normal(S, seed=6)
    table = ValueTable(S, K)
    value = LearnedV(table, base.process)
    context = context_of(base, value, lambda designs: reward[designs.long()])
    assert "value_held_out" not in value.gather(context, RollIn(), 50).metrics
    missed = 0.7
    value.state.centre.fill_(CENTRE)
    value.state.spread.fill_(SPREAD)
    table.values.data[K - 1] = (reward / ALPHA - CENTRE) / SPREAD + missed
    found = value.gather(context, RollIn(), 50)
    expected = (missed * SPREAD * ALPHA) ** 2 / found.rows["rewards"].var(correction=0).item()
    assert found.metrics["value_held_out"] == pytest.approx(expected)


def test_a_value_that_was_written_before_it_foresaw_is_read():
    value, again = (LearnedQ(StateTable(2, 3, normal(27, 3, 2, seed=s)), AnyOrder(3, 2), "return") for s in (2, 3))
    written = value.state_dict()
    del written["foresight.sums"]
    again.load_state_dict(written)
    assert torch.equal(again.state_dict()["net.logits"], value.state_dict()["net.logits"])
    assert not again.foresight.sums.any()
