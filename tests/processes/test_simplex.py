"""The simplex process against series for its densities, simulation, quadrature, and the law of its designs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import betaln, eval_jacobi, logsumexp
from torch import Tensor

from biotilt.core import Parts, Policy, check_parts, rollout, sample
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig
from biotilt.processes.jacobi import EPS, chain_times, jacobi_tables, lineage_law
from biotilt.processes.simplex import Simplex, probabilities_of

CPU = torch.device("cpu")
DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def density(b: float, t: float, start: int, v: np.ndarray, orders: int = 80) -> np.ndarray:
    """q_t(v | start) of one stick by its eigenfunctions, the Jacobi polynomials: no lineages, no mixtures."""
    total, z0 = np.zeros_like(v), 2.0 * start - 1
    for n in range(orders):
        # orthogonal on [0, 1] with weight Beta(v; 1, b): scipy's alpha goes with 1 − z
        decay = math.exp(-n * (n + b) / (1 + b) * t)
        total += decay * eval_jacobi(n, b - 1, 0, z0) * eval_jacobi(n, b - 1, 0, 2 * v - 1) * (2 * n + b)
    return total * (1 - v) ** (b - 1)


def score(b: float, t: float, start: int, v: np.ndarray) -> np.ndarray:
    step = 1e-5
    ahead, behind = density(b, t, start, v + step), density(b, t, start, v - step)
    return (np.log(ahead) - np.log(behind)) / (2 * step)


def mixture(process: Simplex, k: int) -> np.ndarray:
    """The laws of the number of lineages of each stick at t_k, `(V−1, M)`."""
    return lineage_law(process.letters, process.num_steps)[1][k]


def log_beta(v: np.ndarray, m: np.ndarray, b: int, start: int) -> np.ndarray:
    more, less = (m, 0 * m) if start else (0 * m, m)
    v = v[:, None]
    return more * np.log(v) + (b - 1 + less) * np.log1p(-v) - betaln(1 + more, b + less)


def log_transition(process: Simplex, k: int, i: int, start: int, v: np.ndarray) -> np.ndarray:
    """log q(v_i at t_k | start) by summing the mixture."""
    law, b = mixture(process, k)[i], process.letters - 1 - i
    m = np.arange(len(law))
    return logsumexp(log_beta(v, m, b, start), b=law, axis=1)


class Posterior(torch.nn.Module):
    """The exact p(x0_i | x) of designs with a known law `(V^L,)`: Bayes with the transition densities, by look-up."""

    def __init__(self, process: Simplex, joint: Tensor):
        super().__init__()
        self.process, self.joint = process, joint
        self.words = torch.tensor(list(itertools.product(range(process.letters), repeat=process.length)))
        low = math.asin(math.sqrt(EPS))
        self.angles = np.linspace(low, math.pi / 2 - low, 400)
        self.tables: dict[int, np.ndarray] = {}

    def table(self, k: int) -> np.ndarray:
        if k not in self.tables:
            v = np.sin(self.angles) ** 2
            pairs = [
                [log_transition(self.process, k, i, s, v) for s in (0, 1)] for i in range(self.process.letters - 1)
            ]
            self.tables[k] = np.nan_to_num(np.array(pairs), neginf=-700)
        return self.tables[k]

    @torch.no_grad()
    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        steps = (self.process.num_steps * (1 - t)).round().long()
        out = torch.empty(p.shape, dtype=DOUBLE)
        for k in steps.unique().tolist():
            out[steps == k] = self._at(p[steps == k].double(), k)
        return out

    def _at(self, p: Tensor, k: int) -> Tensor:
        letters = self.process.letters
        left = p.flip(-1).cumsum(-1).flip(-1)
        angle = (p / left)[..., :-1].clamp(EPS, 1 - EPS).sqrt().asin().numpy()
        table = self.table(k)
        logs = torch.zeros(*p.shape[:2], letters, dtype=DOUBLE)
        for i in range(letters - 1):
            miss, hit = (torch.from_numpy(np.interp(angle[..., i], self.angles, row)) for row in table[i])
            logs[..., i] += hit
            logs[..., i + 1 :] += miss.unsqueeze(-1)
        joint = self.joint.log() + sum(logs[:, i, self.words[:, i]] for i in range(self.process.length))
        weight = joint.softmax(-1)
        each = [weight @ torch.nn.functional.one_hot(self.words[:, i], letters).double() for i in range(p.shape[1])]
        return torch.stack(each, 1).clamp(min=1e-300).log()


def frequencies(process: Simplex, x: Tensor) -> Tensor:
    places = process.letters ** torch.arange(process.length - 1, -1, -1)
    index = (process.tokens(x).long() * places).sum(-1)
    return index.bincount(minlength=process.letters**process.length) / len(x)


def random_net(letters: int, seed: int) -> torch.nn.Module:
    """A linear layer of the probabilities and the time, with letters of quite different chances."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(letters + 1, letters).double()

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, p: Tensor, t: Tensor) -> Tensor:
            return 3 * layer(torch.cat([p, t.to(p).view(-1, 1, 1).expand(*p.shape[:2], 1)], -1))

    return Net()


# --- the transition law


@pytest.mark.parametrize(
    ("stick", "chances"),
    [
        (0, {0: 1.262544e-206, 20: 3.694842e-147, 100: 9.638964e-38, 190: 2.925295e-02, 230: 3.170276e-05}),
        (2, {0: 3.880988e-104, 20: 4.042419e-55, 100: 6.845866e-02}),
    ],
)
def test_the_number_of_lineages_has_tavares_law_down_to_the_tail(stick, chances):
    """At t = 0.02, the last time for V = 4: his alternating series, summed in decimals of 900 digits.

    Its score needs the tail: it is what pulls a state towards a letter that it is far from.
    """
    times, laws = lineage_law(4, 20)
    assert times[-1] == pytest.approx(0.02)
    for m, chance in chances.items():
        assert laws[-1, stick, m] == pytest.approx(chance, rel=0.03 if chance < 1e-20 else 1e-3)


@pytest.mark.parametrize(("letters", "stick"), [(2, 0), (4, 0), (4, 2)])
def test_the_transition_density_is_that_of_the_eigenfunction_series(letters, stick):
    process, b = Simplex(1, letters, num_steps=12), letters - 1 - stick
    v = np.linspace(0.02, 0.98, 25)
    times = chain_times(12)
    for k, start in itertools.product(np.flatnonzero(times > 0.1), (0, 1)):
        wanted = density(b, times[k], start, v)
        # where the series cancels to less than its rounding, it says nothing
        seen = wanted > 1e-6
        assert seen.sum() > 5
        got = np.exp(log_transition(process, k, stick, start, v))
        np.testing.assert_allclose(got[seen], wanted[seen], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("letters", [2, 4])
def test_the_transition_density_integrates_to_one_and_its_mean_relaxes_at_rate_one(letters):
    process, times = Simplex(1, letters, num_steps=12), chain_times(12)
    nodes, weights = np.polynomial.legendre.leggauss(600)
    # the substitution puts nodes where the density is steep
    angle = (nodes + 1) * math.pi / 4
    v, weights = np.sin(angle) ** 2, weights * math.pi / 4 * np.sin(2 * angle)
    for k, i, start in itertools.product((0, 6, 12), range(letters - 1), (0, 1)):
        q, centre = np.exp(log_transition(process, k, i, start, v)) * weights, 1 / (letters - i)
        assert q.sum() == pytest.approx(1, abs=1e-7)
        # dE[v] = (s/2)(1 − (1 + b) E[v]) dt with s = 2/(1 + b)
        wanted = centre + (start - centre) * math.exp(-times[k])
        assert (q * v).sum() == pytest.approx(wanted, abs=1e-5)


def test_expected_lineages_are_the_score_of_the_series(double):
    letters, process = 4, Simplex(1, 4, num_steps=12)
    tables, times = jacobi_tables(letters, 12, DOUBLE, CPU), chain_times(12)
    v = np.array([0.013, 0.2, 0.5, 0.77, 0.96])
    sticks = torch.from_numpy(v).view(-1, 1, 1).expand(-1, 1, letters - 1)
    for k in np.flatnonzero(times > 0.4):
        hit, miss = tables.expected_lineages(torch.tensor(int(k)), sticks)
        for i in range(letters - 1):
            b = letters - 1 - i
            stationary = -(b - 1) * v
            from_one = v * (1 - v) * score(b, times[k], 1, v)
            from_zero = v * (1 - v) * score(b, times[k], 0, v)
            np.testing.assert_allclose(stationary + hit[:, 0, i].numpy() * (1 - v), from_one, atol=2e-4)
            np.testing.assert_allclose(stationary - miss[:, 0, i].numpy() * v, from_zero, atol=2e-4)
    assert process.steps == 12


def test_expected_lineages_are_right_between_nodes_and_at_the_last_times(double):
    """E[m | v] summed over the mixture, at points that are no nodes; and its slope by differences."""
    letters, process = 3, Simplex(1, 3, num_steps=20)
    tables = jacobi_tables(letters, 20, DOUBLE, CPU)
    v = torch.rand(40, 1, 2, generator=generator(1), dtype=DOUBLE).clamp(0.001, 0.999).requires_grad_(True)
    for k in (0, 10, 17, 20):
        found = tables.expected_lineages(torch.tensor(k), v)
        for (i, law), start in itertools.product(enumerate(mixture(process, k)), (0, 1)):
            m = np.arange(len(law))
            each = log_beta(v[:, 0, i].detach().numpy(), m, 2 - i, start)
            wanted = np.exp(logsumexp(each, b=law * m, axis=1) - logsumexp(each, b=law, axis=1))
            np.testing.assert_allclose(found[1 - start][:, 0, i].detach().numpy(), wanted, rtol=1e-4, atol=1e-6)
        (slope,) = torch.autograd.grad((found[0] + 2 * found[1]).sum(), v)
        with torch.no_grad():
            ahead, behind = (tables.expected_lineages(torch.tensor(k), v + d) for d in (1e-6, -1e-6))
        numeric = (ahead[0] + 2 * ahead[1] - behind[0] - 2 * behind[1]) / 2e-6
        torch.testing.assert_close(slope, numeric, rtol=1e-3, atol=1e-3)


def test_corrupt_follows_the_forward_equation(double):
    """Tiny Euler steps of the stochastic equation, from each letter's vertex, against the exact draws."""
    process, draws, step = Simplex(1, 3, num_steps=12), 6000, 1e-3
    tables, g = jacobi_tables(3, 12, DOUBLE, CPU), generator(2)
    times = chain_times(12)
    wanted_at = {round(times[k] / step): int(k) for k in (7, 9)}
    b, s = tables.beta, tables.speed
    for letter in range(3):
        v = process.vertices(torch.full((draws, 1), letter))
        # the sticks after the letter's start anywhere
        v[:, 0, letter + 1 :] = process.noise(draws, g)[:, 0, letter + 1 :]
        for n in range(1, max(wanted_at) + 1):
            noise = torch.randn(v.shape, generator=g)
            inside = v.clamp(0, 1)
            v = inside + s / 2 * (1 - inside - b * inside) * step + (s * step * inside * (1 - inside)).sqrt() * noise
            if n in wanted_at:
                exact = process.corrupt(torch.full((draws, 1), letter), wanted_at[n], g)
                for i in range(2):
                    gap = stats.ks_2samp(v[:, 0, i].clamp(0, 1).numpy(), exact[:, 0, i].numpy())
                    assert gap.statistic < 1.95 * math.sqrt(2 / draws) + 0.005  # 1 in 1000, and Euler's own error


@pytest.mark.parametrize("k", [2, 6, 8])
def test_corrupt_draws_from_the_series(double, k):
    """Also early and late, and each stick's own law: the distribution function is integrated from the series."""
    process, draws = Simplex(2, 4, num_steps=12), 4000
    t = chain_times(12)[k]
    grid = np.linspace(0, 1, 2001)
    x = process.corrupt(torch.tensor([0, 2], dtype=torch.int8).expand(draws, 2), k, generator(3))
    assert x.shape == (draws, 2, 3)
    for letter, i, start in ((0, 0, 1), (0, 1, None), (0, 2, None), (1, 0, 0), (1, 1, 0), (1, 2, 1)):
        q = stats.beta.pdf(grid, 1, 3 - i) if start is None else density(3 - i, t, start, grid)
        cumulative = np.concatenate([[0], np.cumsum((q[1:] + q[:-1]) / 2 * np.diff(grid))])
        assert cumulative[-1] == pytest.approx(1, abs=1e-3)
        gap = stats.kstest(x[:, letter, i].numpy(), lambda v, c=cumulative: np.interp(v, grid, c))
        assert gap.statistic < 1.95 / math.sqrt(draws)
    pairs = np.corrcoef(x.flatten(1).numpy().T)
    assert np.abs(pairs - np.eye(6)).max() < 4.5 / math.sqrt(draws), "sticks are independent given the letters"


def test_noise_is_the_flat_dirichlet_law(double):
    letters, draws = 4, 40_000
    p = probabilities_of(Simplex(1, letters).noise(draws, generator(4)))[:, 0]
    alike, other = 2 / (letters * (letters + 1)), 1 / (letters * (letters + 1))
    for i, j in itertools.combinations_with_replacement(range(letters), 2):
        products = p[:, i] * p[:, j]
        error = (products.std() / math.sqrt(draws)).item()
        assert abs(products.mean().item() - (alike if i == j else other)) < 4 * error + 2e-5
    assert stats.kstest(p[:, 3].numpy(), "beta", args=(1, 3)).statistic < 1.95 / math.sqrt(draws) + 1e-4


def test_the_last_state_leaves_no_doubt_of_the_letter():
    for letters in (2, 4, 12):
        process = Simplex(50, letters, num_steps=10)
        design = torch.randint(letters, (400, 50), generator=generator(5)).to(torch.int8)
        x = process.corrupt(design, 10, generator(6))
        assert torch.equal(process.tokens(x), design) and process.tokens(x).dtype == torch.int8
        assert torch.equal(process.tokens(process.vertices(design)), design)
        assert probabilities_of(x).amax(-1).mean() > 0.9


def test_corrupt_takes_letters_or_their_vertices():
    process, design = Simplex(3, 4), torch.tensor([[0, 3, 1], [2, 2, 0]], dtype=torch.int8)
    k = torch.tensor([20, 60])
    one, other = (process.corrupt(d, k, generator(7)) for d in (design, process.vertices(design)))
    assert torch.equal(one, other) and one.dtype == torch.float32
    assert (one != process.corrupt(design, k, generator(8))).any()


# --- the kernel


def test_the_mean_is_the_euler_step_of_the_reversed_equation(double):
    """v − h [f − (g²)′ − g² score], the score mixed letter by letter from differences of the series."""
    letters, k = 3, 4
    process, net = Simplex(1, letters, num_steps=12), random_net(3, 1)
    times = chain_times(12)
    x = torch.tensor([[[0.3, 0.6]], [[0.85, 0.1]], [[0.1, 0.93]]])
    kernel = process.kernel(net, x, k)
    weights = net(probabilities_of(x), torch.full((3,), 1 - k / 12)).softmax(-1).detach().numpy()[:, 0]
    h = times[k] - times[k + 1]
    for i in range(2):
        v, b = x[:, 0, i].numpy(), letters - 1 - i
        s = 2 / (1 + b)
        scores = [-(b - 1) / (1 - v)] * i + [score(b, times[k], 1, v)] + [score(b, times[k], 0, v)] * (letters - 1 - i)
        mixed = sum(weights[:, j] * scores[j] for j in range(letters))
        drift = s / 2 * ((1 - v) - b * v) - s * (1 - 2 * v) - s * v * (1 - v) * mixed
        np.testing.assert_allclose(kernel.mean[:, 0, i].detach().numpy(), v - h * drift, atol=1e-4)
        np.testing.assert_allclose(kernel.std[:, 0, i].numpy(), np.sqrt(h * s * v * (1 - v)), rtol=1e-9)


def test_log_prob_is_normalised_and_kl_agrees_by_quadrature(double):
    process = Simplex(1, 2, num_steps=12)
    p, q = random_net(2, 2), random_net(2, 3)
    for k, state in itertools.product((0, 5, 11), (-0.2, 0.3, 0.999)):
        x = torch.full((1, 1, 1), state)
        kernel, other = process.kernel(p, x, k), process.kernel(q, x, k)
        width = 12 * kernel.std.item()
        y = torch.linspace(kernel.mean.item() - width, kernel.mean.item() + width, 4001).view(-1, 1, 1)
        many, theirs = (process.kernel(net, x.expand(4001, 1, 1), k).log_prob(y) for net in (p, q))
        mass = many.exp() * (y[1] - y[0]).item()
        assert mass.sum().item() == pytest.approx(1, abs=1e-6)
        assert (mass * (many - theirs)).sum().item() == pytest.approx(kernel.kl(other).item(), rel=1e-5, abs=1e-9)
        assert kernel.kl(other) > 0


def test_samples_have_the_moments_of_the_kernel(double):
    process, draws = Simplex(2, 3, num_steps=12), 20_000
    x = torch.tensor([[0.3, 0.6], [0.9, 1.05]]).expand(draws, 2, 2)
    kernel = process.kernel(random_net(3, 4), x, 6)
    y = kernel.sample(generator(9))
    mean, std = kernel.mean[0].detach(), kernel.std[0].detach()
    assert ((y.mean(0) - mean).abs() < 4.5 * std / math.sqrt(draws)).all()
    assert ((y.std(0) / std - 1).abs() < 4.5 / math.sqrt(2 * draws)).all()
    by_hand = torch.distributions.Normal(mean, std).log_prob(y[:5])
    torch.testing.assert_close(kernel.terms(y)[:5].detach(), by_hand.sum(-1))
    torch.testing.assert_close(kernel.log_prob(y)[:5].detach(), by_hand.sum((-1, -2)))


def test_a_step_reads_the_state_as_if_inside_and_has_a_width_there(double):
    process, net = Simplex(1, 3, num_steps=12), random_net(3, 5)
    outside = process.kernel(net, torch.tensor([[[-0.4, 1.3]]]), 3)
    edge = process.kernel(net, torch.tensor([[[EPS, 1 - EPS]]]), 3)
    torch.testing.assert_close(outside.mean, edge.mean)
    torch.testing.assert_close(outside.std, edge.std)
    assert (outside.std > 0).all()


def test_mix_is_the_kernel_of_the_averaged_letters(double):
    """The mean is linear in the letters, so the mixture of kernels is the kernel of their mixture."""
    process, x = Simplex(2, 4), torch.rand(6, 2, 3, generator=generator(10), dtype=DOUBLE)
    p, q, weight = random_net(4, 6), random_net(4, 7), 0.3
    mixed = process.kernel(p, x, 40).mix(process.kernel(q, x, 40), weight)

    def averaged(state: Tensor, t: Tensor) -> Tensor:
        return ((1 - weight) * p(state, t).softmax(-1) + weight * q(state, t).softmax(-1)).log()

    direct = process.kernel(averaged, x, 40)
    torch.testing.assert_close(mixed.mean, direct.mean)
    torch.testing.assert_close(mixed.x0, direct.x0)
    torch.testing.assert_close(mixed.std, direct.std)
    tilt = torch.randn(x.shape, generator=generator(11))
    y, z = direct.sample(generator(12)), direct.sample(generator(13))
    gain = direct.tilted(tilt).log_prob(y) - direct.log_prob(y) - (tilt * y).sum((1, 2))
    torch.testing.assert_close(
        gain, direct.tilted(tilt).log_prob(z) - direct.log_prob(z) - (tilt * z).sum((1, 2)), atol=1e-8, rtol=1e-8
    )


def test_guess_expected_and_posterior_log_prob_are_of_letters(double):
    process, net = Simplex(2, 3), random_net(3, 8)
    x = torch.rand(1, 2, 2, generator=generator(14)).expand(4000, 2, 2)
    kernel = process.kernel(net, x, 50)
    p = net(probabilities_of(x[:1]), torch.tensor([0.5])).softmax(-1)[0].detach()
    torch.testing.assert_close(kernel.expected()[0].detach(), p)
    assert torch.equal(process.tokens(kernel.guess())[0].long(), p.argmax(-1))
    drawn = process.tokens(kernel.guess(generator(15)))
    for i, letter in itertools.product(range(2), range(3)):
        wanted = p[i, letter].item()
        seen = (drawn[:, i] == letter).double().mean().item()
        assert abs(seen - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / 4000) + 1e-9
    design = process.vertices(torch.tensor([[2, 0]])).expand_as(x)
    wanted = (p[0, 2].log() + p[1, 0].log()).expand(4000)
    torch.testing.assert_close(kernel.posterior_log_prob(design).detach(), wanted)


def test_gradients_flow_through_a_chain(double):
    """rsample and relaxed_design, against differences in the first state with the same noise."""
    process, net = Simplex(2, 3, num_steps=20), random_net(3, 9)
    weight = torch.randn(2, 3, generator=generator(16))

    def end(x: Tensor) -> Tensor:
        g = generator(17)
        for k in range(15, 18):
            x = process.kernel(net, process.relaxed(x), k).rsample(g)
        return (process.relaxed_design(x) * weight).sum()

    start = process.corrupt(torch.tensor([[1, 2]]), 15, generator(18)).requires_grad_(True)
    (slope,) = torch.autograd.grad(end(start), start)
    for place in itertools.product([0], range(2), range(2)):
        nudge = torch.zeros_like(start)
        nudge[place] = 1e-6
        numeric = (end(start + nudge) - end(start - nudge)).item() / 2e-6
        assert slope[place].item() == pytest.approx(numeric, rel=1e-4, abs=1e-6)
    assert slope.abs().min() > 1e-4


def test_steps_given_one_by_one_agree_with_a_tensor_of_steps():
    process, net = Simplex(2, 4, num_steps=12), random_net(4, 10)
    net = net.float()
    x = torch.rand(2, 2, 3, generator=generator(19))
    both = process.kernel(net, x, torch.tensor([11, 3]))
    for row, k in enumerate((11, 3)):
        torch.testing.assert_close(both.mean[row : row + 1], process.kernel(net, x[row : row + 1], k).mean)
        torch.testing.assert_close(both.std[row : row + 1], process.kernel(net, x[row : row + 1], k).std)


# --- the law of the designs, and the loss


def test_the_chain_of_the_exact_posterior_gives_back_the_data():
    """Two dependent letters; the bias of finite steps falls as 1/K: about 0.03 at K = 25 for this law."""
    joint = torch.tensor([0.30, 0.02, 0.05, 0.03, 0.12, 0.05, 0.01, 0.04, 0.38])
    draws, distance = 6000, []
    for steps in (25, 100):
        process = Simplex(2, 3, num_steps=steps)
        x = sample(Policy(process, Posterior(process, joint)), draws, generator(20), chunk=draws)
        distance.append((frequencies(process, x) - joint).abs().sum().item() / 2)
    # the noise of the counts alone makes 0.011 on average
    assert distance[1] < 0.03
    assert distance[1] < distance[0]


def losses_of(net: torch.nn.Module, process: Simplex, draws: int = 10_000) -> Tensor:
    """Losses `(V, draws)` of designs of one letter, with the same noise for every network."""
    designs = torch.arange(process.letters, dtype=torch.int8).view(-1, 1, 1).expand(-1, draws, 1)
    losses = [process.denoising_loss(net, design, generator(21 + i)) for i, design in enumerate(designs)]
    return torch.stack(losses)


def mean_over_data(losses: Tensor, law: Tensor) -> tuple[float, float]:
    """The mean over data of losses `(V, draws)`, and its standard error (too large: the draws are stratified)."""
    error = (law.square() * losses.var(1)).sum() / losses.shape[1]
    return (law * losses.mean(1)).sum().item(), error.sqrt().item()


class OnNodes(torch.nn.Module):
    """The posterior of a chain whose steps are the nodes of the loss, its logits times a factor."""

    def __init__(self, letters: int, law: Tensor, factor: float = 1.0):
        super().__init__()
        self.exact, self.factor = Posterior(Simplex(1, letters, num_steps=127), law), factor

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return self.exact(p, t) * self.factor


def test_the_loss_of_the_exact_posterior_is_the_entropy_of_the_data(double):
    law = torch.tensor([0.7, 0.05, 0.25])
    process = Simplex(1, 3)
    entropy = -(law * law.log()).sum().item()
    exact = losses_of(OnNodes(3, law), process)
    mean, error = mean_over_data(exact, law)
    assert error < 0.03
    assert abs(mean - entropy) < 4 * error
    for wrong in (OnNodes(3, law, 0.5), OnNodes(3, law, 2.0)):
        more, its_error = mean_over_data(losses_of(wrong, process) - exact, law)
        assert more > 4 * its_error
    # the posterior of another law reverses the noising of that law: the bound is as tight as for its own
    other = torch.tensor([0.2, 0.3, 0.5])
    more, its_error = mean_over_data(losses_of(OnNodes(3, other), process) - exact, law)
    assert abs(more - (law * (law / other).log()).sum().item()) < 4 * its_error


def test_the_loss_is_the_girsanov_integral_by_quadrature(double):
    """½ ∫ E_q g² (score given x0 − model's score)² dt for V = 2, with densities and scores of the series.

    The network is sure of the truth where the series is not reliable, at small times: nothing is lost there.
    """
    process = Simplex(1, 2)

    def net(p: Tensor, t: Tensor) -> Tensor:
        # the clock of the nodes to the clock of the diffusion
        late = torch.from_numpy(np.interp(t.numpy(), np.arange(128) / 127, chain_times(127)[::-1]))
        sure = torch.where(late < 0.25, 60.0, 0.0).view(-1, 1, 1)
        return torch.stack([1.5 * p[..., 0] - 0.4, torch.zeros_like(p[..., 0])], -1) + sure * torch.tensor([1.0, -1.0])

    times = np.geomspace(0.25, 6, 61)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    v, weights = (nodes + 1) / 2, weights / 2
    pi = 1 / (1 + np.exp(-(1.5 * v - 0.4)))
    rates = []
    for t in times:
        ones, zeros = score(1, t, 1, v), score(1, t, 0, v)
        gap = (1 - pi) * (ones - zeros)
        rates.append((weights * density(1, t, 1, v) * v * (1 - v) * gap**2).sum() / 2)
    integral = np.trapezoid(np.array(rates) * times, np.log(times))
    loss = process.denoising_loss(net, torch.zeros(60_000, 1, dtype=torch.int8), generator(24))
    error = (loss.std() / math.sqrt(len(loss))).item()
    # half a node at the edge of 0.25 is the resolution of the trapezoid sum
    assert loss.mean().item() == pytest.approx(integral, abs=4 * error + 0.02)
    assert integral > 0.2


def test_the_loss_bounds_minus_log_p_of_the_network_that_ignores_the_state(double):
    """Such a chain is stationary, so its letters are those of the nearest vertex of a flat Dirichlet draw: 1/V."""
    process = Simplex(1, 4)
    loss = process.denoising_loss(lambda p, t: torch.zeros_like(p), torch.zeros(500, 1, dtype=torch.int8), generator())
    assert loss.mean() > math.log(4)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_network_learns_the_law_of_the_data(kind):
    """Three letters that depend on each other: the bound comes close to the entropy, and the designs to the law."""
    length, letters = 3, 3
    words = torch.tensor([[0, 1, 2], [2, 2, 0], [1, 1, 1], [0, 0, 2]], dtype=torch.int8)
    law = torch.tensor([0.5, 0.25, 0.15, 0.1])
    entropy = -(law * law.log()).sum().item()
    torch.manual_seed(0)
    if kind == "mlp":
        net: torch.nn.Module = MLP(MLPConfig(letters, length, width=64, time=True))
    else:
        net = CNN(CNNConfig(letters, length, channels=24, blocks=2, kernel=3, time=True))
    process, g = Simplex(length, letters, num_steps=40), generator(25)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 250)

    def bound() -> float:
        with torch.no_grad():
            rows = torch.multinomial(law, 8000, replacement=True, generator=generator(26))
            return process.denoising_loss(net, words[rows], generator(27)).mean().item()

    before = bound()
    for _ in range(250):
        rows = torch.multinomial(law, 128, replacement=True, generator=g)
        loss = process.denoising_loss(net, words[rows], g).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    after = bound()
    # its standard error is 0.08
    assert before > 50 * entropy and entropy - 0.3 < after < entropy + 0.5
    wanted = torch.zeros(27)
    wanted[(words.long() * torch.tensor([9, 3, 1])).sum(-1)] = law
    x = sample(Policy(process, net), 2000, generator(28), chunk=2000)
    assert (frequencies(process, x) - wanted).abs().sum() / 2 < 0.15


# --- held letters, and what is refused

HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([-1, 2, -1], dtype=torch.int8))


def test_fixed_letters_never_move():
    process, net = Simplex(3, 4, HELD, num_steps=10), random_net(4, 11).float()
    vertex, g = torch.tensor([0.0, 0.0, 1.0]), generator(29)
    design = torch.tensor([[0, 2, 3], [1, 2, 1]], dtype=torch.int8)
    assert (process.corrupt(design, 4, g)[:, 1] == vertex).all()
    chain = rollout(Policy(process, net), 50, g)
    assert (chain.states[:, :, 1] == vertex).all() and (chain.states[1:, :, 0] != chain.states[:-1, :, 0]).all()
    kernel = process.kernel(net, chain.states[3], 3)
    assert (kernel.rsample(g)[:, 1] == vertex).all() and (kernel.guess(g)[:, 1] == vertex).all()
    y = kernel.sample(g)
    assert kernel.terms(y).shape == (50, 3) and (kernel.terms(y)[:, 1] == 0).all()
    assert (kernel.tilted(torch.ones_like(y)).sample(g)[:, 1] == vertex).all()
    assert (kernel.expected()[:, 1].argmax(-1) == 2).all()
    right, wrong = (process.vertices(torch.tensor([[0, letter, 3]])).expand(50, 3, 3) for letter in (2, 1))
    torch.testing.assert_close(
        kernel.posterior_log_prob(right), kernel.x0[:, 0, 0] + kernel.x0[:, 2, 3], rtol=1e-5, atol=1e-5
    )
    assert (kernel.posterior_log_prob(wrong) == -torch.inf).all()
    assert process.free == 2


def test_the_loss_ignores_fixed_letters():
    process, logits = Simplex(3, 4, HELD), torch.zeros(3, 4, requires_grad=True)
    design = torch.tensor([1, 2, 0], dtype=torch.int8).expand(64, 3)
    process.denoising_loss(lambda p, t: logits.expand(len(p), 3, 4), design, generator(30)).mean().backward()
    assert logits.grad is not None
    assert (logits.grad[1] == 0).all() and (logits.grad[[0, 2]] != 0).any(-1).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="num_steps must be ≥ 1, got 0"):
        Simplex(3, 4, num_steps=0)
    with pytest.raises(ConfigError, match=r"letters in \[2, 126\], got 3, 1"):
        Simplex(3, 1)

    class NeedsMean:
        name = "adjoint"
        needs = ("mean",)

    with pytest.raises(ConfigError, match="noise depends on the state"):
        check_parts(NeedsMean(), Parts(Simplex(3, 4)))
