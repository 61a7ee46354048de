"""Gaussian kernels against quadrature and against products of densities on a grid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.processes.gaussian_kernel import GaussianKernel

pytestmark = pytest.mark.usefixtures("double")

LINE = torch.linspace(-24, 26, 5001, dtype=torch.float64)
STEP = 0.01


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kernel(mean: Tensor, std: Tensor, held: Tensor | None = None) -> GaussianKernel:
    return GaussianKernel(torch.full_like(mean, 0.25), mean, std, 2 * mean, held)


def on_line(mean: float, std: float) -> GaussianKernel:
    """The same kernel at every point of LINE, in one dimension."""
    return kernel(torch.full((len(LINE), 1), mean), torch.tensor(std))


def density(one: GaussianKernel) -> Tensor:
    return one.log_prob(LINE.unsqueeze(-1)).exp()


@pytest.mark.parametrize(("mean", "std"), [(0.7, 0.3), (-1.2, 2.0)])
def test_the_density_integrates_to_one_and_has_its_mean_and_std(mean, std):
    p = density(on_line(mean, std))
    assert (p.sum() * STEP).item() == pytest.approx(1, abs=1e-9)
    assert ((p * LINE).sum() * STEP).item() == pytest.approx(mean, abs=1e-9)
    assert ((p * (LINE - mean).square()).sum() * STEP).item() == pytest.approx(std**2, abs=1e-9)


def test_kl_of_different_widths_by_quadrature():
    for here, there in (((0.7, 0.5), (-0.4, 1.5)), ((-0.4, 1.5), (0.7, 0.5)), ((0.1, 0.8), (0.9, 0.8))):
        p, q = on_line(*here), on_line(*there)
        integral = (density(p) * (p.log_prob(LINE.unsqueeze(-1)) - q.log_prob(LINE.unsqueeze(-1)))).sum() * STEP
        assert p.kl(q)[0].item() == pytest.approx(integral.item(), abs=1e-8)


def test_tilt_is_the_density_times_exp_q_y():
    p, q = on_line(0.7, 0.6), -1.9
    product = density(p) * (q * LINE).exp()
    wanted = product / (product.sum() * STEP)
    torch.testing.assert_close(density(p.tilted(torch.full((1, 1), q))), wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_mixture_is_the_normalised_product_of_powers(weight):
    p, other = on_line(0.7, 0.6), on_line(-1.0, 1.7)
    product = density(p) ** (1 - weight) * density(other) ** weight
    wanted = product / (product.sum() * STEP)
    torch.testing.assert_close(density(p.mix(other, weight)), wanted, atol=1e-9, rtol=0)


def test_two_coordinates_of_different_widths_by_quadrature():
    axis = torch.linspace(-8, 8, 321)
    y = torch.cartesian_prod(axis, axis)
    mean, std = torch.tensor([0.4, -0.9]).expand(len(y), 2), torch.tensor([0.5, 1.3]).expand(len(y), 2)
    p = kernel(mean, std)
    q = kernel(mean + torch.tensor([0.3, 0.2]), torch.tensor([[1.1]]).expand(len(y), 1))
    mass = p.log_prob(y).exp() * 0.05**2
    assert mass.sum().item() == pytest.approx(1, abs=1e-7)
    assert p.kl(q)[0].item() == pytest.approx((mass * (p.log_prob(y) - q.log_prob(y))).sum().item(), abs=1e-6)
    torch.testing.assert_close(p.terms(y)[:, 0], p.log_prob(y) - p.terms(y)[:, 1])


def test_log_prob_by_hand():
    one = kernel(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 2.0]]))
    y = torch.tensor([[2.0, -1.0]])
    # (y − m)/s = 2 and −1.5; −½ z² − log s − ½ log 2π
    wanted = [-2 - math.log(0.5) - 0.9189385332, -1.125 - math.log(2) - 0.9189385332]
    assert one.terms(y)[0].tolist() == pytest.approx(wanted)
    assert one.log_prob(y).item() == pytest.approx(sum(wanted))


def test_samples_have_the_mean_and_the_width():
    mean, std, draws = torch.tensor([0.4, -0.9]), torch.tensor([0.5, 1.3]), 40_000
    y = kernel(mean.expand(draws, 2), std).sample(generator(1))
    assert ((y.mean(0) - mean).abs() < 4 * std / math.sqrt(draws)).all()
    assert ((y.var(0) / std.square() - 1).abs() < 4 * math.sqrt(2 / draws)).all()
    assert abs(torch.corrcoef(y.T)[0, 1]) < 4 / math.sqrt(draws)
    assert torch.equal(y, kernel(mean.expand(draws, 2), std).sample(generator(1)))


def test_reparametrised_draws_carry_the_gradient_of_mean_and_std():
    mean = torch.tensor([[0.4, -0.9]], requires_grad=True)
    std = torch.tensor([[0.5, 1.3]], requires_grad=True)
    one = kernel(mean, std)
    y = one.rsample(generator(2))
    by_mean, by_std = torch.autograd.grad(y.sum(), (mean, std))
    assert by_mean.tolist() == [[1, 1]]
    torch.testing.assert_close(by_std, ((y - mean) / std).detach())
    drawn = one.sample(generator(2))
    assert not drawn.requires_grad and torch.equal(drawn, y)


def test_held_coordinates_never_move_and_carry_nothing():
    held = torch.tensor([False, True, False])
    x = torch.tensor([[0.1, 0.2, 0.3]]).expand(50, 3)
    mean, std = torch.randn(50, 3, generator=generator(3)), torch.tensor([[0.5, 1.5, 2.5]])
    one, other = GaussianKernel(x, mean, std, mean, held), GaussianKernel(x, -mean, 2 * std, mean, held)
    free = GaussianKernel(x[:, ::2], mean[:, ::2], std[:, ::2], mean[:, ::2])
    other_free = GaussianKernel(x[:, ::2], -mean[:, ::2], 2 * std[:, ::2], mean[:, ::2])
    y = one.sample(generator(4))
    assert (y[:, 1] == x[:, 1]).all() and (y[:, ::2] != x[:, ::2]).all()
    assert (one.terms(y)[:, 1] == 0).all()
    torch.testing.assert_close(one.log_prob(y), free.log_prob(y[:, ::2]))
    torch.testing.assert_close(one.kl(other), free.kl(other_free))
    for changed in (one.tilted(torch.ones(50, 3)), one.mix(other, 0.4)):
        assert (changed.sample(generator(5))[:, 1] == x[:, 1]).all()
    assert (one.tilted(torch.ones(50, 3)).mean[:, 1] == mean[:, 1]).all()


def test_states_with_two_axes_and_a_width_for_each_coordinate():
    """As a state of L positions with several channels has: log-probabilities are summed over both axes."""
    mean, std = torch.randn(4, 3, 2, generator=generator(6)), torch.rand(4, 3, 2, generator=generator(7)) + 0.2
    held = torch.tensor([[False], [True], [False]])
    one = GaussianKernel(torch.zeros(4, 3, 2), mean, std, mean, held)
    y = torch.randn(4, 3, 2, generator=generator(8))
    wanted = torch.distributions.Normal(mean, std).log_prob(y)
    wanted[:, 1] = 0
    assert one.terms(y).shape == (4, 6)
    torch.testing.assert_close(one.terms(y), wanted.flatten(1))
    torch.testing.assert_close(one.log_prob(y), wanted.sum((1, 2)))
    assert one.kl(one).tolist() == [0] * 4


def test_the_guess_is_the_posterior_mean_with_its_gradient():
    mean = torch.ones(2, 3, requires_grad=True)
    one = kernel(mean, torch.tensor(1.0))
    assert torch.equal(one.guess(generator()), 2 * mean) and one.expected().requires_grad
