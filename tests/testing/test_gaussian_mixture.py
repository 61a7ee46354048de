"""Mixtures of gaussians against quadrature on a plane, and the distance between samples against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy, Roles, kernel_at, sample
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.processes import Flow, Gaussian
from biotilt.testing import Mixture, MixtureDenoiser, affine_law, energy_distance

SKEWED = Mixture(
    torch.tensor([0.6, 0.4]),
    torch.tensor([[1.2, 0.3], [-1.0, 0.8]]),
    torch.tensor([[[0.30, 0.14], [0.14, 0.16]], [[0.15, 0.0], [0.0, 0.35]]]),
)
SIDE = (torch.arange(360, dtype=torch.float64) + 0.5) / 30 - 6
PLANE = torch.cartesian_prod(SIDE, SIDE)
AREA = 1 / 30**2
LINEAR = torch.tensor([0.8, -1.1], dtype=torch.float64)
QUADRATIC = torch.tensor([[0.5, 0.3], [0.3, -0.2]], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reward(x: Tensor) -> Tensor:
    return x @ LINEAR - ((x @ QUADRATIC) * x).sum(-1) / 2


def by_definition(x: Tensor) -> Tensor:
    """The density as a sum of torch's own gaussians."""
    parts = [
        weight * torch.distributions.MultivariateNormal(mean, covariance).log_prob(x).exp()
        for weight, mean, covariance in zip(SKEWED.weights, SKEWED.means, SKEWED.covariances)
    ]
    return torch.stack(parts).sum(0)


def test_log_prob_and_moments():
    density = SKEWED.log_prob(PLANE).exp()
    torch.testing.assert_close(density, by_definition(PLANE))
    mean, covariance = SKEWED.moments()
    first = (density.unsqueeze(-1) * PLANE).sum(0) * AREA
    away = PLANE - first
    second = torch.einsum("n,ni,nj->ij", density, away, away) * AREA
    torch.testing.assert_close(mean, first, atol=1e-8, rtol=0)
    torch.testing.assert_close(covariance, second, atol=1e-8, rtol=0)


def test_samples_follow_the_density():
    draws = SKEWED.sample(20_000, generator())

    def cell(x: Tensor) -> Tensor:
        return (x + 6).floor().long() @ torch.tensor([12, 1])

    observed = cell(draws).bincount(minlength=144)
    expected = cell(PLANE).bincount(len(draws) * by_definition(PLANE) * AREA, minlength=144)
    seen = expected > 5
    chi2 = ((observed - expected).square() / expected)[seen].sum().item()
    dof = int(seen.sum())
    # a chi-square has mean dof and variance 2 dof: six deviations up is rarer than one in a million
    assert dof > 15 and chi2 < dof + 6 * math.sqrt(2 * dof)


def test_samples_of_three_coordinates_have_the_covariance():
    """On a plane the axes of a covariance form a symmetric matrix, which hides a transposition."""
    root = torch.tensor([[0.9, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.7, 0.3, 0.2]], dtype=torch.float64)
    one, draws = Mixture(torch.ones(1), torch.ones(1, 3), (root @ root.T).unsqueeze(0)), 40_000
    got, wanted = torch.cov(one.sample(draws, generator(8)).T), root @ root.T
    spread = (wanted.diagonal().outer(wanted.diagonal()) + wanted.square()) / draws
    assert ((got - wanted).abs() < 4 * spread.sqrt()).all()


@pytest.mark.parametrize(("a", "s"), [(0.9, 0.3), (0.4, 1.1), (0.0, 1.0)])
def test_the_denoiser_is_the_posterior_mean_by_quadrature(a, s):
    x = torch.tensor([[0.5, -1.2], [2.0, 0.4], [-0.3, 0.9]], dtype=torch.float64)
    likelihood = (-(x.unsqueeze(1) - a * PLANE).square().sum(-1) / (2 * s * s)).exp()
    posterior = likelihood * by_definition(PLANE)
    wanted = posterior @ PLANE / posterior.sum(-1, keepdim=True)
    got = SKEWED.denoise(x, torch.full((3,), a), torch.full((3,), s))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


def test_the_noised_law_by_its_moments_and_its_samples():
    noised, g = SKEWED.noised(0.7, 0.4), generator(1)
    mean, covariance = SKEWED.moments()
    got_mean, got_covariance = noised.moments()
    torch.testing.assert_close(got_mean, 0.7 * mean)
    torch.testing.assert_close(got_covariance, 0.49 * covariance + 0.16 * torch.eye(2).double())
    drawn = 0.7 * SKEWED.sample(2_000, g) + 0.4 * torch.randn(2_000, 2, generator=g).double()
    assert abs(energy_distance(drawn, noised.sample(2_000, g))) < 0.01


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_tilt_and_log_z_by_quadrature(alpha):
    """A bends up along one direction: exp(r/α) grows, and only the mixture holds it."""
    raised = by_definition(PLANE) * (reward(PLANE) / alpha).exp()
    z = raised.sum() * AREA
    tilted, log_z = SKEWED.tilted(LINEAR, QUADRATIC, alpha)
    assert log_z == pytest.approx(z.log().item(), abs=1e-6)
    torch.testing.assert_close(tilted.log_prob(PLANE).exp(), raised / z, atol=1e-6, rtol=0)


def test_a_tilt_without_integral_is_refused():
    with pytest.raises(ValueError, match="no integral"):
        SKEWED.tilted(LINEAR, QUADRATIC, 0.02)


@pytest.mark.parametrize(
    ("weights", "covariance", "message"),
    [
        ([0.6, 0.5], [[1.0, 0.0], [0.0, 1.0]], "sum to 1"),
        ([0.6, 0.4], [[1.0, 2.0], [2.0, 1.0]], "no eigenvalue below 0"),
        ([0.6, 0.4], [[1.0, 0.5], [0.0, 1.0]], "symmetric"),
        ([1.0], [[1.0, 0.0], [0.0, 1.0]], "disagree"),
    ],
)
def test_what_is_no_mixture_is_refused(weights, covariance, message):
    with pytest.raises(ValueError, match=message):
        Mixture(torch.tensor(weights), torch.zeros(2, 2), torch.tensor(covariance).expand(2, 2, 2))


def test_energy_distance_by_its_definition_in_any_chunk():
    a, b = torch.randn(7, 2, generator=generator(2)), 0.5 + torch.randn(5, 2, generator=generator(3))

    def mean_distance(pairs: list[tuple[Tensor, Tensor]]) -> float:
        return sum(math.dist(x.tolist(), y.tolist()) for x, y in pairs) / len(pairs)

    between = mean_distance([(x, y) for x in a for y in b])
    within = [mean_distance([(x, y) for i, x in enumerate(c) for j, y in enumerate(c) if i != j]) for c in (a, b)]
    for chunk in (1, 3, 100):
        assert energy_distance(a, b, chunk=chunk) == pytest.approx(2 * between - sum(within), abs=1e-6)


def test_energy_distance_is_unbiased_and_sees_a_small_shift():
    """At the same law its mean over many small samples is 0; two gaussians a shift d apart have about d²/√π."""
    g = generator(4)
    same = [energy_distance(torch.randn(20, 1, generator=g), torch.randn(20, 1, generator=g)) for _ in range(400)]
    mean, error = torch.tensor(same).mean().item(), torch.tensor(same).std().item() / 20
    assert abs(mean) < 4 * error and error < 0.005
    a, b = torch.randn(4_000, 1, generator=g), 0.5 + torch.randn(4_000, 1, generator=g)
    # E|X − Y| of N(0.5, 2) and E|X − X'| of N(0, 2), in closed form
    folded = math.sqrt(4 / math.pi) * math.exp(-0.0625) + 0.5 * math.erf(0.25)
    assert energy_distance(a, b) == pytest.approx(2 * folded - 2 * math.sqrt(4 / math.pi), abs=0.03)


def small(size: int = 2) -> VectorMLP:
    torch.manual_seed(0)
    return VectorMLP(VectorMLPConfig(size, width=8, depth=1))


@pytest.mark.parametrize(
    "process", [Gaussian(2), Gaussian(2, prediction="x0"), Flow(2), Flow(2, prediction="eps"), Flow(2, t_min=0.2)]
)
def test_the_denoiser_of_designs_speaks_the_prediction_of_its_process(process):
    """Designs have the noise of t_min in them: from x[k] the posterior mean of x[K] is that of the design's law."""
    net, x = MixtureDenoiser(SKEWED, process, small()), torch.tensor([[0.5, -0.2], [1.4, 0.3]], dtype=torch.float64)
    end = torch.tensor(process.t_min, dtype=torch.float64)
    a_end, s_end = process.signal(end).item(), process.spread(end).item()
    k = process.steps // 2
    kernel = kernel_at(process, net, x, k)
    first = 0.99 if process.prediction == "eps" else 1.0
    root = math.sqrt(first) + (math.sqrt(process.t_min) - math.sqrt(first)) * k / process.steps
    t = torch.tensor(root**2, dtype=torch.float64)
    scale = (process.signal(t) / a_end).item()
    rest = math.sqrt(process.spread(t).item() ** 2 - (scale * s_end) ** 2)
    wanted = SKEWED.denoise(x, torch.full((2,), scale), torch.full((2,), rest))
    torch.testing.assert_close(kernel.x0.double(), wanted, atol=1e-5, rtol=0)


def test_the_correction_starts_at_zero_and_takes_the_gradient():
    process, x, t = Flow(2), torch.randn(4, 2, generator=generator(5)), torch.rand(4, generator=generator(6))
    net = MixtureDenoiser(SKEWED, process, small())
    base = MixtureDenoiser(SKEWED, process, small())
    roles = Roles.start(Policy(process, net))
    assert torch.equal(roles.policy.net(x, t), base(x, t)) and roles.policy.net(x, t).dtype == torch.float32
    optimiser = torch.optim.SGD(roles.policy.net.parameters(), 0.1)
    roles.policy.net(x, t).sum().backward()
    optimiser.step()
    assert (roles.policy.net(x, t) != base(x, t)).all() and torch.equal(roles.base.net(x, t), base(x, t))
    assert set(net.state_dict()) == {f"correction.{key}" for key in small().state_dict()}


def test_a_mixture_narrower_than_its_own_noise_is_refused():
    narrow = Mixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1, 1), 0.01))
    with pytest.raises(ValueError, match=r"narrower than the noise of its designs, std 0.2: lower t_min"):
        MixtureDenoiser(narrow, Flow(1, t_min=0.2), small(1))
    with pytest.raises(ValueError, match="no Linear"):
        MixtureDenoiser(SKEWED, Flow(2), torch.nn.Identity())


@pytest.mark.parametrize("process", [Gaussian(2, num_steps=5), Flow(2, num_steps=5, eta=0.5), Flow(2, eta=0.0)])
def test_affine_law_is_that_of_the_draws(process):
    one = Mixture(torch.ones(1), SKEWED.means[:1], SKEWED.covariances[:1])
    policy, draws = Policy(process, MixtureDenoiser(one, process, small())), 40_000
    law = affine_law(policy)
    x = sample(policy, draws, generator(7), chunk=draws).double()
    mean, covariance = law.moments()
    errors = (covariance.diagonal() / draws).sqrt()
    assert ((x.mean(0) - mean).abs() < 4 * errors).all()
    product = covariance.diagonal().outer(covariance.diagonal())
    assert ((torch.cov(x.T) - covariance).abs() < 4 * ((product + covariance.square()) / draws).sqrt()).all()
