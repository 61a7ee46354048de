"""Differentiable draws and relaxed states of the discrete processes, against exact sums and quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy, kernel_at, rollout
from biotilt.core.fixed import Fixed
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite, Masked, Uniform
from biotilt.processes.letters import LetterProcess
from biotilt.testing import TableScorer, all_designs, space

V, L = 2, 3
HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([0, 1, 0], dtype=torch.int8))
LETTERS = {
    "masked": Masked(L, V, num_steps=3),
    "masked held": Masked(L, V, HELD, num_steps=3, schedule="cosine"),
    "m=1": AnyOrder(L, V),
    "m=2": AnyOrder(L, V, per_step=2),
    "m=1 held": AnyOrder(L, V, HELD),
    "uniform": Uniform(L, V, num_steps=3),
    "uniform held": Uniform(L, V, HELD, num_steps=3, schedule="cosine"),
}
each_process = pytest.mark.parametrize("process", LETTERS.values(), ids=LETTERS.keys())
NETWORKS = {
    "table": lambda: StateTable(V, L, normal((V + 1) ** L, L, V, seed=1)),
    "mlp": lambda: MLP(MLPConfig(V, L, width=16, time=True)),
    "cnn": lambda: CNN(CNNConfig(V, L, channels=8, blocks=2, kernel=3, time=True)),
}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


@pytest.fixture(autouse=True)
def exact(double):
    torch.manual_seed(0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def states_of(process: LetterProcess, k: int) -> Tensor:
    """States that a chain reaches at step k."""
    return process.corrupt(all_designs(V, L).repeat(6, 1), k, generator(2)) if k else process.noise(8, generator(3))


def with_held(process: LetterProcess, x: Tensor) -> Tensor:
    return x if process.fixed is None else torch.where(process.fixed.mask, process.fixed.letters, x)


@each_process
@each_network
def test_a_one_hot_state_gives_the_kernel_of_the_tokens(process, network):
    policy = Policy(process, network())
    for k in range(process.steps):
        x = with_held(process, states_of(process, k))
        plain, kernel = policy.kernel(x, k), policy.kernel(process.relaxed(x), k)
        assert torch.equal(kernel.x, x) and kernel.x.dtype == torch.int8
        y = plain.sample(generator(4))
        design = plain.guess(generator(5))
        torch.testing.assert_close(kernel.log_prob(y), plain.log_prob(y))
        torch.testing.assert_close(kernel.x0, plain.x0)
        torch.testing.assert_close(kernel.expected(), plain.expected())
        torch.testing.assert_close(kernel.posterior_log_prob(design), plain.posterior_log_prob(design))
        torch.testing.assert_close(kernel.kl(plain), torch.zeros(len(x)))
        assert torch.equal(kernel.sample(generator(6)), plain.sample(generator(6)))
        assert torch.equal(kernel.rsample(generator(6)), plain.rsample(generator(6)))


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
@each_process
def test_the_value_of_rsample_is_a_draw_from_the_kernel(process, temperature):
    """Exactly one-hot, whatever the temperature; the frequencies follow `log_prob`."""
    policy, draws = Policy(process, NETWORKS["table"]()), 8000
    x = with_held(process, states_of(process, 1))[3]
    y = policy.kernel(x.expand(draws, L), 1).rsample(generator(7), temperature).detach()
    assert y.shape == (draws, L, V + 1)
    assert ((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all()
    every = space(process).states
    wanted = policy.kernel(x.expand(len(every), L), 1).log_prob(every).exp().detach()
    seen = (y.argmax(-1)[:, None] == every).all(-1).double().mean(0)
    assert ((seen - wanted).abs() <= 4.5 * (wanted * (1 - wanted) / draws).sqrt() + 1e-12).all()


@each_process
def test_what_is_not_drawn_passes_on_with_its_gradient(process):
    """Shown and still hidden positions of y are the relaxed state itself."""
    state = process.relaxed(with_held(process, states_of(process, 1))).requires_grad_()
    kernel = kernel_at(process, lambda x, t: torch.zeros(len(x), L, V), state, 1)
    y = kernel.rsample(generator(8))
    weight = normal(*y.shape, seed=9)
    (gradient,) = torch.autograd.grad((y * weight).sum(), state)
    hidden = kernel.hidden if isinstance(process, Masked | AnyOrder) else kernel.free.expand(len(state), L)
    drawn = hidden & (y[..., V] == 0)
    kept = ~drawn
    torch.testing.assert_close(gradient[kept], weight[kept])
    assert kept.any() or process.fixed is None
    if not isinstance(process, Uniform):
        assert (gradient[drawn] == 0).all() and kept.any() and drawn.any()


@each_process
@each_network
def test_gradients_flow_through_every_step(process, network):
    """From a linear reward of the design to the weights, and to the relaxed state, through the network."""
    policy = Policy(process, network())
    state = process.relaxed(with_held(process, process.corrupt(all_designs(V, L), 1, generator(10)))).requires_grad_()
    x, g = state, generator(11)
    for k in range(1, process.steps):
        x = policy.kernel(x, k).rsample(g)
    design = process.relaxed_design(x)
    assert design.shape == (8, L, V)
    (design * normal(L, V, seed=12)).sum().backward()
    assert state.grad is not None and state.grad.isfinite().all() and state.grad.abs().sum() > 0
    grads = [p.grad for p in policy.net.parameters()]
    assert any(grad is not None and grad.abs().sum() > 0 for grad in grads)
    assert all(grad is None or grad.isfinite().all() for grad in grads)


@each_process
def test_what_is_expected_is_differentiable_in_the_state_and_the_network(process):
    """Probabilities where the network decides: the slope of a letter's log-odds is p (1 − p); shown letters pass."""
    odds, weight = normal(L, seed=14).requires_grad_(), normal(L, V, seed=13)
    state = process.relaxed(with_held(process, states_of(process, 1))).requires_grad_()

    def net(x: Tensor, t: Tensor) -> Tensor:
        return torch.stack([odds, torch.zeros(L)], -1).expand(len(x), L, V)

    kernel = kernel_at(process, net, state, 1)
    decided = kernel.hidden if isinstance(process, Masked | AnyOrder) else kernel.free.expand(len(state), L)
    p = odds.detach().sigmoid()
    by_odds, by_state = torch.autograd.grad((kernel.expected() * weight).sum(), (odds, state))
    torch.testing.assert_close(by_odds, decided.sum(0) * p * (1 - p) * (weight[:, 0] - weight[:, 1]))
    torch.testing.assert_close(by_state[..., :V], weight * ~decided.unsqueeze(-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_gradient_of_one_draw_by_quadrature(temperature):
    """Two letters, p = σ(±d): the slope is E[σ′((d + u)/τ)]/τ over u logistic, the difference of two Gumbels."""
    d, draws = torch.tensor(0.8, requires_grad=True), 40_000
    process = AnyOrder(1, 2)
    logits = torch.stack([d, torch.zeros(())]).expand(draws, 1, 2)
    y = kernel_at(process, lambda x, t: logits, process.noise(draws, generator()), 0).rsample(
        generator(14), temperature
    )
    (gradient,) = torch.autograd.grad(y[:, 0, 0].mean(), d)
    u = torch.linspace(-40, 40, 80_001)
    density = torch.sigmoid(u) * torch.sigmoid(-u)
    soft = torch.sigmoid((d.detach() + u) / temperature)
    exact = torch.trapezoid(density * soft * (1 - soft) / temperature, u).item()
    spread = torch.trapezoid(density * (soft * (1 - soft) / temperature) ** 2, u).item() - exact**2
    assert abs(gradient.item() - exact) < 4.5 * math.sqrt(spread / draws)


def expected_reward(policy: Policy, reward: Tensor) -> Tensor:
    """E[r(x[K])] with its gradient, by pushing mass through all states."""
    states, mass, designs = space(policy.process)
    count = len(states)
    pairs = states.repeat_interleave(count, 0), states.repeat(count, *[1] * (states.dim() - 1))
    for k in range(policy.process.steps):
        mass = mass @ policy.kernel(pairs[0], k).log_prob(pairs[1]).exp().unflatten(0, (count, count))
    return mass[designs] @ reward


SMALL = {
    "finite": lambda: Policy(Finite(3, 3), Table(3, 3, normal(3, 3, 3, seed=16))),
    "masked": lambda: Policy(Masked(L, V, num_steps=2), StateTable(V, L, normal((V + 1) ** L, L, V, seed=17))),
    "m=1": lambda: Policy(AnyOrder(2, 3), StateTable(3, 2, normal(16, 2, 3, seed=18))),
    "m=2": lambda: Policy(AnyOrder(L, V, per_step=2), StateTable(V, L, normal((V + 1) ** L, L, V, seed=19))),
    "uniform": lambda: Policy(Uniform(1, 3, num_steps=3), StateTable(3, 1, normal(4, 1, 3, seed=19))),
}


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
def test_the_gradient_of_a_whole_chain_is_exact_for_tables_at_low_temperature(make):
    """Kernels and tables are linear in the state, and no letter is used more than twice after it was drawn: then
    nothing but the temperature biases the straight-through slope, taken half at one end of a change and half at the
    other (the trapezoid rule, exact for two factors)."""
    policy, draws, parts, temperature = make(), 4000, 20, 0.1
    process = policy.process
    reward = normal(len(space(process).designs), seed=20)
    (exact,) = torch.autograd.grad(expected_reward(policy, reward), policy.net.logits)
    scorer, g, estimates = TableScorer(process, reward), generator(21), []
    for _ in range(parts):
        x = process.relaxed(process.noise(draws, g))
        for k in range(process.steps):
            x = policy.kernel(x, k).rsample(g, temperature)
        estimates.append(torch.autograd.grad(scorer.relaxed(process.relaxed_design(x)).mean(), policy.net.logits)[0])
    mean, error = torch.stack(estimates).mean(0), torch.stack(estimates).std(0) / math.sqrt(parts)
    # the bias of the temperature is of the order τ²
    assert ((mean - exact).abs() <= 5 * error + 0.01 * exact.abs().max()).all()
    assert error.max() < 0.1 * exact.abs().max(), "an estimate too noisy to test anything"


@each_process
def test_relaxed_states_and_designs(process):
    x = with_held(process, states_of(process, 1))
    relaxed = process.relaxed(x)
    assert torch.equal(relaxed.argmax(-1), x.long()) and (relaxed.sum(-1) == 1).all()
    assert process.relaxed(relaxed) is relaxed
    reward = normal(V**L, seed=22)
    designs, scorer = all_designs(V, L), TableScorer(process, reward)
    for form in (designs, process.relaxed(designs)):
        torch.testing.assert_close(scorer.relaxed(process.relaxed_design(form)), reward)


def test_relaxed_states_of_a_finite_chain():
    policy, every = SMALL["finite"](), torch.arange(3, dtype=torch.int8)
    process = policy.process
    assert process.relaxed(every).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert torch.equal(process.relaxed_design(every), process.relaxed(process.relaxed(every)))
    for k in range(3):
        plain, kernel = policy.kernel(every, k), policy.kernel(process.relaxed(every), k)
        assert torch.equal(kernel.x, every) and kernel.x.dtype == torch.int8
        torch.testing.assert_close(kernel.x0, plain.x0)
    draws = 20_000
    y = policy.kernel(torch.full((draws,), 2), 1).rsample(generator(23), 3.0).detach()
    wanted = policy.net.logits[1, 2].softmax(-1).detach()
    assert y.shape == (draws, 3) and ((y == 0) | (y == 1)).all()
    assert ((y.mean(0) - wanted).abs() < 4.5 * (wanted * (1 - wanted) / draws).sqrt()).all()


def test_posterior_and_expected_of_a_reveal_kernel_by_hand():
    """One letter shown, two hidden with known probabilities."""
    letters = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]).log()
    x = torch.tensor([[2, 1, 2]], dtype=torch.int8)
    for process in (Masked(L, V, num_steps=3), AnyOrder(L, V)):
        kernel = kernel_at(process, lambda x, t: letters.expand(len(x), L, V), x, 1)
        assert kernel.posterior_log_prob(torch.tensor([[0, 1, 1]])).exp().item() == pytest.approx(0.9 * 0.8)
        assert kernel.posterior_log_prob(torch.tensor([[0, 0, 1]])).item() == -math.inf
        torch.testing.assert_close(kernel.expected()[0], torch.tensor([[0.9, 0.1], [0.0, 1.0], [0.2, 0.8]]))
        soft = torch.tensor([[[0, 0, 1], [0.4, 0.6, 0], [0, 0, 1]]])
        relaxed = kernel_at(process, lambda x, t: letters.expand(len(x), L, V), soft, 1)
        assert relaxed.x.tolist() == x.tolist()
        torch.testing.assert_close(relaxed.expected()[0, 1], torch.tensor([0.4, 0.6]))
        tilted = relaxed.tilted(torch.ones(1, L, V)).mix(relaxed, 0.5)
        torch.testing.assert_close(tilted.rsample(generator())[0, 1], soft[0, 1])


def test_a_mixed_state_of_the_uniform_process_mixes_the_laws():
    """One letter: half of state 0's next letters and half of state 2's, the network aside."""
    process = Uniform(1, 3, num_steps=4)
    letters = torch.tensor([0.5, 0.2, 0.3]).log()

    def net(x: Tensor, t: Tensor) -> Tensor:
        return letters.expand(len(x), 1, 3)

    ends = kernel_at(process, net, torch.tensor([[0], [1], [2]], dtype=torch.int8), 2).log_next.exp()
    state = torch.tensor([[[0.25, 0, 0.75, 0]]], requires_grad=True)
    mixed = kernel_at(process, net, state, 2).log_next.exp()
    torch.testing.assert_close(mixed[0], 0.25 * ends[0] + 0.75 * ends[2])
    (slope,) = torch.autograd.grad(mixed[0, 0, 1], state)
    torch.testing.assert_close(slope[0, 0, :3], ends[:, 0, 1])
    assert not torch.allclose(ends[0], ends[2])


@pytest.mark.parametrize("name", ["masked", "m=2", "uniform"])
def test_chains_of_tokens_are_reproduced_and_keep_tokens(name):
    policy = Policy(LETTERS[name], NETWORKS["table"]())
    first, again = (rollout(policy, 50, generator(24)).states for _ in range(2))
    assert torch.equal(first, again) and first.dtype == torch.int8
    assert policy.kernel(first[0], 0).relaxed is None
    draws = [policy.kernel(first[1], 1).rsample(generator(seed)) for seed in (25, 25, 26)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
