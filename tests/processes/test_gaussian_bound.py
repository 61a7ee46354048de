"""The loss of gaussian and flow: the bound of the K-step chain, against sampled paths and exact likelihoods."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from path_samples import (
    HELD,
    MEAN,
    SKEWED,
    VARIANCE,
    each_path,
    exact,
    generator,
    levels,
)
from torch import Tensor

from biotilt.core import Policy, kernel_at
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.processes import PROCESSES, Flow, Gaussian
from biotilt.processes.gaussian_path import GaussianPath
from biotilt.testing import MixtureDenoiser, affine_law
from biotilt.training.pretrain import PretrainConfig, pretrain, validation_bound


def bound_by_sampling_paths(process: GaussianPath, net, design: Tensor, seed: int) -> Tensor:
    """E_q[log q(x[0…K−1] | y) − log p(x[0…K−1], y)], q the Markov noising that starts at x[K] = y; one path a row."""
    grid, g = levels(process), generator(seed)
    log_q = torch.zeros(len(design))
    path = [design]
    for (a, s), (a_next, s_next) in zip(grid[-2::-1], grid[:0:-1]):
        scale, std = a / a_next, math.sqrt(s * s - (a / a_next * s_next) ** 2)
        z = torch.randn(design.shape, generator=g)
        path.append(scale * path[-1] + std * z)
        log_q = log_q - (z.square() / 2 + math.log(std) + math.log(2 * math.pi) / 2).sum(-1)
    path.reverse()
    log_p = -(path[0].square() / 2 + math.log(2 * math.pi) / 2).sum(-1)
    for k in range(process.steps):
        log_p = log_p + kernel_at(process, net, path[k], k).log_prob(path[k + 1])
    return (log_q - log_p).detach()


@each_path
def test_the_loss_is_the_variational_bound(make, double):
    """Against whole paths of the forward noising; a network that is wrong on purpose."""
    process, design = make(num_steps=4), torch.tensor([[1.6]]).expand(60_000, 1)

    def net(x: Tensor, t: Tensor) -> Tensor:
        return 0.3 * x + 0.4 * t.unsqueeze(-1) - 0.2

    ours = process.denoising_loss(net, design, generator(1))
    paths = bound_by_sampling_paths(process, net, design, 2)
    error = math.sqrt((ours.var() + paths.var()).item() / len(design))
    assert abs(ours.mean() - paths.mean()).item() < 4 * error
    assert error < 0.02 * abs(paths.mean().item())


@each_path
@pytest.mark.parametrize("eta", [0.5, 1.0, 1.3])
def test_the_loss_bounds_the_exact_log_likelihood(make, eta, double):
    """Gaussian data: −log p of the chain is that of a gaussian. At eta = 1 the gap closes as steps are added."""
    gaps = []
    for steps in (8, 32, 128):
        process = make(num_steps=steps, eta=eta)
        policy = Policy(process, exact(process))
        design = MEAN + math.sqrt(VARIANCE) * torch.randn(4_000, 1, generator=generator(3))
        loss = process.denoising_loss(policy.net, design, generator(4)).detach()
        gap = loss + affine_law(policy).log_prob(design)
        noise = 4 * gap.std().item() / math.sqrt(len(gap))
        assert gap.mean().item() > -noise
        gaps.append(gap.mean().item())
    assert gaps[2] < gaps[0] / 4
    if eta == 1:
        assert gaps[2] < 0.1 + noise


def test_the_bound_holds_for_each_design_and_a_wrong_network(double):
    """Not only on average over data: rows of one design each, far out and near."""
    process = Flow(1, num_steps=6, eta=0.8)
    policy = Policy(process, exact(process, mean=-0.3, variance=0.5))
    for value in (-1.5, 0.2, 2.5):
        design = torch.full((8_000, 1), value)
        loss = process.denoising_loss(policy.net, design, generator(5)).detach()
        assert loss.mean() - 4 * loss.std() / math.sqrt(8_000) > -affine_law(policy).log_prob(design[:1])


def test_the_ode_is_trained_by_the_loss_of_ancestral_steps():
    design = torch.randn(8, 2, generator=generator())
    net = VectorMLP(VectorMLPConfig(2, width=8, depth=1))
    ode, noisy = (Flow(2, eta=eta).denoising_loss(net, design, generator(1)) for eta in (0.0, 1.0))
    assert torch.equal(ode, noisy) and ode.requires_grad


@pytest.mark.parametrize("make", [Gaussian, Flow])
def test_the_loss_with_fixed_coordinates_is_that_of_the_others(make, double):
    """A net that treats coordinates alike: the bound of two free ones of three is that of a chain with two."""
    design = torch.randn(500, 3, generator=generator(10))
    design[:, 1] = -0.6

    def net(x: Tensor, t: Tensor) -> Tensor:
        return 0.2 * x

    held = replace(HELD, letters=HELD.letters.double())
    # one step: nothing is drawn that matters, and the loss is −log p itself
    one, one_free = (make(*a, num_steps=1, prediction="x0") for a in ((3, held), (2,)))
    with_held = one.denoising_loss(net, design, generator(11))
    torch.testing.assert_close(with_held, one_free.denoising_loss(net, design[:, [0, 2]], generator(12)))
    torch.testing.assert_close(
        with_held, -kernel_at(one, net, one.noise(500, generator(13)).double(), 0).log_prob(design)
    )
    three, two = make(3, held, num_steps=5), make(2, num_steps=5)
    ours = three.denoising_loss(net, design.repeat(40, 1), generator(11))
    free = two.denoising_loss(net, design[:, [0, 2]].repeat(40, 1), generator(12))
    assert abs(ours.mean() - free.mean()) < 4 * math.sqrt((ours.var() + free.var()).item() / 20_000)
    assert three.free == 2


@pytest.mark.parametrize("name", ["gaussian", "flow"])
def test_pretraining_comes_near_the_exact_denoiser(name):
    """Most of the way from where it starts to the bound of the exact denoiser, and not below that."""
    process = PROCESSES[name](2, num_steps=20)
    torch.manual_seed(0)
    policy = Policy(process, VectorMLP(VectorMLPConfig(2, width=48, depth=2)))
    ideal = Policy(process, MixtureDenoiser(SKEWED, process, VectorMLP(VectorMLPConfig(2, 4, 1))))
    train, validation = (SKEWED.sample(n, generator(n)).float() for n in (4_000, 500))
    before, best_possible = validation_bound(policy, validation), validation_bound(ideal, validation)
    config = PretrainConfig(steps=600, batch=256, lr=5e-3, warmup=20, check_every=200)
    after = pretrain(policy, train, validation, config, generator(16))
    assert before > best_possible + 3
    assert best_possible - 0.1 < after < best_possible + 0.2 * (before - best_possible)
