"""PPO against the exact gradient of J, by writing out every path of a small chain."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, Target, draw_loss
from biotilt.errors import ConfigError
from biotilt.formulas.soft_rl import clipped_surrogate, soft_return
from biotilt.networks.table import StateTable, Table
from biotilt.objectives import PPO
from biotilt.processes import AnyOrder, Finite
from biotilt.testing import RowCounter, expected_reward, law, optimal_kernel, path_kl_exact
from biotilt.testing.contracts import check_gradients

S, K, ALPHA = 3, 3, 0.4


pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(logits: Tensor) -> Policy:
    return Policy(Finite(S, K), Table(S, K, logits))


BASE = table(normal(K, S, S, seed=1))
REWARD = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64)
PATHS = torch.tensor([(0, *rest) for rest in itertools.product(range(S), repeat=K)]).T  # (K+1, S^K)


def ppo(**options: Any) -> PPO:
    return PPO(**({"advantage": "batch", "group": 4, "clip": 0.2, "updates": 3, "states": 10_000} | options))


def step_log_probs(policy: Policy) -> Tensor:
    """log p(x[k+1]|x[k]) of every path, `(K, S^K)`, with gradient."""
    logits = policy.net.logits
    assert isinstance(logits, Tensor)
    return torch.stack([logits[k].log_softmax(-1)[PATHS[k], PATHS[k + 1]] for k in range(K)])


def exact_gradient(policy: Policy) -> Tensor:
    """∇J by autograd through Σ_paths p (r − α Σ_k log p_θ/p_pre)."""
    policy.net.zero_grad()
    ours, base = step_log_probs(policy), step_log_probs(BASE).detach()
    objective = (ours.sum(0).exp() * (REWARD[PATHS[-1]] - ALPHA * (ours - base).sum(0))).sum()
    assert objective.item() == pytest.approx(expected_reward(law(policy), REWARD) - ALPHA * path_kl_exact(policy, BASE))
    objective.backward()
    return policy.net.logits.grad.clone()


def surrogate_gradient(policy: Policy) -> Tensor:
    """The gradient of E_paths[Σ_k surrogate] at θ = θ_old, from the formulas."""
    policy.net.zero_grad()
    new = step_log_probs(policy)
    old = new.detach()
    returns = soft_return(REWARD[PATHS[-1]], old - step_log_probs(BASE).detach(), ALPHA)
    weighted = old.sum(0).exp() * clipped_surrogate(new, old, returns.expand_as(old), 0.2)
    weighted.sum().backward()
    return policy.net.logits.grad.clone()


@pytest.mark.parametrize("seed", [2, 3])
def test_surrogate_has_the_gradient_of_the_objective(seed):
    policy = table(normal(K, S, S, seed=seed))
    expected = exact_gradient(policy)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(surrogate_gradient(policy), expected, atol=1e-12, rtol=0)


def test_everything_is_stationary_at_p_star():
    optimum = table(optimal_kernel(BASE, REWARD, ALPHA).log())
    # x[0] is always state 0: rows of step 0 that are never visited get no gradient either way
    assert exact_gradient(optimum).abs().sum() < 1e-10
    assert surrogate_gradient(optimum).abs().sum() < 1e-10


def test_returns_are_the_same_for_every_chain_at_p_star():
    """r − α Σ_k log p*/p_pre = v_0: no noise is left in the gradient, not only no mean."""
    optimum = table(optimal_kernel(BASE, REWARD, ALPHA).log())
    log_ratio = (step_log_probs(optimum) - step_log_probs(BASE)).detach()
    returns = soft_return(REWARD[PATHS[-1]], log_ratio, ALPHA)
    v_0 = ALPHA * (step_log_probs(BASE).sum(0).exp() @ (REWARD[PATHS[-1]] / ALPHA).exp()).log()
    torch.testing.assert_close(returns, v_0.detach().expand(S**K))


def context_of(policy: Policy, proposal: Policy, scorer: Any, base: Policy = BASE) -> Context:
    roles = Roles(policy, base.frozen_copy(), proposal.frozen_copy())
    return Context(roles, Target(scorer, ALPHA), torch.Generator().manual_seed(0), Replay(None))


def lookup(designs: Tensor) -> Tensor:
    return REWARD[designs.long()]


def test_loss_from_every_path_is_minus_the_objective():
    """`PPO.loss` itself, a path at a time: Σ p(path) K ∇loss = −∇J."""
    policy = table(normal(K, S, S, seed=2))
    expected = exact_gradient(policy)
    context = context_of(policy, policy, lookup)
    log_prob = step_log_probs(policy).detach()
    returns = soft_return(REWARD[PATHS[-1]], log_prob - step_log_probs(BASE).detach(), ALPHA)
    total = torch.zeros(K, S, S)
    for path in range(S**K):
        context.memory.rows = {
            "x": PATHS[:-1, path].to(torch.int8), "y": PATHS[1:, path].to(torch.int8), "k": torch.arange(K),
            "log_old": log_prob[:, path], "advantage": returns[path].expand(K),
        }  # fmt: skip
        policy.net.zero_grad()
        draw_loss(ppo(), context)[0].backward()
        total += log_prob[:, path].sum().exp() * K * policy.net.logits.grad
    torch.testing.assert_close(total, -expected, atol=1e-12, rtol=0)


def test_a_large_batch_gives_the_gradient_of_the_objective():
    """Through `collect`: 60 000 chains, advantages in units of α with the batch mean taken off."""
    policy = table(normal(K, S, S, seed=2))
    expected = exact_gradient(policy) / ALPHA / K
    context = context_of(policy, policy, lookup)
    context.memory.add(ppo().collect(context, 60_000).rows)
    policy.net.zero_grad()
    draw_loss(ppo(states=180_000), context)[0].backward()
    got = -policy.net.logits.grad
    assert torch.nn.functional.cosine_similarity(got.flatten(), expected.flatten(), dim=0) > 0.995
    assert got.norm() / expected.norm() == pytest.approx(1, abs=0.05)


def test_the_base_at_every_second_step_charges_the_kl_on_average():
    """Steps 0 (one row) and 2, or step 1 alone, count twice: each half of the rounds is wrong, their mean the KL."""
    proposal = table(normal(K, S, S, seed=4))
    context = context_of(BASE, proposal, lookup)
    found: dict[int, list[float]] = {}
    for _ in range(8):
        with RowCounter.of(context) as rows:
            metrics = ppo(base_every=2).collect(context, 20_000).metrics
        found.setdefault(-(-rows["base"].plain // 20_000), []).append(metrics["kl"])
    assert sorted(found) == [1, 2]
    one, two = (sum(kls) / len(kls) for _, kls in sorted(found.items()))
    exact = path_kl_exact(proposal, BASE)
    assert abs(one - exact) > 0.1 and (one + two) / 2 == pytest.approx(exact, rel=0.03)


def test_rows_of_a_round_line_up():
    """Every row is a step of a chain: same x, y, step, log-probability and the advantage of its chain."""
    context = context_of(BASE, table(normal(K, S, S, seed=4)), lookup)
    collected = ppo().collect(context, 5)
    rows, designs = collected.rows, collected.designs
    assert rows["k"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    x, y = rows["x"].view(K, 5), rows["y"].view(K, 5)
    assert (x[0] == 0).all() and torch.equal(y[:-1], x[1:]) and torch.equal(y[-1], designs)
    log_p = context.roles.proposal.net.logits.log_softmax(-1)
    expected = log_p[rows["k"], rows["x"].long(), rows["y"].long()]
    torch.testing.assert_close(rows["log_old"], expected)
    base = BASE.net.logits.detach().log_softmax(-1)[rows["k"], rows["x"].long(), rows["y"].long()]
    returns = lookup(designs) - ALPHA * (expected - base).view(K, 5).sum(0)
    centred = (returns - returns.mean()) / ALPHA
    torch.testing.assert_close(rows["advantage"].view(K, 5), centred.expand(K, 5))


def test_unscored_chains_are_dropped_and_enter_no_mean():
    context = context_of(BASE, BASE, lambda d: torch.where(d == 2, torch.nan, lookup(d)))
    collected = ppo().collect(context, 200)
    scored = collected.designs != 2
    assert 0 < int(scored.sum()) < 200
    assert len(collected.rows["advantage"]) == K * int(scored.sum())
    assert collected.rows["advantage"].view(K, -1)[0].mean().abs() < 1e-12
    assert collected.rows["y"].view(K, -1)[-1].tolist() == collected.designs[scored].tolist()
    assert collected.metrics["reward"] == pytest.approx(lookup(collected.designs[scored]).mean().item())


def test_a_round_without_scores_leaves_no_rows():
    context = context_of(BASE, BASE, lambda d: torch.full((len(d),), torch.nan))
    for advantage in ("batch", "group"):
        collected = ppo(advantage=advantage).collect(context, 16)
        assert {len(v) for v in collected.rows.values()} == {0} and math.isnan(collected.metrics["reward"])


def test_group_advantages_are_standardised_in_each_group():
    """The third group of 4 is short by two; NaN chains count in no mean."""
    context = context_of(BASE, table(normal(K, S, S, seed=5)), lookup)
    collected = ppo(advantage="group", group=4).collect(context, 10)
    per_chain = collected.rows["advantage"].view(K, 10)
    torch.testing.assert_close(per_chain, per_chain[:1].expand(K, 10))
    for part in per_chain[0].split(4):
        assert part.mean().abs() < 1e-7
        assert part.square().mean().item() == pytest.approx(1, abs=1e-4)
    # within a group the order of the returns is kept: recompute them
    rows = collected.rows
    base = BASE.net.logits.detach().log_softmax(-1)[rows["k"], rows["x"].long(), rows["y"].long()]
    returns = lookup(collected.designs) - ALPHA * (rows["log_old"] - base).view(K, 10).sum(0)
    first = returns[:4]
    expected = (first - first.mean()) / first.std(unbiased=False)
    torch.testing.assert_close(per_chain[0, :4], expected, atol=1e-6, rtol=1e-6)


def test_clip_acts_on_the_ratio_of_whole_steps():
    """Two letters in one step, each 1.15 times more likely: the step is 1.32 times, so clipped at 1.2."""
    process = AnyOrder(2, 2, per_step=2)
    old = Policy(process, StateTable(2, 2))
    logits = torch.zeros(9, 2, 2)
    logits[:, :, 1] = math.log(0.575 / 0.425)  # p(letter 1) from 0.5 to 0.575
    policy = Policy(process, StateTable(2, 2, logits))
    context = context_of(policy, old, lambda d: d.double().sum(-1), base=old)
    x, y = torch.tensor([[2, 2]], dtype=torch.int8), torch.tensor([[1, 1]], dtype=torch.int8)
    log_old = old.kernel(x, 0).log_prob(y).detach()
    context.memory.rows = {"x": x, "y": y, "k": torch.zeros(1, dtype=torch.long), "log_old": log_old,
                           "advantage": torch.tensor([2.0])}  # fmt: skip
    for clip, slope in ((0.2, False), (0.4, True)):
        policy.net.zero_grad()
        loss, metrics = draw_loss(ppo(clip=clip), context)
        loss.backward()
        assert loss.item() == pytest.approx(-2 * min(1.15**2, 1 + clip))
        assert bool(policy.net.logits.grad.abs().sum() > 0) is slope
        assert metrics["clip_fraction"] == float(not slope)


def test_proposal_is_refreshed_after_a_round():
    objective = ppo(updates=3, states=7)
    assert (objective.refresh_every, objective.batch_size, objective.capacity) == (3, 7, None)


@pytest.mark.parametrize("advantage", ["batch", "group"])
def test_gradients_reach_the_policy_only(advantage):
    context = context_of(table(normal(K, S, S, seed=2)), BASE, lookup)
    objective = ppo(advantage=advantage)
    context.memory.add(objective.collect(context, 64).rows)
    check_gradients(objective, context)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0.0}, r"objective\.clip"),
        ({"group": 1}, r"objective\.group"),
        ({"updates": 0}, r"objective\.updates"),
        ({"states": 0}, r"objective\.states"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ppo(**options)
