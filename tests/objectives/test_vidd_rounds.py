"""VIDD's rounds on a small sequence process: what is collected, what is dropped, and where gradients go."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, Target, draw_loss
from biotilt.networks.table import StateTable
from biotilt.objectives import VIDD
from biotilt.processes import AnyOrder
from biotilt.testing import ExactValue, path_kl_exact
from biotilt.testing.contracts import check_gradients
from biotilt.values import LearnedQ, LearnedValueConfig, MonteCarlo, PosteriorMean

ALPHA = 0.4


pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vidd(**options: Any) -> VIDD:
    """VIDD with every option that a test depends on given."""
    return VIDD(**({"value": "return", "beta": 1.0, "refresh": 1, "updates": 1,
                    "states": 32, "buffer": 10_000,
                    "mirror": 0.5, "max_log_weight": 10.0, "anchor": "pretrained", "teacher": "closed_form"}
                   | options))  # fmt: skip


def weights(designs: Tensor) -> Tensor:
    return designs.double() @ torch.tensor([1.0, -0.5, 2.0])


def context_of(value: Any) -> Context:
    """The policy, the base and the proposal are three different tables."""
    process = AnyOrder(3, 2)
    roles = Roles.start(Policy(process, StateTable(2, 3, normal(27, 3, 2, seed=5))))
    with torch.no_grad():
        roles.policy.net.logits += normal(27, 3, 2, seed=8)
        roles.proposal.net.logits += normal(27, 3, 2, seed=9)
    return Context(roles, Target(weights, ALPHA), torch.Generator().manual_seed(1), Replay(64), value)


def learned_context(run: str) -> tuple[Context, VIDD]:
    """A learned value that has moved from its start, and a round in the memory."""
    process = AnyOrder(3, 2)
    net = StateTable(2, 3, normal(27, 3, 2, seed=6))
    context = context_of(LearnedQ(net, process, run, LearnedValueConfig(1e-2, 0.1)))
    objective = vidd(value=run)
    context.memory.add(objective.collect(context, 32).rows)
    return context, objective


@pytest.mark.parametrize("run", ["return", "bootstrapped", "mixed"])
@pytest.mark.parametrize("teacher", ["closed_form", "sampled"])
def test_gradients_reach_the_policy_and_the_learned_value_only(run, teacher):
    context, _ = learned_context(run)
    check_gradients(vidd(value=run, teacher=teacher), context)


@pytest.mark.parametrize("anchor", ["pretrained", "rollout"])
def test_gradients_reach_the_policy_only(anchor):
    exact = ExactValue(Policy(AnyOrder(3, 2), StateTable(2, 3)), normal(8, seed=3), ALPHA)
    for value, teacher in ((exact, "closed_form"), (exact, "sampled"), (PosteriorMean(0), "sampled")):
        context = context_of(value)
        objective = vidd(anchor=anchor, teacher=teacher)
        context.memory.add(objective.collect(context, 32).rows)
        check_gradients(objective, context)


def test_the_contract_sees_leaks_and_dead_losses():
    context, objective = learned_context("return")
    rows, context.memory.rows = context.memory.rows, {}

    class Leaky(VIDD):
        def loss(self, context, rows):
            x = context.roles.base.process.noise(2, context.generator)
            ours, theirs = (r.kernel(x, 0) for r in (context.roles.policy, context.roles.proposal))
            return theirs.kl(ours).mean() + context.value.net.logits.sum(), {}

    class Forgetful(VIDD):
        def loss(self, context, rows):
            return context.roles.policy.net.logits.sum(), {}

    class Dead(VIDD):
        def loss(self, context, rows):
            return torch.zeros(()), {}

    with pytest.raises(ValueError, match="memory is empty"):
        check_gradients(objective, context)
    context.memory.rows = rows
    check_gradients(objective, context)
    with pytest.raises(AssertionError, match=r"frozen weights get gradient: proposal\.logits"):
        check_gradients(Leaky(), context)
    with pytest.raises(AssertionError, match="no gradient reaches the value"):
        check_gradients(Forgetful(), context)
    with pytest.raises(AssertionError, match="no gradient reaches the policy"):
        check_gradients(Dead(), context)
    assert not context.roles.proposal.net.logits.requires_grad
    assert context.roles.policy.net.logits.grad is None


def test_the_policy_does_not_pull_the_value():
    """The learned value's gradient is that of its own error: Q enters the teacher as a number."""
    context, objective = learned_context("mixed")
    value = context.value
    state = context.generator.get_state()
    rows = context.memory.draw(objective.states, context.generator)
    value.lesson(context, rows).loss.backward()
    alone = value.net.logits.grad.clone()
    context.generator.set_state(state)
    value.zero_grad()
    draw_loss(objective, context)[0].backward()
    assert alone.abs().max() > 1e-3
    torch.testing.assert_close(value.net.logits.grad, alone)


def test_unscored_designs_are_dropped():
    context, objective = learned_context("return")
    context.target = Target(lambda designs: torch.where(designs[:, 0] == 1, torch.nan, 1.0), ALPHA)
    rows = objective.collect(context, 64).rows
    assert 0 < len(rows["designs"]) < 64
    assert (rows["designs"][:, 0] == 0).all()


def test_a_round_without_scores_leaves_nothing_and_raises_nothing():
    for context, objective in (
        learned_context("mixed"),
        (context_of(MonteCarlo(2)), vidd(value="monte_carlo", teacher="sampled")),
    ):
        context.target = Target(lambda designs: torch.full((len(designs),), torch.nan), ALPHA)
        collected = objective.collect(context, 16)
        assert {len(value) for value in collected.rows.values()} == {0}
        assert len(collected.designs) in (16, 2) and math.isnan(collected.metrics["reward"])


def test_metrics_of_a_roll_in():
    """The mean reward, and the mean log-ratio of the chains as drawn: those of the base add nothing."""
    context, objective = learned_context("return")
    collected = objective.collect(context, 16)
    assert collected.metrics["reward"] == pytest.approx(weights(collected.designs).mean().item())
    exact = path_kl_exact(context.roles.proposal, context.roles.base)
    assert exact > 0.2
    for beta in (0.0, 0.5, 1.0):
        metrics = vidd(beta=beta).collect(context, 8000).metrics
        assert metrics["kl"] == pytest.approx(beta * exact, abs=0.05)
