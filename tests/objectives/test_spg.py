"""SPG: which bound with which sign, and where it rests."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from joint_problem import ALPHA, DESIGNS, JOINT, P_STAR, REWARD, L, V, context_of, gradient, normal, policy_of
from torch import Tensor

from biotilt.core import Parts, Policy, check_parts, draw_loss
from biotilt.errors import ConfigError
from biotilt.formulas.evidence import evidence_lower, evidence_upper
from biotilt.networks.table import StateTable
from biotilt.objectives import SPG
from biotilt.processes import AnyOrder, Finite
from biotilt.testing import reveal_law
from biotilt.testing.contracts import check_gradients
from biotilt.testing.exact import lexicographic_index

pytestmark = pytest.mark.usefixtures("double")


def rows_of(advantage: Tensor) -> dict[str, Tensor]:
    return {"designs": DESIGNS[: len(advantage)], "advantage": advantage}


@pytest.mark.parametrize(("mix", "power"), [(0.0, 1.0), (1.0, 3.0), (0.3, 1.5)])
def test_good_designs_raise_the_lower_bound_and_bad_ones_lower_the_mixture(mix, power):
    objective = SPG(mix=mix, power=power, draws=5, states=6)
    policy = Policy(AnyOrder(L, V), StateTable(V, L, normal((V + 1) ** L, L, V, seed=3)))
    for sign in (1.0, -1.0):
        context = context_of(objective, policy)
        context.memory.rows = rows_of(sign * torch.tensor([0.5, 1.0, 2.0, 0.1, 0.7, 3.0]))
        replayed = torch.Generator()
        replayed.set_state(context.generator.get_state())
        rows = context.memory.draw(6, replayed)
        log_prob, weight = policy.process.letter_evidence(policy.net, rows["designs"], replayed, 5)  # type: ignore[attr-defined]
        lower, upper = evidence_lower(log_prob, weight), evidence_upper(log_prob, weight, power)
        bound = lower if sign > 0 else mix * upper + (1 - mix) * lower
        expected = -sum(a * b for a, b in zip(rows["advantage"], bound)) / 6
        loss, metrics = draw_loss(objective, context)
        torch.testing.assert_close(loss, expected)
        assert metrics["gap"] == pytest.approx((upper - lower).mean().item())


def test_the_gradient_at_the_conditionals_of_a_law_is_that_of_the_objective():
    """There the lower bound is log p, to first order too: with it alone E[A ∇bound] is ∇J/α, by differences."""
    joint = (0.6 * normal(V**L, seed=8)).softmax(0)
    policy = policy_of(joint)
    returns = REWARD - ALPHA * (joint / JOINT).log()
    context = context_of(SPG(), policy)
    advantage = (returns - (joint * returns).sum()) / ALPHA
    repeats = (joint * 4000).round().long()  # designs in proportion to their probability
    context.memory.rows = {
        "designs": DESIGNS.repeat_interleave(repeats, 0), "advantage": advantage.repeat_interleave(repeats),
    }  # fmt: skip
    got = -gradient(SPG(mix=0.0, draws=60, states=10_000), context)

    logits = policy.net.logits.data  # type: ignore[union-attr]
    for index in ((63, 0, 1), (63, 2, 0), (15, 0, 2)):
        plus, minus = logits.clone(), logits.clone()
        plus[index] += 1e-4
        minus[index] -= 1e-4
        values = []
        for table in (plus, minus):
            p = reveal_law(Policy(policy.process, StateTable(V, L, table)))
            values.append((p * (REWARD - ALPHA * (p / JOINT).log())).sum().item() / ALPHA)
        assert got[index].item() == pytest.approx((values[0] - values[1]) / 2e-4, abs=0.02)


@pytest.mark.parametrize("options", [{}, {"mix": 1.0, "power": 9.0}, {"mix": 0.0}])
def test_exactly_at_rest_at_p_star_whatever_the_bounds(options):
    """Every chain has the same return there, so no design has an advantage."""
    objective = SPG(states=512, **options)
    context = context_of(objective, policy_of(P_STAR))
    rows = objective.collect(context, 512).rows
    assert len(rows["designs"].unique(dim=0)) > 20 and rows["advantage"].abs().max() < 1e-12
    context.memory.add(rows)
    assert gradient(objective, context).abs().max() < 1e-10


def test_the_published_return_is_not_at_rest_at_p_star():
    objective = SPG(returns="reward", states=512)
    context = context_of(objective, policy_of(P_STAR))
    collected = objective.collect(context, 512)
    reward = REWARD[lexicographic_index(collected.designs, V)]
    torch.testing.assert_close(collected.rows["advantage"], (reward - reward.mean()) / ALPHA)
    context.memory.add(collected.rows)
    assert gradient(objective, context).abs().max() > 0.01


def test_soft_returns_charge_the_whole_path():
    """Longhand on a policy that is no joint law's: r − α Σ log p_out/p_pre of the letters, one a step."""
    proposal = Policy(AnyOrder(L, V), StateTable(V, L, normal((V + 1) ** L, L, V, seed=4)))
    objective = SPG()
    context = context_of(objective, policy_of(JOINT), proposal=proposal)
    replayed = torch.Generator()
    replayed.set_state(context.generator.get_state())
    collected = objective.collect(context, 30)
    x = proposal.process.noise(30, replayed)
    returns = REWARD[lexicographic_index(collected.designs, V)].clone()
    for k in range(L):
        y = proposal.kernel(x, k).sample(replayed)
        returns -= ALPHA * (proposal.kernel(x, k).log_prob(y) - context.roles.base.kernel(x, k).log_prob(y)).detach()
        x = y
    assert torch.equal(x, collected.designs)
    torch.testing.assert_close(collected.rows["advantage"], (returns - returns.mean()) / ALPHA)


def test_unscored_designs_are_dropped_and_enter_no_mean():
    def scorer(designs: Tensor) -> Tensor:
        return REWARD[lexicographic_index(designs, V)].masked_fill(designs[:, 0] == 0, torch.nan)

    objective = SPG()
    collected = objective.collect(context_of(objective, policy_of(JOINT), scorer=scorer), 300)
    scored = collected.designs[:, 0] != 0
    assert 0 < int(scored.sum()) < 300
    assert torch.equal(collected.rows["designs"], collected.designs[scored])
    assert collected.rows["advantage"].mean().abs() < 1e-12
    nothing = objective.collect(context_of(objective, policy_of(JOINT), scorer=lambda d: d[:, 0] * torch.nan), 8)
    assert {len(v) for v in nothing.rows.values()} == {0} and math.isnan(nothing.metrics["reward"])


def test_gradients_reach_the_policy_only():
    objective = SPG()
    context = context_of(objective, policy_of(JOINT))
    context.memory.add(objective.collect(context, 64).rows)
    check_gradients(objective, context)


def test_the_proposal_is_renewed_after_a_round():
    objective = SPG(updates=2, states=7)
    assert (objective.refresh_every, objective.batch_size, objective.capacity) == (2, 7, None)


def test_other_processes_are_refused_by_what_they_lack():
    with pytest.raises(
        ConfigError, match=r"spg needs a process with letter_evidence.*processes that have it: any_order"
    ):
        check_parts(SPG(), Parts(Finite(3, 2), known=(AnyOrder, Finite)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"returns": "sof"}, r'objective\.returns: unknown choice "sof"; did you mean "soft"'),
        ({"mix": 1.5}, r"objective\.mix"), ({"power": 0.5}, r"objective\.power"),
        *(({key: 0}, rf"objective\.{key}") for key in ("draws", "updates", "states")),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        SPG(**options)
