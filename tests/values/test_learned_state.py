"""The learned value of states: its target by longhand, its tilt against exact values, and VIDD with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Context, Policy, Replay, Roles, RollIn, Target, rollout, sample
from biotilt.errors import ConfigError
from biotilt.networks import MLP, MLPConfig, VectorMLP, VectorMLPConfig, value_network
from biotilt.networks.table import Table, ValueTable
from biotilt.objectives import VIDD
from biotilt.processes import AnyOrder, Finite, Flow, Gaussian, Masked, Uniform
from biotilt.testing import (
    FunctionScorer,
    Mixture,
    MixtureDenoiser,
    TableScorer,
    affine_law,
    law,
    optimal_kernel,
    soft_values,
    tilted_law,
    total_variation,
)
from biotilt.training import TrainConfig, Trainer
from biotilt.values import LearnedV, LearnedValueConfig

S, K, ALPHA = 4, 3, 0.4
STATES = torch.arange(S, dtype=torch.int8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def finite(seed: int) -> Policy:
    return Policy(Finite(S, K), Table(S, K, normal(K, S, S, seed=seed)))


def context_of(base: Policy, value: Any, scorer: Any = None, seed: int = 0, alpha: float = ALPHA) -> Context:
    return Context(Roles.start(base), Target(scorer, alpha), generator(seed), Replay(None), value)


@pytest.mark.usefixtures("double")
def test_the_regression_by_longhand():
    """(V_k(x[k+1]) − r/α + Σ_{j>k} ℓ_j)² at the step that was drawn, in units of the rewards' spread."""
    base, reward = finite(1), normal(S, seed=2)
    table = ValueTable(S, K)
    table.values.data = normal(K, S, seed=3)
    value = LearnedV(table, base.process, LearnedValueConfig(lr=0.01))
    context = context_of(base, value, TableScorer(base.process, reward))
    context.roles.proposal.net.logits.data += normal(K, S, S, seed=4)  # type: ignore[union-attr, operator]
    state = context.generator.get_state()
    rows = value.gather(context, RollIn(), 50).rows
    context.generator.set_state(state)
    chain = rollout(context.roles.proposal, 50, context.generator, base=base)
    assert chain.log_ratio is not None
    lesson = value.lesson(context, rows)
    scaled = reward[chain.designs.long()] / ALPHA
    centre, spread = scaled.mean(), scaled.std(correction=0)
    squares = []
    for b, k in enumerate(lesson.k.tolist()):
        assert lesson.x[b] == chain.states[k, b]
        target = scaled[b] - sum(chain.log_ratio[j, b] for j in range(k + 1, K))
        guess = centre + spread * table.values[k, chain.states[k + 1, b].long()]
        squares.append(((guess - target) / spread) ** 2)
    assert lesson.loss.item() == pytest.approx(torch.stack(squares).mean().item())
    assert set(lesson.k.tolist()) == set(range(K))
    lesson.loss.backward()
    assert table.values.grad is not None and table.values.grad.count_nonzero() > 2 * S and not lesson.q.requires_grad


@pytest.mark.usefixtures("double")
def test_on_a_finite_chain_the_exact_values_give_the_optimal_kernel():
    base, reward = finite(5), normal(S, seed=6)
    table = ValueTable(S, K)
    table.values.data = soft_values(base, reward, ALPHA)[1:] / ALPHA
    value = LearnedV(table, base.process)
    expected = optimal_kernel(base, reward, ALPHA)
    for k in range(K):
        q = value.action_value(context_of(base, value), STATES, k)
        torch.testing.assert_close(base.kernel(STATES, k).tilted(q).x0.exp(), expected[k])  # type: ignore[attr-defined]


class Quadratic(nn.Module):
    """m·y − ½ yᵀ P y in both outputs, whatever the time."""

    def __init__(self, m: Tensor, p: Tensor):
        super().__init__()
        self.m, self.p = m, p

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        value = y @ self.m - torch.einsum("bi,ij,bj->b", y, self.p, y) / 2
        return value.unsqueeze(-1).expand(y.shape)


class Tilted(Policy):
    """The base with its means moved by a given number of σ²."""

    def kernel(self, x: Tensor, k: int | Tensor) -> Any:
        return super().kernel(x, k).tilted(self.q)  # type: ignore[attr-defined]

    q: Tensor


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", [Gaussian, Flow])
def test_of_gaussians_the_average_teacher_rests_at_the_exact_tilt(kind):
    """V quadratic: p_pre e^V is the gaussian of precision 1/σ² + P; its mean is where the teacher's mean is its own."""
    process = kind(2, num_steps=4, prediction="x0")
    base = Policy(process, MixtureDenoiser(lopsided(), process, VectorMLP(VectorMLPConfig(2, 8, 1))))
    p, m = torch.tensor([[3.0, 0.7], [0.7, 1.5]]), torch.tensor([1.2, -2.0])
    value = LearnedV(Quadratic(m, p), process)
    x, k = torch.tensor([[0.3, -1.4]]).expand(40_000, 2), 2
    plain: Any = base.kernel(x[:1], k)
    variance = plain.std.square().squeeze()
    exact = torch.linalg.solve(torch.eye(2) / variance + p, plain.mean[0] / variance + m)
    context = context_of(base, value)
    resting = Tilted(process, base.net)
    resting.q = (exact - plain.mean[0]).expand(x.shape) / variance
    context.roles.proposal = resting
    q = value.action_value(context, x, k)
    y = resting.kernel(x, k).sample(generator(0))  # the same draw
    torch.testing.assert_close(q, m - y @ p)
    teacher: Any = base.kernel(x, k).tilted(q)  # type: ignore[attr-defined]
    error = teacher.mean.mean(0) - exact
    assert (error.abs() < 5 * teacher.mean.std(0) / len(x) ** 0.5).all()
    assert (exact - plain.mean[0]).abs().min() > 20 * error.abs().max()


def test_states_that_are_not_shown_have_no_tilt():
    """At k = 0 the uniform process shows masks in the place of letters that say nothing."""
    process = Uniform(3, 2, num_steps=4)
    torch.manual_seed(0)
    value = LearnedV(MLP(MLPConfig(2, 3, 8, time=True)), process)
    base = Policy(process, MLP(MLPConfig(2, 3, 8, time=True)))
    context = context_of(base, value)
    x = process.noise(6, generator())
    assert (value.action_value(context, x, 0) == 0).all()
    assert (value.action_value(context, x, 1) != 0).all()


@pytest.mark.parametrize("process", [AnyOrder(3, 2), Masked(3, 2, num_steps=4), Uniform(3, 2, num_steps=4)])
def test_of_letters_the_tilt_is_the_slope_toward_each_letter(process):
    """A network linear in the one-hot state: q is its weights, without those of the mask."""

    class Linear(nn.Module):
        weights = normal(3, 3, seed=7).float()

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return (x * self.weights).sum((1, 2)).view(-1, 1, 1).expand(len(x), 3, 2)

    value = LearnedV(Linear(), process)
    base = Policy(process, MLP(MLPConfig(2, 3, 8)))
    x = process.noise(5, generator())
    q = value.action_value(context_of(base, value), x, 1)
    torch.testing.assert_close(q, Linear.weights[:, :2].expand(5, 3, 2))


def lopsided() -> Mixture:
    return Mixture(torch.ones(1), torch.tensor([[0.5, -0.3]]), torch.tensor([[[0.8, 0.3], [0.3, 0.5]]]))


LINEAR, QUADRATIC = torch.tensor([1.4, 0.5]), torch.tensor([[0.6, 0.2], [0.2, 0.4]])


@pytest.mark.parametrize("kind", [Gaussian, Flow])
def test_vidd_finds_the_closed_form_tilt_of_a_gaussian(kind):
    """Mean and covariance of the law p_pre e^{r/α} of the chain, r = b·x − ½ xᵀ A x."""
    process = kind(2, num_steps=16, prediction="x0")
    torch.manual_seed(0)
    net = MixtureDenoiser(lopsided(), process, VectorMLP(VectorMLPConfig(2, 32, 2)))
    base, alpha = Policy(process, net), 0.5
    scorer = FunctionScorer(lambda x: x @ LINEAR - torch.einsum("bi,ij,bj->b", x, QUADRATIC, x) / 2)
    start = affine_law(base)
    target, _ = start.tilted(LINEAR, QUADRATIC, alpha)
    objective = VIDD(value="return", mirror=0.5, updates=20, refresh=20, states=128, buffer=1024)
    value = LearnedV(value_network(base), process, LearnedValueConfig(lr=3e-3))
    context = Context(Roles.start(base), Target(scorer, alpha), generator(), Replay(objective.capacity), value)
    config = TrainConfig(max_calls=128 * 30, batch=128, lr=3e-3, ema=0.97)
    tuned = Policy(process, Trainer(context, objective, config, scorer).run())
    drawn = sample(tuned, 8000, generator(1), chunk=8000).double()
    (mean, covariance), (mean_before, covariance_before) = target.moments(), start.moments()
    assert (mean - mean_before).norm() > 0.5 and (covariance - covariance_before).norm() > 0.3
    print(drawn.mean(0) - mean, drawn.T.cov() - covariance)
    assert (drawn.mean(0) - mean).norm() < 0.06
    assert (drawn.T.cov() - covariance).norm() < 0.06


def test_vidd_with_learned_values_reaches_the_tilted_law_of_a_finite_chain():
    base = Policy(Finite(S, K), Table(S, K, normal(K, S, S, seed=8).float()))
    reward = normal(S, seed=9).float()
    p_star, _ = tilted_law(law(base), reward, ALPHA)
    assert total_variation(law(base), p_star) > 0.3
    objective = VIDD(value="return", mirror=0.3, beta=1.0, updates=20, refresh=5, states=256, buffer=2048)
    value = LearnedV(value_network(base), base.process, LearnedValueConfig(lr=0.03))
    scorer = TableScorer(base.process, reward)
    context = Context(Roles.start(base), Target(scorer, ALPHA), generator(), Replay(objective.capacity), value)
    config = TrainConfig(max_calls=512 * 30, batch=512, lr=0.05, clip=10.0, ema=0.97)
    net = Trainer(context, objective, config, scorer).run()
    assert total_variation(law(Policy(base.process, net)), p_star) < 0.02


def test_a_process_without_relaxed_states_is_refused():
    from biotilt.core import Parts, check_parts

    base = finite(1)
    value = LearnedV(ValueTable(S, K), base.process)

    class Rigid:
        name, kernel_type, steps = "rigid", type(base.kernel(STATES, 0)), 3

    with pytest.raises(ConfigError, match=r"relaxed, which the process \"rigid\" has not"):
        check_parts(VIDD(value="return"), Parts(Rigid(), value))  # type: ignore[arg-type]
