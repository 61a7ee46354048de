"""gaussian and flow: steps by conditioning, laws of whole chains of gaussian data in closed form, the bound."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from path_samples import (
    HELD,
    MEAN,
    PATHS,
    SKEWED,
    VARIANCE,
    constant,
    each_eta,
    each_path,
    exact,
    generator,
    level,
    levels,
)
from torch import Tensor

from biotilt.core import (
    Centred,
    Density,
    Divergence,
    Expecting,
    Factorised,
    Guessing,
    Mixable,
    Policy,
    Relaxable,
    Reparametrised,
    Tiltable,
    check_capabilities,
    has,
    kernel_at,
    rollout,
    sample,
)
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.processes import PROCESSES, Flow, Gaussian
from biotilt.processes.gaussian_path import GaussianPath
from biotilt.testing import MixtureDenoiser, affine_law, energy_distance


def moments_along(policy: Policy) -> list[tuple[float, float]]:
    """Mean and variance of x[0] … x[K] on a line, for kernels affine in the state."""
    now = [(0.0, 1.0)]
    for k in range(policy.process.steps):
        kernel = policy.kernel(torch.tensor([[0.0], [1.0]]), k)
        offset, slope = kernel.mean[0].item(), (kernel.mean[1] - kernel.mean[0]).item()
        mean, variance = now[-1]
        now.append((offset + slope * mean, slope**2 * variance + kernel.std[0].item() ** 2))
    return now


def saying(process: GaussianPath, x0: float):
    """A network that believes in one point, and says so in the words of the process."""

    def net(x: Tensor, t: Tensor) -> Tensor:
        a, s = torch.tensor([level(process, v) for v in t.tolist()]).unbind(-1)
        eps = (x - a.unsqueeze(-1) * x0) / s.unsqueeze(-1)
        return {"x0": torch.full_like(x, x0), "eps": eps, "velocity": eps - x0}[process.prediction]

    return net


@each_path
def test_ancestral_steps_are_the_path_conditioned_on_x0_and_the_state(make, double):
    """x_t = (a_t/a_s) x_s + noise: the joint law of (x_s, x_t) given x_0, conditioned on x_t; in every prediction."""
    x, x0 = torch.tensor([[-1.3], [0.4]]), 0.7
    predictions = ("x0", "eps", "velocity") if make is PATHS["flow"] else ("x0", "eps")
    for prediction in predictions:
        process = make(num_steps=5, prediction=prediction)
        for k in range(1, process.steps):
            (a, s), (a_next, s_next) = levels(process)[k : k + 2]
            covariance = a / a_next * s_next**2
            mean = a_next * x0 + covariance / s**2 * (x - a * x0)
            variance = s_next**2 - covariance**2 / s**2
            kernel = kernel_at(process, saying(process, x0), x, k)
            torch.testing.assert_close(kernel.mean, mean)
            torch.testing.assert_close(kernel.std.square(), torch.full((2, 1), variance))
            t = torch.rand(2, generator=generator(k)) * 0.8 + 0.1
            said = saying(process, x0)(x, t)
            torch.testing.assert_close(process.output_of(torch.full_like(x, x0), x, t), said)


@each_path
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])  # 2.0 asks for more noise than x[k+1] has in all, and gets that
def test_for_a_single_point_every_state_has_the_law_of_the_path(make, eta, double):
    """Data that are one point: x̂_0 is exact in every step, so x[k] ∼ N(a_k c, s_k²) for every eta."""
    process = make(num_steps=6, eta=eta)
    grid, along = levels(process), moments_along(Policy(process, constant(1.7)))  # type: ignore[arg-type]
    # the linear schedule starts at a = 0.0066, which N(0, 1) leaves out; the first step with noise puts it in
    slack = 0.02 if eta == 0 and grid[0][0] > 1e-3 else 1e-9
    for (mean, variance), (a, s) in zip(along[1:], grid[1:]):
        assert (mean, variance) == pytest.approx((a * 1.7, s * s), abs=slack)


@each_path
@each_eta
def test_the_chain_of_a_gaussian_follows_its_linear_recursion(make, eta, double):
    """x̂_0 of gaussian data by regression; mean and variance of x[k] step by step, and affine_law at the end."""
    process = make(num_steps=7, eta=eta)
    grid = levels(process)
    a_end, s_end = grid[-1]
    clean_mean, clean_variance = MEAN / a_end, (VARIANCE - s_end**2) / a_end**2
    mean, variance = 0.0, 1.0
    along = moments_along(Policy(process, exact(process)))
    for k, ((a, s), (a_next, s_next)) in enumerate(itertools.pairwise(grid)):
        gain = a * clean_variance / (a * a * clean_variance + s * s)
        posterior = s_next / s * math.sqrt(s * s - (a / a_next * s_next) ** 2)
        sigma = s_next if k == 0 and eta > 0 else eta * posterior
        carry = math.sqrt(max(s_next**2 - sigma**2, 0))
        slope = a_next * gain + carry * (1 - a * gain) / s
        offset = (a_next - carry * a / s) * (clean_mean - gain * a * clean_mean)
        if k == 0 and eta > 0:
            slope = 0.0
        mean, variance = offset + slope * mean, slope**2 * variance + sigma**2
        assert along[k + 1] == pytest.approx((mean, variance), abs=1e-9)
    law = affine_law(Policy(process, exact(process)))
    assert (law.means.item(), law.covariances.item()) == pytest.approx((mean, variance), abs=1e-9)


@each_path
@each_eta
def test_the_law_of_designs_tends_to_that_of_the_data(make, eta, double):
    """The error falls as 1/K: halved, and not by less, by twice the steps."""
    errors = []
    for steps in (100, 200, 400):
        process = make(num_steps=steps, eta=eta)
        law = affine_law(Policy(process, exact(process)))
        assert law.means.item() == pytest.approx(MEAN, abs=0.02)
        errors.append(abs(law.covariances.item() - VARIANCE))
    assert errors[0] < 0.03
    assert errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]


def test_flow_steps_tend_to_the_stochastic_differential_equation(double):
    """One step of length Δ: std² = g² Δ and mean = x − Δ (û − (g²/2) score), up to Δ²."""
    velocity, x, eta = 0.9, torch.tensor([[0.6]]), 0.7
    errors = []
    for steps in (2_000, 4_000):
        process = Flow(1, num_steps=steps, eta=eta)
        k = int(0.4 * steps)
        root = 1 - (1 - math.sqrt(0.02)) * k / steps
        t, step = root**2, root**2 - (root - (1 - math.sqrt(0.02)) / steps) ** 2
        kernel = kernel_at(process, constant(velocity), x, k)
        g_squared = 2 * eta**2 * t / (1 - t)
        score = -(x + (1 - t) * velocity) / t
        drift = velocity - g_squared / 2 * score
        errors.append(
            [
                abs(kernel.std.square().item() / step - g_squared),
                abs(((x - kernel.mean) / step - drift).item()),
            ]
        )
    assert max(errors[0]) < 5e-3
    assert all(late < 0.6 * early for early, late in zip(*errors))


@each_path
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_nothing_depends_on_the_first_state(make, eta):
    process = make(num_steps=4, eta=eta, prediction="eps")
    kernel = kernel_at(process, lambda x, t: torch.sin(3 * x), torch.tensor([[2.0], [-1.0]]), 0)
    assert kernel.mean[0] == kernel.mean[1] and kernel.x0[0] == kernel.x0[1]
    assert kernel.std[0].item() == pytest.approx(levels(process)[1][1], rel=1e-6)
    later = kernel_at(process, lambda x, t: torch.sin(3 * x), torch.tensor([[2.0], [-1.0]]), 1)
    assert later.mean[0] != later.mean[1]


@each_path
def test_x0_is_the_posterior_mean_of_the_design(make, double):
    """Of gaussian designs, by regression of x[K] on x[k] = (a_k/a_K) x[K] + noise."""
    process = make(num_steps=6)
    net, x = exact(process), torch.tensor([[-0.7], [1.9]])
    a_end, s_end = levels(process)[-1]
    for k in range(1, process.steps):
        a, s = levels(process)[k]
        scale = a / a_end
        variance = scale**2 * VARIANCE + s**2 - scale**2 * s_end**2
        wanted = MEAN + scale * VARIANCE / variance * (x - scale * MEAN)
        torch.testing.assert_close(kernel_at(process, net, x, k).x0.detach(), wanted)


@each_path
def test_corrupt_noises_the_design_from_its_own_level(make, double):
    process, draws = make(num_steps=5), 40_000
    design = torch.full((draws, 1), 1.4)
    a_end, s_end = levels(process)[-1]
    for k in range(process.steps):
        a, s = levels(process)[k]
        x = process.corrupt(design, k, generator(k))
        mean, variance = a / a_end * 1.4, s**2 - (a / a_end * s_end) ** 2
        assert x.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / draws))
        assert x.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / draws))
    assert torch.equal(process.corrupt(design, process.steps, generator()), design)


@pytest.mark.parametrize("name", ["gaussian", "flow"])
def test_the_ode_draws_without_noise_and_says_what_it_cannot(name):
    process = PROCESSES[name](2, num_steps=5, eta=0)
    net = MixtureDenoiser(SKEWED, process, VectorMLP(VectorMLPConfig(2, 8, 1)))
    x = process.noise(3, generator())
    assert torch.equal(
        kernel_at(process, net, x, 2).sample(generator(1)), kernel_at(process, net, x, 2).sample(generator(2))
    )
    of_densities = (Density, Divergence, Tiltable, Mixable, Factorised, Centred)
    kernel = kernel_at(process, net, x, 2)
    for capability in of_densities:
        assert not isinstance(kernel, capability) and not has(process, capability)
        with pytest.raises(
            ConfigError, match=f'{capability.offers}, which "{name}" has not as it is configured: set eta'
        ):
            check_capabilities(process, (capability,), "vidd", ())
    rest = (Reparametrised, Expecting, Guessing)
    assert isinstance(kernel, rest)
    check_capabilities(process, (*rest, Relaxable), "draft", ())
    check_capabilities(replace(process, eta=0.1), of_densities, "vidd", ())


@pytest.mark.parametrize("name", ["gaussian", "flow"])
@each_eta
def test_the_base_chain_of_a_mixture_reaches_the_mixture(name, eta):
    process = PROCESSES[name](2, num_steps=40, eta=eta)
    net = MixtureDenoiser(SKEWED, process, VectorMLP(VectorMLPConfig(2, 8, 1)))
    reference = SKEWED.sample(3_000, generator(6))
    drawn = sample(Policy(process, net), 3_000, generator(7), chunk=3_000)
    start = energy_distance(process.noise(3_000, generator(8)), reference)
    assert start > 0.1
    assert energy_distance(drawn, reference) < 0.03 * start


@pytest.mark.parametrize("process", [Gaussian(3, HELD, num_steps=4), Flow(3, HELD, num_steps=4, eta=0.5)])
def test_fixed_coordinates_never_move(process):
    net = VectorMLP(VectorMLPConfig(3, width=16, depth=1))
    policy, g = Policy(process, net), generator(9)
    chain = rollout(policy, 50, g, base=policy)
    held = torch.tensor(-0.6)
    assert (chain.states[..., 1] == held).all()
    assert (chain.states[1:, :, [0, 2]] != chain.states[:-1, :, [0, 2]]).all()
    for k in range(process.steps + 1):
        assert (process.corrupt(chain.designs, k, g)[:, 1] == held).all()
    for k in range(process.steps):
        kernel = policy.kernel(chain.states[k], k)
        for changed in (kernel, kernel.tilted(torch.ones(50, 3)), kernel.mix(kernel, 0.5)):
            assert (changed.rsample(g)[:, 1] == held).all() and (changed.terms(chain.designs)[:, 1] == 0).all()
        assert (kernel.x0[:, 1] == held).all()


@each_path
def test_steps_given_one_by_one_agree_with_a_tensor_of_steps(make):
    process = make(num_steps=6, size=2)
    net, x = VectorMLP(VectorMLPConfig(2, width=8, depth=1)), torch.randn(3, 2, generator=generator(13))
    together = kernel_at(process, net, x, torch.tensor([5, 0, 2]))
    for row, k in enumerate((5, 0, 2)):
        alone = kernel_at(process, net, x[row : row + 1], k)
        torch.testing.assert_close(together.mean[row : row + 1], alone.mean)
        torch.testing.assert_close(together.std[row : row + 1], alone.std)


def test_the_network_is_told_the_time():
    process, told = Flow(1, num_steps=2, t_min=0.04), []

    def net(x: Tensor, t: Tensor) -> Tensor:
        told.append(t)
        return x

    kernel_at(process, net, torch.zeros(2, 1), 0)
    kernel_at(process, net, torch.zeros(2, 1), torch.tensor([0, 1]))
    # √t goes 1, 0.6, 0.2
    assert [t.tolist() for t in told] == [pytest.approx([1, 1]), pytest.approx([1, 0.36])]
    assert told[0].dtype == torch.float32


@pytest.mark.parametrize("name", ["gaussian", "flow"])
def test_draws_are_reproduced_by_the_generator_and_gradients_flow_through_relaxed_states(name):
    process = PROCESSES[name](2, num_steps=4)
    net = VectorMLP(VectorMLPConfig(2, width=8, depth=1))
    one, two = (rollout(Policy(process, net), 5, generator(14)).states for _ in range(2))
    assert torch.equal(one, two) and one.dtype == torch.float32
    x = process.relaxed(one[1]).requires_grad_(True)
    design = process.relaxed_design(kernel_at(process, net, x, 1).rsample(generator(15), temperature=0.5))
    (gradient,) = torch.autograd.grad(design.sum(), x)
    assert (gradient != 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0), "size must be ≥ 1, got 0"),
        (lambda: Flow(2, num_steps=0), "num_steps must be ≥ 1, got 0"),
        (lambda: Flow(2, eta=-0.1), "eta must be ≥ 0"),
        (lambda: Gaussian(2, t_min=0.0), "t_min must be > 0, got 0"),
        (lambda: Gaussian(2, prediction="velocity"), 'gaussian: unknown prediction "velocity"; valid: eps, x0'),
        (lambda: Gaussian(2, schedule="cosin"), 'did you mean "cosine"'),
        (lambda: Flow(2, HELD), "fixed covers 3 coordinates, designs have 2"),
        (
            lambda: Flow(1 + 1, Fixed(torch.tensor([True, False]), torch.ones(2).to(torch.int8))),
            "floating-point values",
        ),
    ],
)
def test_impossible_processes_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
