"""The uniform process against its definition: every state, every next state, and the forward chain as matrices."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Policy, kernel_at, sample
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.networks import MLP, MLPConfig
from biotilt.processes import Uniform
from biotilt.processes.schedules import SCHEDULES
from biotilt.testing import all_designs, kl, law, push, space, total_variation, transition_matrices
from biotilt.testing.exact import lexicographic_index

V, L, K = 3, 2, 4
STATES = all_designs(V, L)
HELD = Fixed(torch.tensor([False, True]), torch.tensor([0, 2], dtype=torch.int8))
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
each_hold = pytest.mark.parametrize("held", [None, HELD], ids=["all free", "one held"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class TimedTable(nn.Module):
    """Logits `(K, (V+1)^L, L, V)` for every step and every state, masks among them."""

    def __init__(self, process: Uniform, logits: Tensor):
        super().__init__()
        self.steps, self.tokens, self.logits = process.steps, process.letters + 1, nn.Parameter(logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits[((1 - t) * self.steps).round().long(), lexicographic_index(x, self.tokens)]


def random_policy(process: Uniform, seed: int) -> Policy:
    v, n = process.letters, process.length
    return Policy(process, TimedTable(process, 1.5 * normal(process.steps, (v + 1) ** n, n, v, seed=seed)))


def clean(process: Uniform) -> Tensor:
    """a[0] … a[K] by the formulas of the schedules."""
    t = 1 - torch.arange(process.steps + 1, dtype=torch.float64) / process.steps
    return {"loglinear": 1 - t, "polynomial": 1 - t**2, "cosine": 1 - (math.pi / 2 * (1 - t)).cos()}[process.schedule]


def forward_matrices(process: Uniform) -> list[Tensor]:
    """q(x[k] | x0) of one letter `(V, V)`, for k = 0 … K."""
    v = process.letters
    return [a * torch.eye(v).double() + (1 - a) / v for a in clean(process)]


def bayes(process: Uniform, k: int) -> Tensor:
    """q(x[k+1] = y | x[k] = x, x0) of one letter `(x, x0, y)`; one noising step is the quotient of two matrices."""
    forward = forward_matrices(process)
    noising = torch.linalg.solve(forward[k + 1], forward[k])  # q(x[k] = x | x[k+1] = y), (y, x)
    joint = noising.T.unsqueeze(1) * forward[k + 1].unsqueeze(0)
    return joint / joint.sum(-1, keepdim=True)


def shown(process: Uniform, k: int) -> Tensor:
    """What the network sees of each of STATES: masks at step 0, but for held letters."""
    x = STATES.clone() if process.length == L else all_designs(process.letters, process.length)
    if k == 0:
        free = torch.ones(process.length).bool() if process.fixed is None else ~process.fixed.mask
        x[:, free] = process.letters
    return x


def letter_laws(policy: Policy, k: int) -> Tensor:
    """p(y_i | x) `(x, i, y_i)`: Σ_{x0} q(y_i | x_i, x0) net(x)[i, x0], held letters kept."""
    process = policy.process
    states = all_designs(process.letters, process.length)
    x0 = policy.net(shown(process, k), torch.full((len(states),), 1 - k / process.steps)).softmax(-1).detach()
    moves = torch.einsum("bioy,bio->biy", bayes(process, k)[states.long()], x0)
    if process.fixed is not None:
        stays = torch.eye(process.letters).double()[states.long()]
        moves[:, process.fixed.mask] = stays[:, process.fixed.mask]
    return moves


def enumerated(policy: Policy, k: int) -> Tensor:
    """p(y | x) `(x, y)` as the product over positions, y by y."""
    moves = letter_laws(policy, k)
    states = all_designs(policy.process.letters, policy.process.length).long()
    return torch.stack([moves[:, torch.arange(len(y)), y].prod(-1) for y in states], 1)


@each_schedule
@each_hold
@pytest.mark.parametrize("steps", [1, K])
def test_kernels_equal_their_definition_and_are_normalised(schedule, held, steps):
    policy = random_policy(Uniform(L, V, held, num_steps=steps, schedule=schedule), 1)
    computed = transition_matrices(policy, STATES)
    torch.testing.assert_close(computed.sum(-1), torch.ones(steps, len(STATES)).double(), atol=1e-6, rtol=0)
    for k in range(steps):
        torch.testing.assert_close(computed[k], enumerated(policy, k), atol=1e-6, rtol=0)


@each_schedule
def test_a_network_that_knows_the_design_reverses_the_noising(schedule):
    """From random letters, the law of x[k] is q(x[k] | design) at every step."""
    process = Uniform(1, V, num_steps=K, schedule=schedule)
    known = torch.tensor([0.0, -torch.inf, -torch.inf])
    policy = Policy(process, lambda x, t: known.expand(len(x), 1, V))  # type: ignore[arg-type]
    states, start, _ = space(process)
    laws = push(transition_matrices(policy, states), start)
    torch.testing.assert_close(laws, torch.stack([f[0] for f in forward_matrices(process)]), atol=1e-6, rtol=0)


def test_the_first_step_does_not_depend_on_the_noise():
    """Bayes' rule says so of the noising, because a[0] = 0; masks make it so of the network."""
    process = Uniform(L, V, HELD, num_steps=K)
    kernel = random_policy(process, 2).kernel(STATES, torch.zeros(len(STATES), dtype=torch.long))
    torch.testing.assert_close(bayes(process, 0)[0], bayes(process, 0)[1])
    free, same = kernel.log_next[:, 0], STATES[:, 1] == 2
    assert (free[same] == free[same][0]).all() and not (free == free[0]).all(), "held letters must be seen"
    later = random_policy(process, 2).kernel(STATES, 1)
    assert not (later.log_x0[same, 0] == later.log_x0[same, 0][0]).all()


@pytest.mark.parametrize("k", [0, 1, K - 1])
def test_samples_follow_log_prob(k):
    policy, draws = random_policy(Uniform(L, V, num_steps=K), 3), 20_000
    kernel = policy.kernel(STATES[5].expand(draws, L), k)
    y = kernel.sample(generator(4))
    expected = draws * enumerated(policy, k)[5]
    chi2 = ((lexicographic_index(y, V).bincount(minlength=len(STATES)) - expected).square() / expected).sum().item()
    assert y.dtype == torch.int8
    assert chi2 < 8 + 6 * math.sqrt(16)


@each_hold
def test_kl_tilted_and_mix_by_enumeration(held):
    process = Uniform(L, V, held, num_steps=K, schedule="cosine")
    p, other = random_policy(process, 5), random_policy(process, 6)
    q, k, weight = normal(L, V, seed=7), 2, 0.3
    free = torch.ones(L).bool() if held is None else ~held.mask
    gain = (q.gather(1, STATES.long().T).T * free).sum(-1).exp()
    before, after = enumerated(p, k), enumerated(other, k)
    kernel, second = p.kernel(STATES, k), other.kernel(STATES, k)
    wanted = torch.tensor([kl(a, b) for a, b in zip(before, after)], dtype=torch.float64)
    torch.testing.assert_close(kernel.kl(second).detach(), wanted, atol=1e-6, rtol=1e-5)
    tilted, mixed = before * gain, before ** (1 - weight) * after**weight
    for computed, exact in ((kernel.tilted(q), tilted), (kernel.mix(second, weight), mixed)):
        got = torch.stack([computed.log_prob(y.expand(len(STATES), L)) for y in STATES], 1).exp()
        torch.testing.assert_close(got.detach(), exact / exact.sum(-1, keepdim=True), atol=1e-6, rtol=0)
        assert computed.x0 is kernel.x0


@each_hold
def test_terms_are_the_letters_and_sum_to_log_prob(held):
    policy, k = random_policy(Uniform(L, V, held, num_steps=K), 8), 1
    moves = letter_laws(policy, k)
    kernel = policy.kernel(STATES, k)
    y = kernel.sample(generator(9))
    wanted = moves.gather(-1, y.long().unsqueeze(-1)).squeeze(-1).log()
    torch.testing.assert_close(kernel.terms(y).detach(), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(kernel.terms(y).sum(-1), kernel.log_prob(y))


@each_hold
def test_what_a_kernel_says_of_the_design(held):
    """x0, expected, guess and posterior_log_prob, from the letters of the network."""
    policy, k = random_policy(Uniform(L, V, held, num_steps=K), 10), 2
    letters = policy.net(STATES, torch.full((9,), 0.5)).softmax(-1).detach()
    kernel = policy.kernel(STATES, k)
    torch.testing.assert_close(kernel.x0.exp().detach(), letters)
    if held is not None:
        letters[:, 1] = torch.eye(V).double()[STATES[:, 1].long()]
    torch.testing.assert_close(kernel.expected().detach(), letters)
    assert torch.equal(kernel.guess(), letters.argmax(-1).to(torch.int8))
    posterior = torch.stack([kernel.posterior_log_prob(d.expand(9, L)) for d in STATES], 1).exp().detach()
    torch.testing.assert_close(posterior, (letters[:, 0, :, None] * letters[:, 1, None, :]).flatten(1))
    drawn = policy.kernel(STATES[4].expand(9000, L), k).guess(generator(11))
    seen = lexicographic_index(drawn, V).bincount(minlength=9) / 9000
    assert ((seen - posterior[4]).abs() <= 4.5 * (posterior[4] * (1 - posterior[4]) / 9000).sqrt() + 1e-9).all()


@each_schedule
def test_corrupt_has_the_law_of_the_noising(schedule):
    process, draws = Uniform(L, V, num_steps=K, schedule=schedule), 12_000
    design = torch.tensor([2, 0], dtype=torch.int8).expand(draws, L)
    for k in range(K + 1):
        row = forward_matrices(process)[k]
        wanted = (row[2][:, None] * row[0][None, :]).flatten()
        x = process.corrupt(design, torch.full((draws,), k), generator(12 + k))
        seen = lexicographic_index(x, V).bincount(minlength=9) / draws
        assert x.dtype == torch.int8
        assert ((seen - wanted).abs() <= 4.5 * (wanted * (1 - wanted) / draws).sqrt() + 1e-9).all()
    assert torch.equal(process.corrupt(design, K, generator()), design)


def bound(policy: Policy, design: Tensor) -> float:
    """Σ_k E_{x ∼ q(x[k] | x0)} KL(q(y | x, x0) ‖ p(y | x)), over all x and y of the whole word."""
    process, total = policy.process, 0.0
    states, d = all_designs(process.letters, process.length).long(), design.long()
    for k in range(process.steps):
        mass = forward_matrices(process)[k][d, states].prod(-1)
        true = torch.stack([bayes(process, k)[states, d, y].prod(-1) for y in states], 1)
        model = enumerated(policy, k)
        total += sum(mass[x].item() * kl(true[x], model[x]) for x in range(len(states)))
    return total


@each_schedule
def test_the_loss_is_the_bound_and_bounds_the_exact_log_likelihood(schedule):
    policy, draws = random_policy(Uniform(L, V, num_steps=3, schedule=schedule), 13), 12_000
    masses = law(policy)
    for index in (1, 6):
        loss = policy.process.denoising_loss(policy.net, STATES[index].expand(draws, L), generator(14)).detach()
        exact = bound(policy, STATES[index])
        assert loss.shape == (draws,)
        assert abs(loss.mean().item() - exact) < 4 * (loss.std() / math.sqrt(draws)).item()
        assert exact > -masses[index].log().item() + 0.05


def true_posterior(process: Uniform, data: Tensor) -> Policy:
    """p(x0_i | x[k]) under a law of designs, by Bayes' rule: what training aims at. A mask says nothing."""
    designs, states = (all_designs(v, process.length).long() for v in (process.letters, process.letters + 1))
    tables = []
    for forward in forward_matrices(process)[:-1]:
        seen = torch.cat([forward, torch.ones(process.letters, 1).double()], 1)
        joint = data * torch.stack([seen[designs, x].prod(-1) for x in states])
        one_hot = torch.eye(process.letters).double()[designs]
        tables.append(torch.einsum("xd,div->xiv", joint, one_hot).log())
    return Policy(process, TimedTable(process, torch.stack(tables)))


@each_schedule
def test_the_bound_costs_nothing_for_one_letter_with_the_true_posterior(schedule):
    data = torch.tensor([0.6, 0.1, 0.3], dtype=torch.float64)
    policy = true_posterior(Uniform(1, V, num_steps=K, schedule=schedule), data)
    torch.testing.assert_close(law(policy), data, atol=1e-6, rtol=0)
    bounds = torch.tensor([bound(policy, d) for d in all_designs(V, 1)], dtype=torch.float64)
    assert (data * bounds).sum().item() == pytest.approx(-(data * data.log()).sum().item(), abs=1e-6)


def test_fixed_positions_never_move():
    process, g = Uniform(L, V, HELD, num_steps=K), generator(15)
    policy = random_policy(process, 16)
    x = process.noise(300, g)
    assert x.dtype == torch.int8 and (x[:, 1] == 2).all()
    assert sorted(x[:, 0].unique().tolist()) == [0, 1, 2]
    for k in range(K):
        kernel = policy.kernel(x, k)
        assert (kernel.guess(g)[:, 1] == 2).all()
        moved = x.clone()
        moved[:, 1] = 0
        assert (kernel.log_prob(moved) == -torch.inf).all() and (kernel.posterior_log_prob(moved) == -torch.inf).all()
        x = kernel.sample(g)
        assert (x[:, 1] == 2).all()
        assert (process.corrupt(x, k, g)[:, 1] == 2).all()
    mass = law(policy)
    assert mass.sum().item() == pytest.approx(1, abs=1e-6) and (mass[STATES[:, 1] != 2] == 0).all()


def test_the_loss_ignores_fixed_positions():
    logits = torch.zeros(L, V, requires_grad=True)
    design = torch.tensor([0, 2], dtype=torch.int8).expand(64, L)
    loss = Uniform(L, V, HELD).denoising_loss(lambda x, t: logits.expand(len(x), L, V), design, generator(17))
    loss.mean().backward()
    assert logits.grad is not None and (logits.grad[1] == 0).all() and (logits.grad[0] != 0).all()


def test_noise_is_uniform():
    x = Uniform(L, V).noise(9000, generator(18))
    seen = lexicographic_index(x, V).bincount(minlength=9)
    assert ((seen - 1000.0).square() / 1000).sum() < 8 + 6 * math.sqrt(16)


def test_draws_are_reproduced_by_the_generator():
    process = Uniform(L, V, num_steps=K)
    policy = random_policy(process, 19)

    def draws(seed: int) -> Tensor:
        g = generator(seed)
        x = process.noise(200, g)
        return torch.stack([x, policy.kernel(x, 1).sample(g), process.corrupt(x, 1, g)])

    assert torch.equal(draws(1), draws(1))
    assert all((a != b).any() for a, b in zip(draws(1), draws(2)))


@pytest.mark.parametrize("k", [0, 1, K - 1])
def test_forbidden_letters_give_no_nan(k):
    """In the last step what the network forbids stays forbidden, and no gradient becomes NaN."""
    logits = torch.tensor([[[0.3, -torch.inf, 0.1], [0.5, 0.1, 0.2]]], requires_grad=True)
    process, x = Uniform(L, V, num_steps=K), torch.tensor([[1, 0]])
    kernel = kernel_at(process, lambda x, t: logits, x, k)
    other = kernel_at(process, lambda x, t: torch.zeros(1, L, V), x, k)
    forbidden = kernel.log_next[0, 0, 1].exp().item()
    assert forbidden == 0 if k == K - 1 else forbidden > 0.01
    kernel.kl(other).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


@each_schedule
@pytest.mark.parametrize("steps", [64, 1000, 20_000])
def test_long_chains_stay_finite_in_single_precision(schedule, steps):
    """Also where a[1] is 1e-8: a step then moves almost nothing, and a network's slope still counts."""
    process, x = Uniform(1, 4, num_steps=steps, schedule=schedule), torch.tensor([[3]] * 4, dtype=torch.int8)
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5], requires_grad=True)
    kernel = kernel_at(
        process, lambda x, t: logits.expand(len(x), 1, 4), x, torch.tensor([0, 1, steps // 2, steps - 1])
    )
    assert kernel.log_next.isfinite().all()
    torch.testing.assert_close(kernel.log_next[-1, 0], logits.log_softmax(-1))
    stays = kernel.log_next[2, 0, 3].exp().item()
    assert stays > 1 - 16 / steps
    kernel.log_next[:, 0, 0].sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(3, 4, num_steps=0), "num_steps must be ≥ 1, got 0"),
        (lambda: Uniform(3, 4, schedule="cosin"), 'did you mean "cosine"'),
        (lambda: Uniform(3, 1), "letters must be ≥ 2, got 1"),
        (lambda: Uniform(3, 2, HELD), "fixed covers 2 positions, designs have 3"),
    ],
)
def test_impossible_processes_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


DATA = torch.tensor([0.3, 0.02, 0.08, 0.02, 0.05, 0.2, 0.18, 0.1, 0.05], dtype=torch.float64)


def test_the_floor_of_independent_letters_falls_with_the_number_of_steps():
    """The true posterior of two dependent letters: one step gives the product of the marginals."""
    floors = [total_variation(law(true_posterior(Uniform(L, V, num_steps=n), DATA)), DATA) for n in (1, 4, 16, 64)]
    table = DATA.reshape(V, V)
    product = table.sum(1, keepdim=True) * table.sum(0, keepdim=True)
    assert floors[0] == pytest.approx(total_variation(product.flatten(), DATA), abs=1e-6)
    assert all(late < 0.5 * early for early, late in itertools.pairwise(floors))


def test_pretraining_a_network_goes_to_the_true_posterior():
    torch.manual_seed(0)
    policy, updates = Policy(Uniform(L, V, num_steps=8), MLP(MLPConfig(V, L, width=64, time=True))), 400
    optimiser, g = torch.optim.Adam(policy.net.parameters(), 5e-3), generator(20)
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.01, updates)
    goal = law(true_posterior(policy.process, DATA))
    before = total_variation(law(policy), goal)
    for _ in range(updates):
        designs = STATES[torch.multinomial(DATA, 512, replacement=True, generator=g)]
        loss = policy.process.denoising_loss(policy.net, designs, g).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slower.step()
    assert before > 0.25 and total_variation(law(policy), goal) < 0.03
    drawn = lexicographic_index(sample(policy, 4000, g), V).bincount(minlength=9) / 4000
    assert total_variation(drawn, law(policy)) < 0.04
