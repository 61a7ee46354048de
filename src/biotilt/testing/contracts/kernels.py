"""What every kernel must keep to: checked by enumeration for letters and states, by quadrature for points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from biotilt.core import Net, Process, kernel_at
from biotilt.core.fixed import Holding
from biotilt.processes import Simplex
from biotilt.testing.exact import space

STANDARD_ERRORS = 5.5  # some thousand comparisons a process: by chance once in 20,000 runs
LARGEST = 5000  # states, or points of a grid an axis squared
POINTS = 301  # of a grid, an axis
REACH = 9.0  # standard deviations on either side


def check_kernel(process: Process, net: Net, other: Net, generator: Generator, *, draws: int = 4000) -> None:
    """Check the kernels of a small process at states of its own chains, at every step.

    They are normalised; the frequencies (letters) or moments (points) of `sample` agree with `log_prob`; `kl` to the
    kernel of the network `other` is the sum, or integral, of its definition; neither the noise, nor `corrupt`, nor
    `sample` moves a held-fixed coordinate; and no design has a letter that its position may not have. Letters: every
    next state is enumerated, so there must be few. Points: one or two free coordinates.

    Raises:
        AssertionError: the kernel breaks one of these, and which.
        ValueError: the process is too large to be checked so.
    """
    x = process.noise(2, generator)
    check = _check_points if x.is_floating_point() else _check_letters
    for k in range(process.steps):
        for one in x.split(1):

            def at(network: Net, rows: int, one: Tensor = one, k: int = k) -> Any:
                return kernel_at(process, network, one.expand(rows, *one.shape[1:]), k)

            check(process, at, (net, other), generator, draws, f"{process.name}, step {k}")
        _check_held(process, process.corrupt(x, k, generator), f"corrupt, step {k},")
        x = kernel_at(process, net, x, k).sample(generator)
        _check_held(process, x, f"sample, step {k},")
    x = process.noise(draws // 10, generator)
    for k in range(process.steps):
        x = kernel_at(process, net, x, k).sample(generator)
    _check_allowed(process, x)


At = Callable[..., Any]


def _check_held(process: Process, x: Tensor, what: str) -> None:
    fixed = process.fixed if isinstance(process, Holding) else None
    if fixed is not None:
        stands = process.noise(1, torch.Generator().manual_seed(0))[:, fixed.mask]
        assert (x[:, fixed.mask] == stands).all(), f"{process.name}: {what} moves a held-fixed coordinate"


def _check_allowed(process: Process, designs: Tensor) -> None:
    fixed = process.fixed if isinstance(process, Holding) else None
    if fixed is None or fixed.allowed is None:
        return
    letters = (process.tokens(designs) if isinstance(process, Simplex) else designs).long()
    allowed = fixed.allowed.expand(len(letters), -1, -1).gather(-1, letters.unsqueeze(-1)).squeeze(-1)
    assert (allowed | fixed.mask).all(), f"{process.name}: a design has a letter that its position may not have"


def _check_letters(process: Any, at: At, nets: tuple[Net, Net], generator: Generator, draws: int, where: str) -> None:
    states = space(process).states
    if len(states) > LARGEST:
        raise ValueError(f"{process.name} has {len(states)} states, too many to enumerate; take a smaller one")
    log_p, log_q = (at(net, len(states)).log_prob(states).double() for net in nets)
    p = log_p.exp()
    assert abs(p.sum().item() - 1) < 1e-5, f"{where}: the kernel sums to {p.sum().item()}, not to 1"
    drawn = at(nets[0], draws).sample(generator).reshape(draws, 1, -1)
    matches = (drawn == states.reshape(1, len(states), -1)).all(-1)
    assert matches.any(1).all(), f"{where}: a draw is no state of the process"
    error = (p * (1 - p) / draws).sqrt().clamp(min=1 / draws)
    worst = ((matches.double().mean(0) - p).abs() / error).max().item()
    assert worst < STANDARD_ERRORS, f"{where}: sample is {worst:.1f} standard errors from log_prob"
    _check_kl(at, nets, torch.where(p > 0, p * (log_p - log_q), 0).sum().item(), where)


def _check_points(process: Any, at: At, nets: tuple[Net, Net], generator: Generator, draws: int, where: str) -> None:
    drawn = at(nets[0], draws).sample(generator).flatten(1).double()
    centre, spread = drawn.mean(0), drawn.std(0)
    free = (spread > 0).nonzero().squeeze(-1)
    if not 1 <= len(free) <= 2:
        raise ValueError(f"{process.name} has {len(free)} free coordinates; quadrature needs one or two")
    steps = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)
    axes = torch.meshgrid(*[steps] * len(free), indexing="ij")
    points = drawn[:1].repeat(axes[0].numel(), 1)
    for i, axis in zip(free, axes):
        points[:, i] = centre[i] + spread[i] * axis.flatten()
    cell = ((steps[1] - steps[0]) * spread[free]).prod()
    grid = points.unflatten(1, at(nets[0], 1).sample(generator).shape[1:])
    log_p, log_q = (at(net, len(grid)).log_prob(grid.to(torch.get_default_dtype())).double() for net in nets)
    p = log_p.exp() * cell
    # float32 points of a narrow kernel are rounded by up to 1e-7 of their size
    assert abs(p.sum().item() - 1) < 1e-3, f"{where}: the kernel integrates to {p.sum().item()}, not to 1"
    mean = (p.unsqueeze(-1) * points).sum(0)[free]
    variance = (p.unsqueeze(-1) * (points[:, free] - mean).square()).sum(0)
    worst = ((centre[free] - mean).abs() / (variance / draws).sqrt()).max().item()
    assert worst < STANDARD_ERRORS, f"{where}: the mean of sample is {worst:.1f} standard errors off"
    worst = ((spread[free].square() / variance - 1).abs() / (2 / draws) ** 0.5).max().item()
    assert worst < STANDARD_ERRORS, f"{where}: the variance of sample is {worst:.1f} standard errors off"
    _check_kl(at, nets, (p * (log_p - log_q)).sum().item(), where)


def _check_kl(at: At, nets: tuple[Net, Net], expected: float, where: str) -> None:
    found = at(nets[0], 1).kl(at(nets[1], 1)).item()
    assert abs(found - expected) < 1e-4 + 2e-3 * abs(expected), f"{where}: kl is {found}, by its definition {expected}"
