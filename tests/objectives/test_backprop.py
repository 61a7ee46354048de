"""Reward backprop against the exact gradient of J: affine chains in closed form, straight-through by quadrature."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from affine_chain import CROSS, Signs, base_net, in_order, moved, objective_in_closed_form
from torch import Tensor

from biotilt.core import Context, Kernel, Parts, Policy, Replay, Roles, Target, check_parts, draw_loss
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable, Table
from biotilt.objectives import RewardBackprop
from biotilt.processes import PROCESSES, AnyOrder, Finite, Flow, Gaussian, Masked, Uniform
from biotilt.testing import FunctionScorer, TableScorer, check_gradients, law, tilted_law, total_variation
from biotilt.training import TrainConfig, Trainer

ALPHA = 0.4

pytestmark = pytest.mark.usefixtures("double")


def quadratic(x: Tensor) -> Tensor:
    return x @ torch.tensor([0.8, -1.1]) - (x @ CROSS * x).sum(-1) / 2


def context_of(policy: Policy, base: Policy, scorer: Any, alpha: float = ALPHA) -> Context:
    roles = Roles(policy, base.frozen_copy(), policy.frozen_copy())
    return Context(roles, Target(scorer, alpha), torch.Generator().manual_seed(0), Replay(None))


def affine_context(scorer: Any) -> Context:
    """Every combination of signs of the noise: second moments, and so the means of quadratic forms, are exact."""
    process = Signs()
    return context_of(Policy(process, moved(base_net(), 0.3)), Policy(process, base_net()), scorer)


@pytest.fixture
def ordered(monkeypatch):
    """The starts of an update are taken in their order, so that each meets its own signs."""
    monkeypatch.setattr("biotilt.objectives.backprop.draw_rows", in_order)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.usefixtures("ordered")
def test_gradient_is_that_of_the_objective_on_an_affine_chain(steps):
    context = affine_context(FunctionScorer(quadratic))
    objective = RewardBackprop(steps=steps)
    process, net = context.roles.policy.process, context.roles.policy.net
    expected = objective_in_closed_form(net, base_net(), ALPHA)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(expected / ALPHA, list(net.parameters()))
    assert min(g.abs().max() for g in gradients) > 0.05
    context.memory.add(objective.collect(context, process.count).rows)  # type: ignore[attr-defined]
    loss, metrics = draw_loss(objective, context)
    loss.backward()
    assert loss.item() == pytest.approx(-expected.item() / ALPHA)
    assert metrics["kl"] - metrics["reward"] / ALPHA == pytest.approx(loss.item())
    for parameter, gradient in zip(net.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, -gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.usefixtures("ordered")
def test_truncation_leaves_out_the_reward_and_the_kl_of_earlier_steps(steps):
    """By longhand: the law of x[K−T] is a constant, and what comes before it gets no gradient."""
    context = affine_context(FunctionScorer(quadratic))
    objective = RewardBackprop(steps=steps)
    process, net = context.roles.policy.process, context.roles.policy.net
    expected = objective_in_closed_form(net, base_net(), ALPHA, last=steps)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(expected / ALPHA, list(net.parameters()))
    context.memory.add(objective.collect(context, process.count).rows)  # type: ignore[attr-defined]
    loss, _ = draw_loss(objective, context)
    loss.backward()
    assert loss.item() == pytest.approx(-expected.item() / ALPHA)
    for parameter, gradient in zip(net.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, -gradient, atol=1e-12, rtol=0)
        early, late = parameter.grad[: process.steps - steps], parameter.grad[process.steps - steps :]
        assert early.abs().max() == 0
        assert late.abs().amax(dim=tuple(range(1, late.dim()))).min() > 0.01


@pytest.mark.usefixtures("ordered")
def test_unscored_designs_enter_neither_the_loss_nor_the_gradient():
    """The gradient of a NaN is NaN, and would spoil every weight: the chains that were scored decide alone."""

    def partly(x: Tensor) -> Tensor:
        return quadratic(x) + (x[:, 0] + 0.5).sqrt()  # NaN, with a NaN gradient, left of −0.5

    def smooth(x: Tensor) -> Tensor:
        return quadratic(x) + (x[:, 0] + 0.5).clamp(min=1e-9).sqrt()

    context = affine_context(FunctionScorer(partly))
    objective, net = RewardBackprop(), context.roles.policy.net
    rows = objective.collect(context, context.roles.policy.process.count).rows  # type: ignore[attr-defined]
    context.memory.add(rows)
    loss, metrics = draw_loss(objective, context)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

    x, kl = rows["x"], torch.zeros(len(rows["x"]))
    for k in range(3):
        ours, base = context.roles.policy.kernel(x, k), context.roles.base.kernel(x, k)
        kl, x = kl + ours.kl(base), ours.rsample(context.generator)  # type: ignore[attr-defined]
    scored = x[:, 0] > -0.5
    assert 40 < int(scored.sum()) < 220
    expected = (kl - smooth(x) / ALPHA)[scored].mean()
    assert loss.item() == pytest.approx(expected.item())
    assert metrics["reward"] == pytest.approx(smooth(x)[scored].mean().item())
    for parameter, gradient in zip(net.parameters(), torch.autograd.grad(expected, list(net.parameters()))):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.usefixtures("ordered")
def test_an_update_without_scores_moves_nothing():
    context = affine_context(FunctionScorer(lambda x: x.sum(-1) * torch.nan))
    objective, net = RewardBackprop(), context.roles.policy.net
    context.memory.add(objective.collect(context, context.roles.policy.process.count).rows)  # type: ignore[attr-defined]
    loss, metrics = draw_loss(objective, context)
    loss.backward()
    assert loss.item() == 0 and math.isnan(metrics["reward"])
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())


# ---- letters -------------------------------------------------------------------------------------------------


S, K = 3, 2


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Watch(TableScorer):
    """Keeps the relaxed designs it was shown."""

    def relaxed(self, designs: Tensor) -> Tensor:
        self.seen = designs.detach()
        return super().relaxed(designs)


def finite_context() -> Context:
    process = Finite(S, K)
    base, policy = (Policy(process, Table(S, K, normal(K, S, S, seed=seed))) for seed in (1, 2))
    return context_of(policy, base, Watch(process, torch.tensor([0.3, -0.8, 1.1])))


def test_loss_on_a_finite_chain_by_longhand():
    """From the states that the network was shown: tables of probabilities, and no kernel."""
    context = finite_context()
    shown: list[Tensor] = []
    context.roles.policy.net.register_forward_pre_hook(lambda net, inputs: shown.append(inputs[0].detach()))
    objective = RewardBackprop(temperature=0.7)
    context.memory.add(objective.collect(context, 50).rows)
    shown.clear()
    loss, _ = draw_loss(objective, context)
    designs = context.target.scorer.seen  # type: ignore[attr-defined]
    for state in (*shown, designs):
        assert ((state == 0) | (state == 1)).all() and (state.sum(-1) == 1).all()  # true draws, whatever τ
    kl = torch.zeros(50)
    for k, state in enumerate(shown):
        ours, base = (r.net.logits[k].softmax(-1) for r in (context.roles.policy, context.roles.base))  # type: ignore[union-attr,index]
        kl += (ours * (ours / base).log()).sum(-1)[state.argmax(-1)].detach()
    assert len(shown) == K and len(set(shown[1].argmax(-1).tolist())) == S
    rewards = torch.tensor([0.3, -0.8, 1.1])[designs.argmax(-1)]
    assert loss.item() == pytest.approx((kl - rewards / ALPHA).mean().item())


def one_step(gap: float, temperature: float) -> tuple[float, float]:
    """The gradient in the log-odds `gap` of one letter of two, a reward of 1 for the first: ours, and the true one."""
    process = Finite(2, 1)
    logits = torch.tensor([[[gap, 0.0], [0.0, 0.0]]])
    policy = Policy(process, Table(2, 1, logits))
    context = context_of(policy, policy, TableScorer(process, torch.tensor([1.0, 0.0])), alpha=1.0)
    objective = RewardBackprop(temperature=temperature)
    context.memory.add(objective.collect(context, 400_000).rows)
    draw_loss(objective, context)[0].backward()  # policy = base: the KL has no gradient
    p = 1 / (1 + math.exp(-gap))
    return -policy.net.logits.grad[0, 0, 0].item(), p * (1 - p)  # type: ignore[union-attr,index]


@pytest.mark.parametrize(("gap", "temperature"), [(0.0, 1.0), (1.2, 1.0), (1.2, 0.4)])
def test_straight_through_gradient_by_quadrature(gap, temperature):
    """E of the slope of sigmoid((gap + logistic noise)/τ): the difference of two Gumbels is logistic."""
    grid = torch.linspace(-40, 40, 400_001)
    density = grid.sigmoid() * (-grid).sigmoid()
    soft = ((gap + grid) / temperature).sigmoid()
    expected = torch.trapezoid(density * soft * (1 - soft) / temperature, grid).item()
    ours, true = one_step(gap, temperature)
    assert ours == pytest.approx(expected, abs=2e-3)
    assert abs(expected - true) > 0.004  # the bias that the docstring tells of
    if gap == 0:
        assert expected == pytest.approx(1 / 6) and true == 0.25


def test_straight_through_is_exact_for_a_linear_reward_as_the_temperature_falls():
    ours, true = one_step(1.2, 0.02)
    assert ours == pytest.approx(true, abs=5e-3)


def test_the_gradient_of_the_reward_goes_through_the_states():
    """Two steps: without the path through x[1] the first table would get none at all."""
    context = finite_context()
    context.roles.base.net.load_state_dict(context.roles.policy.net.state_dict())  # the KL is 0, with no gradient
    objective = RewardBackprop()
    context.memory.add(objective.collect(context, 2000).rows)
    draw_loss(objective, context)[0].backward()
    gradient = context.roles.policy.net.logits.grad
    assert isinstance(gradient, Tensor)
    # the chain starts in state 0; what the first step should prefer is the state from which r is larger
    worth = context.roles.policy.net.logits[1].softmax(-1) @ torch.tensor([0.3, -0.8, 1.1])  # type: ignore[index]
    assert gradient[0, 0].argmin() == worth.argmax() and gradient[0, 0].argmax() == worth.argmin()


@pytest.mark.parametrize(("temperature", "near"), [(0.3, True), (1.5, False)])
def test_a_finite_chain_comes_near_p_star_with_a_small_temperature_only(temperature, near):
    """Table and reward are linear in a relaxed state, so what is left is the bias of the temperature."""
    base = Policy(Finite(5, 2), Table(5, 2, normal(2, 5, 5, seed=6)))
    reward = torch.tensor([0.2, -0.7, 1.3, 0.4, -0.1])
    scorer = TableScorer(base.process, reward)
    context = Context(Roles.start(base), Target(scorer, ALPHA), torch.Generator().manual_seed(0), Replay(None))
    config = TrainConfig(max_calls=120 * 256, batch=256, lr=0.1, warmup=5, clip=10.0, ema=0.95)
    objective = RewardBackprop(temperature=temperature)
    tuned = Policy(base.process, Trainer(context, objective, config, scorer).run())
    p_star = tilted_law(law(base), reward, ALPHA)[0]
    assert total_variation(law(base), p_star) > 0.4
    assert (total_variation(law(tuned), p_star) < 0.04) is near


# ---- rounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calls", "updates", "each"), [(12, 1, 12), (12, 4, 3), (14, 4, 3)])
def test_a_round_spends_no_more_than_its_calls(calls, updates, each):
    context = finite_context()
    objective = RewardBackprop(updates=updates)
    collected = objective.collect(context, calls)
    assert len(collected.rows["x"]) == each * updates and len(collected.designs) == 0
    context.memory.add(collected.rows)
    assert context.target.scorer.calls == 0  # type: ignore[attr-defined]
    for update in range(1, updates + 1):
        draw_loss(objective, context)
        assert context.target.scorer.calls == each * update  # type: ignore[attr-defined]


def test_states_are_those_of_the_proposal_at_the_step_where_gradient_starts():
    """The proposal goes 0 → 2 → 1, the policy anywhere: x[1] is 2."""
    context = finite_context()
    logits = torch.full((K, S, S), -30.0)
    logits[0, :, 2], logits[1, :, 1] = 30.0, 30.0
    context.roles.proposal.net.load_state_dict({"logits": logits})
    for steps, start in ((0, 0), (2, 0), (1, 2)):
        collected = RewardBackprop(steps=steps).collect(context, 5)
        assert collected.rows["x"].tolist() == [start] * 5


def test_more_updates_than_calls_are_refused():
    with pytest.raises(ConfigError, match=r"objective\.updates = 8.*4 calls.*train\.batch to 8"):
        RewardBackprop(updates=8).collect(finite_context(), 4)


def test_proposal_follows_after_a_round():
    objective = RewardBackprop(updates=3)
    assert objective.refresh_every == 3 and objective.capacity is None


@pytest.mark.parametrize("name", ["finite", "affine"])
def test_gradients_reach_the_policy_only(name):
    """The base is differentiated in its states, and its weights are not."""
    context = finite_context() if name == "finite" else affine_context(FunctionScorer(quadratic))
    objective = RewardBackprop()
    calls = 64 if name == "finite" else context.roles.policy.process.count  # type: ignore[attr-defined]
    context.memory.add(objective.collect(context, calls).rows)
    check_gradients(objective, context)


@pytest.mark.parametrize("process", [AnyOrder(2, 3), Masked(2, 3, num_steps=3), Uniform(2, 3, num_steps=3)])
def test_letters_of_every_kind_are_differentiated_within_the_budget(process):
    """Two letters out of three; the reward reads complete one-hot designs."""
    base, policy = (Policy(process, StateTable(3, 2, normal(16, 2, 3, seed=seed))) for seed in (1, 2))
    context = context_of(policy, base, Watch(process, normal(9, seed=3)))
    objective = RewardBackprop()
    context.memory.add(objective.collect(context, 32).rows)
    check_gradients(objective, context)
    designs = context.target.scorer.seen  # type: ignore[attr-defined]
    assert designs.shape == (32, 2, 3) and (designs.sum(-1) == 1).all() and ((designs == 0) | (designs == 1)).all()
    assert context.target.scorer.calls == 32  # type: ignore[attr-defined]


# ---- refusals ------------------------------------------------------------------------------------------------


def test_what_cannot_work_is_refused_with_a_remedy():
    known = tuple(PROCESSES.values())
    for process in (Finite(S, K), Gaussian(2, num_steps=4), Flow(2, num_steps=4)):
        check_parts(RewardBackprop(), Parts(process, differentiable=True, known=known))
    with pytest.raises(ConfigError, match="backprop differentiates the reward"):
        check_parts(RewardBackprop(), Parts(Finite(S, K), differentiable=False, known=known))
    with pytest.raises(ConfigError, match=r"backprop needs kl.*eta"):
        check_parts(RewardBackprop(), Parts(Flow(2, eta=0.0), differentiable=True, known=known))
    with pytest.raises(ConfigError, match=r"objective\.steps = 3, but the chain has 2 steps"):
        check_parts(RewardBackprop(steps=3), Parts(Finite(S, K), differentiable=True, known=known))

    class Opaque:
        """A process whose kernels can only be drawn from."""

        name, kernel_type = "opaque", Kernel

    with pytest.raises(ConfigError, match=r"kernels with rsample, kl and a process with relaxed, .*finite"):
        check_parts(RewardBackprop(), Parts(Opaque(), differentiable=True, known=known))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, r"objective\.steps"),
        ({"temperature": 0.0}, r"objective\.temperature"),
        ({"updates": 0}, r"objective\.updates"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RewardBackprop(**options)
