"""Score ratios as letters of the design: against laws that can be enumerated, and steps by them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biotilt.networks.score_ratios import ScoreRatios, ScoreRatiosConfig, letters_of_ratios
from biotilt.processes import Uniform
from biotilt.processes.schedules import GEOMETRIC
from biotilt.testing.contracts import check_kernel

V, L = 3, 2
STATES = torch.tensor(list(itertools.product(range(V), repeat=L)))
PRIOR = torch.tensor([0.30, 0.02, 0.08, 0.01, 0.25, 0.04, 0.20, 0.09, 0.01], dtype=torch.float64)


def noised(clean: float) -> Tensor:
    """Q[a, b]: the chance that a letter a is a letter b, by hand."""
    return clean * torch.eye(V, dtype=torch.float64) + (1 - clean) / V


def joint(clean: float) -> Tensor:
    """P(x0, x_t) over all pairs of states."""
    q = noised(clean)
    rows = [[PRIOR[i] * math.prod(q[a, b] for a, b in zip(x0, x)) for x in STATES] for i, x0 in enumerate(STATES)]
    return torch.tensor(rows, dtype=torch.float64)


def true_log_ratios(clean: float) -> Tensor:
    """log p_t(x with y at i) / p_t(x) of every state, by its definition."""
    law = joint(clean).sum(0).view(V, V)
    found = torch.zeros(len(STATES), L, V, dtype=torch.float64)
    for row, (a, b) in enumerate(STATES.tolist()):
        found[row, 0], found[row, 1] = law[:, b] / law[a, b], law[a] / law[a, b]
    return found.log()


def posterior(clean: float) -> Tensor:
    """P(x0_i = a | x_t) of every state, by Bayes over all designs."""
    given = joint(clean) / joint(clean).sum(0)
    found = torch.zeros(len(STATES), L, V, dtype=torch.float64)
    for i, letter in itertools.product(range(L), range(V)):
        found[:, i, letter] = given[STATES[:, i] == letter].sum(0)
    return found


def as_letters(log_ratios: Tensor, clean: float) -> tuple[Tensor, Tensor]:
    there = torch.nn.functional.one_hot(STATES, V).double()
    return letters_of_ratios(log_ratios, there, torch.full((len(STATES),), clean, dtype=torch.float64))


@pytest.mark.parametrize("clean", [0.999, 0.6, 0.03, 1e-4])
def test_true_ratios_give_the_true_posterior(clean: float) -> None:
    found, clipped = as_letters(true_log_ratios(clean), clean)
    torch.testing.assert_close(found.exp(), posterior(clean), atol=1e-9, rtol=0)
    assert not bool(clipped.any())
    assert (posterior(0.6) - posterior(0.6).flip(-1)).abs().max() > 0.1


@pytest.mark.parametrize("k", [2, 6, 9])
def test_a_step_is_the_true_reverse_step(k: int) -> None:
    """Each next letter has its chance given the whole state; as SEDD's Tweedie step has it too."""
    steps = 10
    noise = [1e-4 ** (k / steps) * 20 ** (1 - k / steps), 1e-4 ** ((k + 1) / steps) * 20 ** (1 - (k + 1) / steps)]
    now, after = math.exp(-noise[0]), 1.0 if k == steps - 1 else math.exp(-noise[1])
    log_letters, _ = as_letters(true_log_ratios(now), now)
    process = Uniform(L, V, num_steps=steps, schedule="geometric")
    kernel = process.kernel_of(log_letters, STATES.to(torch.int8), k)
    # P(x_s = y, x_t = x) over all pairs of states, then each letter of y given x
    pairs = joint(after).sum(0)[:, None] * torch.stack(
        [torch.stack([noised(now / after)[a, x].prod() for x in STATES]) for a in STATES]
    )
    wanted = torch.zeros_like(log_letters)
    for i, letter in itertools.product(range(L), range(V)):
        wanted[:, i, letter] = pairs[STATES[:, i] == letter].sum(0) / pairs.sum(0)
    torch.testing.assert_close(kernel.log_next.exp(), wanted, atol=3e-5, rtol=0)
    back = torch.linalg.inv(noised(now / after)) @ true_log_ratios(now).exp().unsqueeze(-1)
    tweedie = back.squeeze(-1) * noised(now / after)[STATES]
    torch.testing.assert_close(kernel.log_next.exp(), tweedie, atol=3e-5, rtol=0)


def test_the_noise_is_geometric() -> None:
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    clean = GEOMETRIC.clean(t)
    torch.testing.assert_close(-clean.log(), 1e-4 * (20 / 1e-4) ** t)
    (slope,) = torch.autograd.grad(clean.sum(), t)
    torch.testing.assert_close(GEOMETRIC.rate(t), -slope / (1 - clean))
    torch.testing.assert_close(GEOMETRIC.time(1 - clean), t, atol=1e-6, rtol=0)
    assert GEOMETRIC.time(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_ratios_of_no_law_are_clipped_and_that_is_told() -> None:
    # V = 2, α = 1/2: a share below 1/4 is of no law
    ratios = torch.tensor([[[1.0, 0.01]], [[1.0, 0.5]]]).log()
    found, clipped = letters_of_ratios(ratios, torch.tensor([[[1.0, 0.0]]]).expand(2, 1, 2), torch.tensor([0.5, 0.5]))
    assert clipped.tolist() == [[[False, True]], [[False, False]]]
    torch.testing.assert_close(found[0].exp(), torch.tensor([[1.0, 0.0]]))
    # where all is noise nothing is told, whatever the ratios
    found, clipped = letters_of_ratios(ratios, torch.tensor([[[1.0, 0.0]]]).expand(2, 1, 2), torch.full((2,), 1e-8))
    assert not bool(clipped.any()) and bool((found.exp() == 0.5).all())


@pytest.fixture(scope="module")
def net() -> ScoreRatios:
    torch.manual_seed(2)
    return ScoreRatios(ScoreRatiosConfig(3, 2, width=8, told=6, stacks=1, dilations=(1, 2))).eval()


def test_the_contract_of_kernels(net: ScoreRatios) -> None:
    torch.manual_seed(3)
    other = ScoreRatios(net.config).eval()
    check_kernel(Uniform(2, 3, num_steps=4, schedule="geometric"), net, other, torch.Generator().manual_seed(1))


def test_masks_say_nothing_and_relaxed_states_are_read_as_letters_are(net: ScoreRatios) -> None:
    x, t = torch.tensor([[0, 2], [1, 3]]), torch.tensor([0.4, 0.6])
    found = net(x, t)
    assert found[1, 1].tolist() == [0.0, 0.0, 0.0] and net.ratios(x, t)[0, 0, 0] == 0 == net.ratios(x, t)[0, 1, 2]
    relaxed = torch.nn.functional.one_hot(x, 4).float().requires_grad_(True)
    torch.testing.assert_close(net(relaxed, t), found)
    (gradient,) = torch.autograd.grad(net(relaxed, t)[0, 0, 1], relaxed)
    assert bool(gradient[0].any()) and bool(gradient.isfinite().all())
    share = net.clipped(x, t)
    assert share.shape == (2,) and bool((share <= 1).all())
    told = net(x, t, torch.tensor([1.5, -0.5]))
    assert not torch.equal(told, found) and torch.equal(net(x, t, torch.zeros(2)), found)
