"""The random walk: the law of its ends and of its bridge, and its loss, against gaussians by hand and sampled paths."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy, kernel_at, rollout, sample
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.processes import RandomWalk
from biotilt.testing import affine_law

HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([0.0, -0.6, 0.0]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Zero(torch.nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return 0 * x


class Affine(torch.nn.Module):
    """A pull to the left and toward the middle that grows with the time."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return -0.7 * x + 0.9 * t.unsqueeze(-1) - 1.1


def normal(y: Tensor, mean: float, std: float) -> Tensor:
    return (-((y - mean) / std).square() / 2 - math.log(std) - math.log(2 * math.pi) / 2).sum(-1)


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_without_a_push_designs_are_the_reference(steps):
    process = RandomWalk(2, scale=1.7, num_steps=steps)
    designs = sample(Policy(process, Zero()), 20_000, generator())
    assert designs.mean(0).abs().max() < 4 * 1.7 / math.sqrt(20_000)
    assert (designs.std(0) / 1.7 - 1).abs().max() < 4 / math.sqrt(40_000)


def test_the_push_is_in_units_of_the_scale():
    """u = net(x/σ)/σ moves the mean by σ²/K u: a walk of twice the scale takes the same path, doubled."""
    one, two = (RandomWalk(2, scale=scale, num_steps=7) for scale in (1.5, 3.0))
    paths = [rollout(Policy(process, Affine()), 4, generator(1)).states for process in (one, two)]
    torch.testing.assert_close(2 * paths[0], paths[1])
    x = torch.tensor([[0.3, -2.0]])
    kernel = kernel_at(one, Affine(), x, 2)
    push = -0.7 * x / 1.5 + 0.9 * (1 - 2 / 7) - 1.1
    torch.testing.assert_close(kernel.mean, x + 1.5 / 7 * push)
    torch.testing.assert_close(kernel.x0, x + 1.5 / 7 * 5 * push)


def test_the_bridge_has_the_law_of_the_walk_given_its_end():
    """Of pairs (x[2], x[5]) of the reference: corrupt from the ends has their joint moments."""
    process = RandomWalk(1, scale=0.8, num_steps=5)
    ends = sample(Policy(process, Zero()), 40_000, generator(2))
    x = process.corrupt(ends, 2, generator(3))
    # x[k] is a sum of k increments of variance σ²/K
    assert x.var().item() == pytest.approx(0.64 * 2 / 5, rel=0.03)
    assert (x * ends).mean().item() == pytest.approx(0.64 * 2 / 5, rel=0.05)
    assert torch.equal(process.corrupt(ends, 5, generator()), ends)
    assert not process.corrupt(ends, 0, generator()).any()


def test_the_loss_of_the_reference_is_its_log_density_whatever_the_design():
    process = RandomWalk(2, scale=1.3, num_steps=6)
    for point in ([0.0, 0.0], [2.5, -0.4]):
        design = torch.tensor([point]).expand(40_000, 2)
        loss = process.denoising_loss(Zero(), design, generator(4))
        error = loss.std().item() / math.sqrt(len(loss))
        assert abs(loss.mean().item() + normal(design[:1], 0, 1.3).item()) < 4 * error


def test_the_loss_is_the_bound_by_whole_paths():
    """E_q[log q(x[1…K−1] | y) − log p(x[1…K−1], y)] by drawing bridges step by step from the origin."""
    process, count = RandomWalk(1, scale=1.3, num_steps=4), 60_000
    design = torch.tensor([[1.6]]).expand(count, 1)
    g, x, total = generator(5), torch.zeros(count, 1), torch.zeros(count)
    for k in range(3):
        mean, std = x + (design - x) / (4 - k), 1.3 * math.sqrt((3 - k) / (4 - k) / 4)
        y = mean + std * torch.randn(count, 1, generator=g)
        total = total + normal((y - mean) / std, 0, 1) - math.log(std) - kernel_at(process, Affine(), x, k).log_prob(y)
        x = y
    total = total - kernel_at(process, Affine(), x, 3).log_prob(design)
    ours = process.denoising_loss(Affine(), design, generator(6))
    error = math.sqrt((ours.var() + total.var()).item() / count)
    assert abs(ours.mean() - total.mean()).item() < 4 * error < 0.1
    exact = affine_law(Policy(process, Affine()), start=torch.zeros(1)).log_prob(design[:1]).item()
    assert ours.mean().item() > -exact - 4 * error


def test_held_coordinates_stay_and_cost_nothing():
    process, free = RandomWalk(3, fixed=HELD, num_steps=5), RandomWalk(2, num_steps=5)
    states = rollout(Policy(process, Affine()), 6, generator(7)).states
    assert (states[..., 1] == -0.6).all() and process.free == 2
    design = states[-1]
    one, two = replace(process, num_steps=1), replace(free, num_steps=1)
    torch.testing.assert_close(
        one.denoising_loss(Affine(), design, generator()),
        two.denoising_loss(Affine(), design[:, [0, 2]], generator()),
    )


def test_what_cannot_be_held_is_refused():
    with pytest.raises(ConfigError, match="3 coordinates, designs have 2"):
        RandomWalk(2, fixed=HELD)
    with pytest.raises(ConfigError, match="floating-point values"):
        RandomWalk(3, fixed=Fixed(HELD.mask, torch.zeros(3, dtype=torch.int8)))
    with pytest.raises(ConfigError, match="scale"):
        RandomWalk(2, scale=0.0)
