"""Adjoint matching on affine chains, where the optimum of J is known in closed form, and against autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from affine_chain import (
    CROSS,
    LINEAR,
    STD,
    STEPS,
    AffineNet,
    InOrder,
    Signs,
    base_net,
    moved,
    objective_in_closed_form,
    optimum,
)
from torch import Tensor, nn

from biotilt.core import Context, Parts, Policy, Replay, Roles, Target, check_parts, draw_loss
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.objectives import AdjointMatching
from biotilt.processes import PROCESSES, Finite, Flow, Gaussian
from biotilt.testing import FunctionScorer, check_gradients

ALPHA = 0.4
EVERY = AdjointMatching(states=10_000)

pytestmark = pytest.mark.usefixtures("double")


def quadratic(x: Tensor) -> Tensor:
    return x @ LINEAR - (x @ CROSS * x).sum(-1) / 2


def wavy(x: Tensor) -> Tensor:
    return (1.3 * x[:, 0]).sin() + 0.4 * x[:, 0] * x[:, 1] - 0.2 * x[:, 1].square()


def context_of(
    policy: nn.Module, base: nn.Module, process: Any, reward: Any, proposal: nn.Module | None = None
) -> Context:
    roles = Roles(
        Policy(process, policy),
        Policy(process, base).frozen_copy(),
        Policy(process, policy if proposal is None else proposal).frozen_copy(),
    )
    scorer = FunctionScorer(reward)
    memory = InOrder(None) if isinstance(process, Signs) else Replay(None)
    return Context(roles, Target(scorer, ALPHA), torch.Generator().manual_seed(0), memory)


def gradients(context: Context, objective: AdjointMatching = EVERY) -> list[Tensor]:
    context.memory.add(objective.collect(context, Signs().count).rows)
    loss, _ = draw_loss(objective, context)
    return list(torch.autograd.grad(loss, list(context.roles.policy.net.parameters())))


def test_the_closed_form_optimum_is_one():
    """The recursion of the tests, by the gradient of J itself."""
    best = optimum(base_net(), ALPHA)
    objective = objective_in_closed_form(best, base_net(), ALPHA)
    for gradient in torch.autograd.grad(objective, list(best.parameters())):
        assert gradient.abs().max() < 1e-12
    for seedless in (base_net(), moved(best, 0.05)):
        assert objective_in_closed_form(seedless, base_net(), ALPHA) < objective - 1e-3


def test_stationary_at_the_optimum_of_the_objective():
    """The expected gradient over chains of the policy vanishes: all signs of the noise, exact second moments."""
    best = optimum(base_net(), ALPHA)
    for gradient in gradients(context_of(best, base_net(), Signs(), quadratic)):
        assert gradient.abs().max() < 1e-12
    for gradient in gradients(context_of(moved(best, 0.3), base_net(), Signs(), quadratic)):
        assert gradient.abs().max() > 1e-2


def test_chains_of_another_policy_are_not_stationary_at_the_optimum():
    """Why it is on-policy: the mean adjoint along chains of the base is that of the base."""
    best = optimum(base_net(), ALPHA)
    found = gradients(context_of(best, base_net(), Signs(), quadratic, proposal=base_net()))
    assert max(gradient.abs().max() for gradient in found) > 1e-2


def test_p_star_is_stationary_for_a_linear_reward():
    """p* by its definition: kernels of the base times exp(V), V_k(x) = c·A_{K−1}…A_k x + const, so every mean moves."""
    base = base_net()
    shifts, c = [], LINEAR / ALPHA
    for k in reversed(range(STEPS)):
        shifts.append(base.shift[k].detach() + STD[k] ** 2 * c)
        c = base.slope[k].detach().T @ c
    p_star = AffineNet(base.slope.detach().clone(), torch.stack(shifts[::-1]))
    for gradient in gradients(context_of(p_star, base, Signs(), lambda x: x @ LINEAR)):
        assert gradient.abs().max() < 1e-12


class Curved(nn.Module):
    """Means that are not affine, so that the adjoint depends on the chain."""

    def __init__(self, seed: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + torch.cat([x.sin(), t.unsqueeze(-1)], -1) @ self.weight[:, :2]


def test_adjoints_are_the_gradient_of_the_reward_along_the_base_with_the_noise_held():
    """Second route: one autograd pass through the whole chain, redrawn with the noise that the rows imply.

    a[k] = ∇ over x[k] of r(x[K])/α where x[j+1] = μ_pre(x[j]) + the same rest, for every j ≥ k.
    """
    process = Gaussian(2, num_steps=4, prediction="x0", t_min=0.1)
    context = context_of(Curved(1), Curved(2), process, wavy)
    rows = AdjointMatching().collect(context, 7).rows
    x, a, k = rows["x"].view(4, 7, 2), rows["a"].view(4, 7, 2), rows["k"].view(4, 7)
    assert k[:, 0].tolist() == [0, 1, 2, 3]
    last = context.memory.rows.get("x")  # nothing is kept by collect itself
    assert last is None
    base = context.roles.base
    context.generator.manual_seed(0)
    designs = AdjointMatching().collect(context, 7).designs
    states = torch.cat([x, designs.unsqueeze(0)])
    for start in range(1, 5):
        point = states[start].clone().requires_grad_()
        now = point
        for j in range(start, 4):
            rest = states[j + 1] - base.kernel(states[j], j).mean  # type: ignore[attr-defined]
            now = base.kernel(now, j).mean + rest.detach()  # type: ignore[attr-defined]
        torch.testing.assert_close(now.detach(), designs)
        expected = torch.autograd.grad(wavy(now).sum() / ALPHA, point)[0]
        torch.testing.assert_close(a[start - 1], expected)
    assert (a[0] - a[3]).abs().max() > 0.1


def test_loss_by_longhand():
    """|μ_pre + σ² a − μ_θ|²/2σ², a mean over transitions, and the KL of paths beside it."""
    context = context_of(moved(base_net(), 0.3), base_net(), Signs(), quadratic, proposal=moved(base_net(), 0.2))
    rows = EVERY.collect(context, Signs().count).rows
    context.memory.add(rows)
    loss, metrics = draw_loss(EVERY, context)
    base, policy = base_net(), context.roles.policy.net
    total, kl = 0.0, 0.0
    for x, k, a in zip(rows["x"], rows["k"], rows["a"]):
        mean = base.slope[k] @ x + base.shift[k]
        ours = policy.slope[k] @ x + policy.shift[k]  # type: ignore[index]
        variance = STD[k] ** 2
        total += ((mean + variance * a - ours).square().sum() / (2 * variance)).item()
        kl += ((mean - ours).square().sum() / (2 * variance)).item()
    assert len(rows["k"]) == STEPS * Signs().count
    assert loss.item() == pytest.approx(total / len(rows["k"]))
    assert metrics["kl"] == pytest.approx(kl / Signs().count)


def test_held_coordinates_have_no_adjoint_and_do_not_move():
    fixed = Fixed(torch.tensor([False, True]), torch.tensor([0.0, 0.7]))
    process = Gaussian(2, fixed, num_steps=3, prediction="x0", t_min=0.1)
    context = context_of(Curved(1), Curved(2), process, wavy)
    rows = EVERY.collect(context, 5).rows
    a = rows["a"].view(3, 5, 2)
    assert (rows["x"][:, 1] == 0.7).all() and (a[-1, :, 1] != 0).all() and (a[:-1, :, 1] == 0).all()
    base = context.roles.base.kernel(rows["x"], rows["k"])
    moved_by = base.tilted(rows["a"]).mean - base.mean  # type: ignore[attr-defined]
    assert (moved_by[:, 1] == 0).all() and (moved_by[:, 0] != 0).all()
    # second route for the free coordinate: by finite differences of the last mean, the held one left alone
    x, step = rows["x"].view(3, 5, 2)[2], torch.tensor([1e-6, 0.0])
    ahead, behind = (context.roles.base.kernel(x + side, 2).mean for side in (step, -step))  # type: ignore[attr-defined]
    slope = (ahead - behind)[:, 0] / 2e-6
    torch.testing.assert_close(a[1, :, 0], slope.detach() * a[2, :, 0], atol=1e-7, rtol=1e-6)


def test_unscored_chains_are_dropped():
    process = Gaussian(2, num_steps=3, prediction="x0", t_min=0.1)
    context = context_of(Curved(1), Curved(2), process, lambda x: wavy(x) + (x[:, 0] + 2).sqrt())
    collected = EVERY.collect(context, 40)
    scored = collected.designs[:, 0] >= -2
    assert 5 < int(scored.sum()) < 35
    assert len(collected.rows["k"]) == 3 * int(scored.sum()) and collected.rows["a"].isfinite().all()
    reward = wavy(collected.designs) + (collected.designs[:, 0] + 2).sqrt()
    assert collected.metrics["reward"] == pytest.approx(reward[scored].mean().item())
    none = context_of(Curved(1), Curved(2), process, lambda x: x.sum(-1) * torch.nan)
    collected = EVERY.collect(none, 8)
    assert {len(v) for v in collected.rows.values()} == {0} and math.isnan(collected.metrics["reward"])


def test_a_round_costs_its_calls_and_updates_cost_none():
    process = Gaussian(2, num_steps=3, prediction="x0", t_min=0.1)
    context = context_of(Curved(1), Curved(2), process, wavy)
    collected = EVERY.collect(context, 9)
    context.memory.add(collected.rows)
    draw_loss(EVERY, context)
    draw_loss(EVERY, context)
    assert context.target.scorer.calls == 9 and len(collected.designs) == 9  # type: ignore[attr-defined]


def test_proposal_follows_after_a_round():
    objective = AdjointMatching(updates=3, states=7)
    assert (objective.refresh_every, objective.batch_size, objective.capacity) == (3, 7, None)


def test_gradients_reach_the_policy_only():
    context = context_of(Curved(1), Curved(2), Gaussian(2, num_steps=3, prediction="x0", t_min=0.1), wavy)
    context.memory.add(EVERY.collect(context, 16).rows)
    check_gradients(EVERY, context)


def test_what_cannot_work_is_refused_with_a_remedy():
    known = tuple(PROCESSES.values())
    for process in (Gaussian(2), Flow(2)):
        check_parts(EVERY, Parts(process, differentiable=True, known=known))
    with pytest.raises(ConfigError, match=r"adjoint_matching needs kernels with mean.*gaussian, flow"):
        check_parts(EVERY, Parts(Finite(3, 2), differentiable=True, known=known))
    with pytest.raises(ConfigError, match=r"adjoint_matching needs (kl|tilted), .*eta"):
        check_parts(EVERY, Parts(Flow(2, eta=0.0), differentiable=True, known=known))
    with pytest.raises(ConfigError, match="adjoint_matching differentiates the reward"):
        check_parts(EVERY, Parts(Gaussian(2), differentiable=False, known=known))


@pytest.mark.parametrize("key", ["updates", "states"])
def test_impossible_options_are_refused(key):
    with pytest.raises(ConfigError, match=rf"objective\.{key}"):
        AdjointMatching(**{key: 0})
