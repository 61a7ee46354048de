"""The loss of graph: the bound of the whole chain, against sampled paths and exact likelihoods."""

from __future__ import annotations

import math

import pytest
import torch
from graph_samples import KINDS, MIXED, Gaussians, generator, levels, parts_of
from torch import Tensor

from biotilt.core import kernel_at
from biotilt.errors import ConfigError
from biotilt.processes import Graph

each_kind = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


def wrong(x: Tensor, t: Tensor) -> Tensor:
    """A network that is wrong on purpose, and treats coordinates alike."""
    return 0.3 * x + 0.4 * t.unsqueeze(-1) - 0.2


def normal_log_prob(y: Tensor, mean: Tensor | float, std: Tensor) -> Tensor:
    return (-((y - mean) / std).square() / 2 - std.log() - math.log(2 * math.pi) / 2).sum(-1)


def bound_by_sampling_paths(process: Graph, net, design: Tensor, seed: int) -> Tensor:
    """E_q[log q(x[0…S−1] | y) − log p(x[0…S−1], y)] of graphs that have all their nodes; one path a row.

    q: the noising of y, step by step by conditioning; where the chain corrects, the Langevin step of that noising.
    """
    g, inner, steps = generator(seed), design[:, :-1], process.steps
    grids = torch.tensor([levels(process, part) for part in parts_of(process)])  # (D − 1, S + 1, 2)
    a, s = grids[..., 0], grids[..., 1]
    alpha = a / a[:, -1:]
    sigma = (s.square() - (alpha * s[:, -1:]).square()).clamp(min=0).sqrt()
    wide = {"ve": None, "vp": 1.0}
    laws = {"node": (process.node_law, process.node_range), "edge": (process.edge_law, process.edge_range)}
    start = torch.tensor([wide[laws[part][0]] or laws[part][1][1] for part in parts_of(process)])
    if process.memoryless:
        alpha[:, 0], sigma[:, 0] = 0.0, start
    x = alpha[:, 0] * inner + sigma[:, 0] * torch.randn(inner.shape, generator=g)
    total = normal_log_prob(x, alpha[:, 0] * inner, sigma[:, 0]) - normal_log_prob(x, 0.0, start)
    for k in range(steps - 1):
        now, after = sigma[:, k], sigma[:, k + 1]
        if torch.equal(s[:, k], s[:, k + 1]):
            h = 2 * (a[:, k] / a[:, k + 2]).square() * (process.snr * s[:, k]).square()
            gamma = 1 - h / now.square()
            mean, std = alpha[:, k] * inner + gamma * (x - alpha[:, k] * inner), now * (1 - gamma.square()).sqrt()
        elif k == 0 and process.memoryless:
            mean, std = alpha[:, 1] * inner, after
        else:
            covariance = alpha[:, k] / alpha[:, k + 1] * after.square()
            mean = alpha[:, k + 1] * inner + covariance / now.square() * (x - alpha[:, k] * inner)
            std = (after.square() - covariance.square() / now.square()).sqrt()
        y = mean + std * torch.randn(inner.shape, generator=g)
        kernel = kernel_at(process, net, torch.cat([x, design[:, -1:]], -1), k)
        total = total + normal_log_prob(y, mean, std) - kernel.log_prob(torch.cat([y, design[:, -1:]], -1))
        x = y
    last = kernel_at(process, net, torch.cat([x, design[:, -1:]], -1), steps - 1)
    return total - last.log_prob(design)


@each_kind
def test_the_loss_is_the_variational_bound(options, double):
    process = Graph(2, 1, num_steps=3, **options)
    design = torch.tensor([[1.1, -0.4, 0.7, 2.0]]).expand(30_000, 4)
    ours = process.denoising_loss(wrong, design, generator(1))
    paths = bound_by_sampling_paths(process, wrong, design, 2)
    error = math.sqrt((ours.var() + paths.var()).item() / len(design))
    assert abs(ours.mean() - paths.mean()).item() < 4 * error
    assert error < 0.02 * abs(paths.mean().item())


def test_of_one_step_it_is_minus_log_p_with_that_of_the_number_of_nodes(double):
    process = Graph(2, 1, counts=(1, 3), num_steps=1, **MIXED)
    design = torch.tensor([[0.4, 0.0, 0.0, 1.0], [0.4, -0.3, 0.9, 2.0]])
    x = torch.where(design[:, -1:] == design, design, design * 0 + 0.3)  # any x[0] of so many nodes
    kernel = kernel_at(process, wrong, x, 0)
    chance = torch.tensor([0.25, 0.75])
    torch.testing.assert_close(
        process.denoising_loss(wrong, design, generator()), -kernel.log_prob(design) - chance.log()
    )


def test_it_bounds_the_exact_log_likelihood(double):
    """Gaussian data: the law of designs is a gaussian, step by step. The gap closes as the chain has more steps."""
    mean, variance, gaps = torch.tensor([0.9, -0.4, 1.3]), torch.tensor([0.3, 0.7, 0.15]), []
    options = {"node_range": (0.1, 4.0), "edge_range": (0.1, 3.0), "remainder": 0.8}
    for steps in (6, 24, 96):
        process = Graph(2, 1, num_steps=steps, **options)
        net = Gaussians(process, mean, variance)
        probes = torch.tensor([[0.0, 0.0, 0.0, 2.0], [1.0, 1.0, 1.0, 2.0]])
        law_mean, law_variance = torch.zeros(3), torch.ones(3)
        for k in range(process.steps):
            kernel = kernel_at(process, net, probes, k)
            slope = (kernel.mean[1] - kernel.mean[0])[:-1]
            law_mean = kernel.mean[0, :-1] + slope * law_mean
            law_variance = slope.square() * law_variance + kernel.std[0, :-1].square()
        design = torch.cat(
            [
                mean + variance.sqrt() * torch.randn(3_000, 3, generator=generator(3)),
                2 + probes[:1, :1].expand(3_000, 1),
            ],
            -1,
        )
        gap = process.denoising_loss(net, design, generator(4)) + normal_log_prob(
            design[:, :-1], law_mean, law_variance.sqrt()
        )
        assert gap.mean() > -4 * gap.std() / math.sqrt(3_000)
        gaps.append(gap.mean().item())
    assert gaps[2] < gaps[0] / 4


def test_nodes_that_are_not_there_cost_nothing(double):
    """The bound of graphs of two nodes of three is that of a process of two, but for the chance of two."""
    few, many = Graph(2, 2, num_steps=2, **MIXED), Graph(3, 2, counts=(0, 1, 4), num_steps=2, **MIXED)
    small = torch.tensor([[0.4, -0.3, 0.9, 0.2, 1.1, 2.0]])
    large = torch.tensor([[0.4, -0.3, 0.9, 0.2, 0.0, 0.0, 1.1, 0.0, 0.0, 2.0]])
    losses = [
        process.denoising_loss(wrong, design.expand(30_000, -1), generator(seed))
        for process, design, seed in ((few, small, 5), (many, large, 6))
    ]
    error = math.sqrt((losses[0].var() + losses[1].var()).item() / 30_000)
    assert abs((losses[1] - losses[0]).mean().item() + math.log(1 / 5)) < 4 * error < 0.4


def test_gradients_reach_the_network():
    process = Graph(3, 2, num_steps=4)
    weight = torch.tensor(0.3, requires_grad=True)
    design = process.noise(8, generator(7))
    process.denoising_loss(lambda x, t: weight * x, design, generator(8)).mean().backward()
    assert weight.grad is not None and weight.grad.isfinite() and weight.grad != 0


def test_a_number_of_nodes_without_a_chance_is_refused():
    with pytest.raises(ConfigError, match="a design has 1 nodes, which `counts` gives no chance"):
        Graph(2, 1).denoising_loss(wrong, torch.tensor([[0.4, 0.0, 0.0, 1.0]]), generator())
