"""VIDD against exact gradients on a finite chain: every state and every next state is written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Gathers, Parts, Policy, Replay, Roles, RollIn, Round, Target, check_parts, draw_loss
from biotilt.core.objective import Batch
from biotilt.errors import ConfigError
from biotilt.networks.table import Table
from biotilt.objectives import VIDD
from biotilt.processes import AnyOrder, Finite
from biotilt.testing import (
    ExactValue,
    expected_reward,
    law,
    optimal_kernel,
    soft_values,
    tilted_law,
    total_variation,
)
from biotilt.values import PosteriorMean

S, K, ALPHA = 4, 3, 0.4
ROWS = S * K


pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BASE = Policy(Finite(S, K), Table(S, K, normal(K, S, S, seed=1)))
REWARD = normal(S, seed=2) + torch.tensor([0.0, 1.0, -0.5, 0.0])


def vidd(**options: Any) -> VIDD:
    """VIDD with every option that a test depends on given."""
    return VIDD(**({"value": "return", "beta": 0.5, "refresh": 1, "updates": 1,
                    "states": ROWS, "buffer": 10_000,
                    "mirror": 1.0, "max_log_weight": 1e9, "anchor": "pretrained", "teacher": "closed_form"}
                   | options))  # fmt: skip


def table(logits: Tensor) -> Policy:
    return Policy(BASE.process, Table(S, K, logits))


def optimum() -> Policy:
    return table(optimal_kernel(BASE, REWARD, ALPHA).log())


def context_of(policy: Policy, proposal: Policy, value: Any, scorer: Any = None) -> Context:
    roles = Roles(policy, BASE.frozen_copy(), proposal.frozen_copy())
    return Context(roles, Target(scorer or lookup, ALPHA), torch.Generator().manual_seed(0), Replay(None), value)


def lookup(designs: Tensor) -> Tensor:
    return REWARD[designs.long()]


def every_state() -> Batch:
    k, x = torch.cartesian_prod(torch.arange(K), torch.arange(S)).unbind(-1)
    return {"x": x.to(torch.int8), "k": k}


def gradient(objective: VIDD, context: Context) -> Tensor:
    """The gradient of the loss on the logits `(K, S, S)` of the policy."""
    net = context.roles.policy.net
    net.zero_grad()
    draw_loss(objective, context)[0].backward()
    assert isinstance(net, Table) and net.logits.grad is not None
    return net.logits.grad.clone()


class Sampled(Gathers):
    """A value without that of every choice: rows then hold sampled transitions."""

    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        raise NotImplementedError


def expected_gradient(objective: VIDD, policy: Policy, proposal: Policy) -> Tensor:
    """Σ_{k,x,y} p_out(y|x) ∇ loss(x, y), each row alone, from values the recursion of soft_values gives."""
    context = context_of(policy, proposal, Sampled())
    values = soft_values(BASE, REWARD, ALPHA)
    total = torch.zeros(K, S, S)
    states = every_state()
    ours, base = (p.kernel(states["x"], states["k"]).x0.detach() for p in (context.roles.proposal, BASE))
    for row in range(ROWS):
        x, k = states["x"][row : row + 1], states["k"][row : row + 1]
        for y in range(S):
            context.memory.rows = {
                "x": x, "k": k, "y": torch.tensor([y], dtype=torch.int8),
                "value_x": values[k, x.long()], "value_y": values[k + 1, [y]],
                "log_anchor": (base - ours)[row, [y]],
            }  # fmt: skip
            total += ours[row, y].exp() * gradient(objective, context)
    return total


PROPOSALS = {"base": BASE, "other": table(normal(K, S, S, seed=3)), "optimum": optimum()}


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("proposal", "mirror"), [("base", 1.0), ("other", 1.0), ("optimum", 0.3)])
def test_closed_form_is_stationary_at_p_star(proposal, mirror, beta):
    """With the whole step for any proposal; with a part of it where the proposal has arrived."""
    objective = vidd(mirror=mirror, beta=beta, states=400)
    context = context_of(optimum(), PROPOSALS[proposal], ExactValue(BASE, REWARD, ALPHA))
    context.memory.rows = every_state()
    assert gradient(objective, context).abs().sum() < 1e-10
    context.memory.rows = objective.collect(context, 40).rows
    assert len(context.memory) == 40
    assert gradient(objective, context).abs().sum() < 1e-10


def test_closed_form_pulls_toward_the_teacher_elsewhere():
    """∂/∂logits of the mean KL is (p_θ − teacher)/N: here the teacher is p*, at any policy."""
    policy = table(normal(K, S, S, seed=4))
    context = context_of(policy, BASE, ExactValue(BASE, REWARD, ALPHA))
    context.memory.rows = every_state()
    expected = (policy.net.logits.detach().softmax(-1) - optimal_kernel(BASE, REWARD, ALPHA)) / ROWS
    torch.testing.assert_close(gradient(vidd(), context), expected, atol=1e-12, rtol=0)


def test_mirror_teacher_by_hand():
    proposal = PROPOSALS["other"]
    context = context_of(table(normal(K, S, S, seed=4)), proposal, ExactValue(BASE, REWARD, ALPHA))
    context.memory.rows = every_state()
    old, star = proposal.net.logits.detach().softmax(-1), optimal_kernel(BASE, REWARD, ALPHA)
    teacher = old**0.7 * star**0.3
    teacher = teacher / teacher.sum(-1, keepdim=True)
    expected = (context.roles.policy.net.logits.detach().softmax(-1) - teacher) / ROWS
    torch.testing.assert_close(gradient(vidd(mirror=0.3), context), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_sampled_teacher_is_stationary_at_p_star(proposal):
    assert expected_gradient(vidd(teacher="sampled"), optimum(), PROPOSALS[proposal]).abs().sum() < 1e-10


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_sampled_teacher_has_the_gradient_of_the_closed_form(proposal):
    """E_{y ∼ p_out}[w ∇log p_θ] = Σ_y p*(y|x) ∇log p_θ(y|x), since Σ_y p_out w = 1."""
    policy = table(normal(K, S, S, seed=4))
    got = expected_gradient(vidd(teacher="sampled"), policy, PROPOSALS[proposal])
    expected = policy.net.logits.detach().softmax(-1) - optimal_kernel(BASE, REWARD, ALPHA)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


def test_paper_anchor_is_not_stationary_at_p_star():
    """Its teacher tilts p_out = p* once more."""
    context = context_of(optimum(), optimum(), ExactValue(BASE, REWARD, ALPHA))
    context.memory.rows = every_state()
    assert gradient(vidd(anchor="rollout"), context).abs().sum() > 0.1
    assert expected_gradient(vidd(anchor="rollout", teacher="sampled"), optimum(), optimum()).abs().sum() > 0.1


@pytest.mark.parametrize(("proposal", "sign"), [("base", 1), ("optimum", 0)])
def test_sampled_mirror_weight_is_the_power_of_the_weight(proposal, sign):
    """At p*, from p_out = p* w is 1, so any λ is stationary; from the base λ = 0.3 goes part of the way."""
    total = expected_gradient(vidd(teacher="sampled", mirror=0.3), optimum(), PROPOSALS[proposal]).abs().sum()
    assert (total > 0.1) == bool(sign)
    assert sign or total < 1e-10


class Drawn(Policy):
    """A proposal whose draws are given in advance, so that each can be weighed."""

    y: Tensor

    def kernel(self, x: Tensor, k: int | Tensor) -> Any:
        kernel = super().kernel(x, k)
        object.__setattr__(kernel, "sample", lambda generator: self.y)
        return kernel


def test_sampled_teacher_from_action_values_is_stationary_at_p_star():
    """The route of `lesson`: y is drawn in the loss, so every y is put there and weighed by p_out(y|x)."""
    context = context_of(optimum(), BASE, ExactValue(BASE, REWARD, ALPHA))
    proposal = PROPOSALS["other"].frozen_copy()
    context.roles.proposal = Drawn(proposal.process, proposal.net)
    objective, states = vidd(teacher="sampled"), every_state()
    log_out = proposal.kernel(states["x"], states["k"]).x0
    at_optimum, elsewhere = torch.zeros(K, S, S), torch.zeros(K, S, S)
    for row in range(ROWS):
        context.memory.rows = {key: value[row : row + 1] for key, value in states.items()}
        for y in range(S):
            context.roles.proposal.y = torch.tensor([y], dtype=torch.int8)
            context.roles.policy = optimum()
            at_optimum += log_out[row, y].exp() * gradient(objective, context)
            context.roles.policy = table(torch.zeros(K, S, S))
            elsewhere += log_out[row, y].exp() * gradient(objective, context)
    assert at_optimum.abs().sum() < 1e-10
    expected = 1 / S - optimal_kernel(BASE, REWARD, ALPHA)
    torch.testing.assert_close(elsewhere, expected, atol=1e-10, rtol=0)


def fixed_point(anchor: str, refreshes: int) -> Tensor:
    """The law after exact updates on every state; the policy reaches its teacher before each refresh."""
    objective = vidd(anchor=anchor, refresh=150)
    context = context_of(table(BASE.net.logits.detach()), BASE, ExactValue(BASE, REWARD, ALPHA))
    context.memory.rows = every_state()
    net = context.roles.policy.net
    for update in range(1, 150 * refreshes + 1):
        step = gradient(objective, context)
        with torch.no_grad():
            net.logits -= 3 * ROWS * step
        if update % objective.refresh_every == 0:
            context.roles.refresh_proposal()
    return law(context.roles.policy)


def test_paper_anchor_sharpens_past_p_star_and_the_pretrained_anchor_stops_there():
    p_star, _ = tilted_law(law(BASE), REWARD, ALPHA)
    aim = expected_reward(p_star, REWARD)
    anchored = [fixed_point("pretrained", n) for n in (1, 3)]
    assert max(total_variation(p, p_star) for p in anchored) < 1e-3
    sharpened = [expected_reward(fixed_point("rollout", n), REWARD) for n in (1, 2, 6)]
    assert sharpened[0] == pytest.approx(aim, abs=1e-3)  # the first teacher is p* itself
    assert aim + 0.05 < sharpened[1] < sharpened[2] - 0.03
    assert sharpened[2] > REWARD.max() - 0.02


@pytest.mark.parametrize("anchor", ["pretrained", "rollout"])
def test_weights_survive_a_small_temperature(anchor):
    """exp(v(y)/α) alone would be exp(2000); with both taken first the loss would be NaN."""
    rows = {
        "x": torch.zeros(3, dtype=torch.int8), "y": torch.arange(3, dtype=torch.int8),
        "k": torch.zeros(3, dtype=torch.long), "value_x": torch.tensor([2.0, 2.0, 2.0]),
        "value_y": torch.tensor([2.001, 1.0, 2.5]), "log_anchor": torch.zeros(3),
    }  # fmt: skip
    context = context_of(table(BASE.net.logits.detach()), BASE, Sampled())
    context.target, context.memory.rows = Target(context.target.scorer, 1e-3), rows
    loss, metrics = draw_loss(vidd(anchor=anchor, teacher="sampled", max_log_weight=10.0), context)
    log_p = BASE.net.logits[0, 0].log_softmax(-1)
    expected = -(math.e * log_p[0] + 0 * log_p[1] + math.exp(10) * log_p[2]) / 3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert all(math.isfinite(value) for value in metrics.values())


def test_beta_is_the_share_of_chains_from_the_proposal():
    """The base never leaves state 0, the proposal never stays there."""
    stay, leave = torch.full((2, K, S, S), -50.0)
    stay[:, :, 0], leave[:, :, 1:] = 50.0, 50.0
    context = context_of(table(stay), table(leave), ExactValue(BASE, REWARD, ALPHA))
    context.roles.base = table(stay).frozen_copy()
    for beta, count in ((0.0, 0), (0.3, 12), (1.0, 40)):  # three steps a chain, each of whose states is used
        designs = vidd(beta=beta).collect(context, 120).designs
        assert len(designs) == 40 and int((designs != 0).sum()) == count


def test_few_chains_are_the_proposals_as_often_as_beta_says():
    """One chain a round: it is p_out's in three rounds of ten, and not in none."""
    stay, leave = torch.full((2, K, S, S), -50.0)
    stay[:, :, 0], leave[:, :, 1:] = 50.0, 50.0
    context = context_of(table(stay), table(leave), ExactValue(BASE, REWARD, ALPHA))
    context.roles.base = table(stay).frozen_copy()
    ours = sum(int(vidd(beta=0.3).collect(context, 3).designs[0] != 0) for _ in range(400))
    assert abs(ours / 400 - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5


def test_proposal_is_refreshed_every_so_many_updates():
    objective = vidd(refresh=3, updates=5, states=7, buffer=11)
    assert (objective.refresh_every, objective.batch_size, objective.capacity) == (3, 7, 11)
    assert vidd(updates=5, refresh=None).refresh_every == 5  # after each round, or a short run never draws anew


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 1.5}, r"objective\.beta"),
        ({"beta": -0.1}, r"objective\.beta"),
        ({"mirror": 0.0}, r"objective\.mirror"),
        ({"mirror": 1.1}, r"objective\.mirror"),
        ({"refresh": 0}, r"objective\.refresh"),
        ({"updates": 0}, r"objective\.updates"),
        ({"states": 0}, r"objective\.states"),
        ({"buffer": 0}, r"objective\.buffer"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        vidd(**options)


def test_parts_that_do_not_fit_are_refused_when_built():
    def check(objective, process, value):
        check_parts(objective, Parts(process, value, known=(AnyOrder, Finite)))

    with pytest.raises(ConfigError, match='teacher="sampled"'):
        check(vidd(value="posterior_mean"), AnyOrder(3, 2), PosteriorMean(0))
    with pytest.raises(ConfigError, match=r'guess.*"finite".*any_order'):
        check(vidd(value="posterior_mean", teacher="sampled"), BASE.process, PosteriorMean(0))
    check(vidd(value="posterior_mean", teacher="sampled"), AnyOrder(3, 2), PosteriorMean(0))
    check(vidd(), BASE.process, ExactValue(BASE, REWARD, ALPHA))
