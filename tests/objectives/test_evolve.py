"""Evolve: the loss against its enumeration, what the anchor holds, and what the search brings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Divergence, Parts, Policy, Replay, Roles, Target, check_parts, draw_loss
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable
from biotilt.objectives import Evolve
from biotilt.processes import AnyOrder, Finite, Flow
from biotilt.testing import TableScorer, expected_reward, reveal_law

ALPHA = 0.5


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def words(
    objective: Evolve, length: int = 2, letters: int = 3, scorer: TableScorer | None = None, moved: float = 0.5
) -> Context:
    """The base's letters are the conditionals of one law; the policy has been moved away from it."""
    process = AnyOrder(length, letters)
    joint = normal(letters**length, seed=1).exp()
    roles = Roles.start(Policy(process, StateTable.of_joint(joint, letters, length)))
    with torch.no_grad():
        for role in (roles.policy, roles.proposal):
            role.net.logits += moved * normal(*role.net.logits.shape, seed=2)  # type: ignore[operator]
    scorer = scorer or TableScorer(process, normal(letters**length, seed=3))
    memory = Replay(objective.capacity, columns=objective.columns(None))
    return Context(roles, Target(scorer, ALPHA), torch.Generator().manual_seed(0), memory)


def longhand(context: Context, weights: Tensor, designs: Tensor, anchor: float) -> Tensor:
    """Σ_i w_i Σ over sets of hidden letters, of bound and KL: each letter alone, and both."""
    roles = context.roles
    ours, base = ({net: policy.net.logits.log_softmax(-1)} for net, policy in (("n", roles.policy), ("n", roles.base)))
    total = torch.zeros(())
    for weight, (a, b) in zip(weights, designs.tolist()):
        bound, kl = torch.zeros(()), torch.zeros(())
        for hidden in ((0,), (1,), (0, 1)):
            state = (3 if 0 in hidden else a) * 4 + (3 if 1 in hidden else b)
            p, q = ours["n"][state], base["n"][state].detach()
            # n of 2 hidden has chance ½, its set 1/C(2, n); the bound has the factor 2/n
            share = 0.25 if len(hidden) == 1 else 0.5
            nll = -sum(p[i, (a, b)[i]] for i in hidden)
            bound = bound + share * 2 / len(hidden) * nll
            # a step is either of two, both hidden or one, and each reveals one of n letters
            each = sum((p[i].exp() * (p[i] - q[i])).sum() for i in hidden)
            kl = kl + 2 * share * each / len(hidden)
        total = total + weight * (bound + anchor * kl)
    return total


@pytest.mark.parametrize("select", ["rank", "reward"])
@pytest.mark.parametrize("anchor", [0.0, 0.7])
def test_the_expected_loss_and_its_gradient_are_those_of_the_sum(select, anchor):
    objective = Evolve(select=select, anchor=anchor, limit=0.0, offset=2.0, states=2000, start=5)
    context = words(objective)
    context.memory.add(objective.collect(context, 5).rows)
    rows = context.memory.rows
    order = rows["rewards"].argsort(descending=True)
    by_rank = 1 / (2 + torch.arange(5.0))
    weights = by_rank / by_rank.sum() if select == "rank" else (rows["rewards"][order] / ALPHA).softmax(0)
    logits = context.roles.policy.net.logits
    expected = longhand(context, weights, rows["designs"][order], anchor)
    (slope,) = torch.autograd.grad(expected, logits)
    found, slopes = [], []
    for _ in range(40):
        loss, _ = draw_loss(objective, context)
        found.append(loss.detach())
        slopes.append(torch.autograd.grad(loss, logits)[0])
    error = torch.stack(found).std() / math.sqrt(40)
    assert (torch.stack(found).mean() - expected).abs() < 4 * error
    torch.testing.assert_close(torch.stack(slopes).mean(0), slope, atol=0.02, rtol=0)
    assert slope.abs().max() > 0.05


def test_the_anchor_holds_the_policy_near_the_base():
    found = []
    for anchor in (0.0, 0.3, 3.0):
        context = trained(Evolve(anchor=anchor, limit=0.0, updates=30, states=64, start=32, offset=1.0, parents=20))
        table, base = reveal_law(context.roles.policy), reveal_law(context.roles.base)
        found.append((table * (table.log() - base.log())).sum().item())
    assert found[0] > 1.5 * found[1] > 3 * found[2] > 0


def trained(objective: Evolve) -> Context:
    """80 calls of 243 designs, from the base."""
    context = words(objective, length=5, letters=3, moved=0.0)
    optimiser = torch.optim.Adam(context.roles.policy.net.parameters(), lr=0.05)
    for _ in range(5):
        context.memory.add(objective.collect(context, 16).rows)
        for _ in range(objective.updates):
            optimiser.zero_grad()
            draw_loss(objective, context)[0].backward()
            optimiser.step()
        context.roles.refresh_proposal()
    return context


@pytest.mark.parametrize("limit", [0.0, 0.1, 50.0])
def test_what_stays_below_the_limit_is_free(limit):
    found = []
    for objective in (Evolve(anchor=0.0, start=5), Evolve(anchor=2.0, limit=limit, start=5)):
        context = words(objective)
        context.memory.add(objective.collect(context, 5).rows)
        loss, metrics = draw_loss(objective, context)
        found.append(loss.item())
    kl = metrics["anchor"]
    assert 0.1 < kl < 50
    assert found[1] - found[0] == pytest.approx(2 * max(0.0, kl - limit), abs=1e-5)


def test_search_and_policy_go_beyond_the_base():
    context = trained(Evolve(anchor=0.1, limit=0.0, updates=30, states=64, start=32, offset=1.0, parents=20))
    reward = context.target.scorer.reward  # type: ignore[attr-defined]
    before, after = (expected_reward(reveal_law(role), reward) for role in (context.roles.base, context.roles.policy))
    assert after > before + 0.3 * (reward.max() - before)
    assert len(context.memory.rows["key"].unique()) == len(context.memory) == context.target.scorer.calls  # type: ignore[attr-defined]


def test_infeasible_and_unscored_designs_are_not_learned_from():
    reward = normal(9, seed=3)
    reward[:4], reward[4:6] = -torch.inf, torch.nan
    objective = Evolve(anchor=0.0, start=9, states=400)
    context = words(objective, scorer=TableScorer(AnyOrder(2, 3), reward))
    for _ in range(4):
        context.memory.add(objective.collect(context, 8).rows)
    seen: list[Tensor] = []
    process = context.roles.policy.process
    learned = type(process).denoising_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(process), "denoising_loss",
            lambda self, net, designs, g: (seen.append(designs), learned(self, net, designs, g))[1],
        )  # fmt: skip
        loss, _ = draw_loss(objective, context)
    index = (torch.cat(seen).long() * torch.tensor([3, 1])).sum(-1)
    assert set(index.tolist()) == {6, 7, 8} and loss.isfinite()


def test_what_nothing_can_be_learned_from_is_not_kept():
    objective = Evolve(start=4)
    nothing = TableScorer(AnyOrder(2, 3), torch.full((9,), torch.nan))
    context = words(objective, scorer=nothing)
    context.memory.add(objective.collect(context, 4).rows)
    assert len(context.memory) == 0
    context.target = replace(context.target, scorer=TableScorer(AnyOrder(2, 3), normal(9, seed=1)))
    context.memory.add(objective.collect(context, 4).rows)
    assert len(context.memory) == 4


def test_prices_of_constraints_move_rows_that_have_a_score():
    objective = Evolve(start=4)
    context = words(
        objective, scorer=TableScorer(AnyOrder(2, 3), torch.tensor([0.1, -torch.inf, 0.3, torch.nan] * 3)[:9])
    )
    for _ in range(3):
        context.memory.add(objective.collect(context, 4).rows)
    before = context.memory.rows["rewards"].clone()
    assert context.memory.reprice(lambda designs: designs.float().sum(-1)) == 0
    expected = before + context.memory.rows["designs"].sum(-1)
    torch.testing.assert_close(context.memory.rows["rewards"], expected, equal_nan=True)


def test_needs_a_divergence_for_its_anchor_only():
    assert Evolve(anchor=0.0).needs == () and Evolve().needs == (Divergence,)
    check_parts(Evolve(), Parts(Finite(3, 2)))
    with pytest.raises(ConfigError, match="kl"):
        check_parts(Evolve(), Parts(Flow(2, num_steps=4, eta=0.0)))
    check_parts(Evolve(anchor=0.0), Parts(Flow(2, num_steps=4, eta=0.0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"least": 0.6, "most": 0.5}, r"objective\.least must be ≤ objective\.most"),
        ({"parents": 0}, r"objective\.parents"),
        ({"select": "luck"}, r"objective\.select"),
        ({"crowd": 0.0}, r"objective\.crowd"),
        ({"anchor": -1.0}, r"objective\.anchor"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Evolve(**options)
