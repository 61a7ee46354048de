"""Transition laws of the sticks against series, quadrature and simulation of the stochastic equation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from simplex_series import (
    CPU,
    DOUBLE,
    density,
    generator,
    log_beta,
    log_transition,
    mixture,
    score,
)

from biotilt.processes.jacobi import chain_times, jacobi_tables, lineage_law
from biotilt.processes.simplex import Simplex, probabilities_of


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
