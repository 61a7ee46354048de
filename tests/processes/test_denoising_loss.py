"""The training losses of the discrete processes against exact sums, and against −log p."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy
from biotilt.core.fixed import Fixed
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite, Masked
from biotilt.processes.revealing import RevealingProcess
from biotilt.processes.schedules import SCHEDULES
from biotilt.testing import all_designs, law, reveal_law

V, L = 2, 3
DESIGNS = all_designs(V, L)
HELD = Fixed(torch.tensor([True, False, False]), torch.tensor([1, 0, 0], dtype=torch.int8))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Timed(torch.nn.Module):
    """A random table whose logits also depend on time."""

    def __init__(self, seed: int, slope: float):
        super().__init__()
        shape = ((V + 1) ** L, L, V)
        self.table = StateTable(V, L, 1.5 * torch.randn(shape, generator=generator(seed), dtype=torch.float64))
        self.slope = slope

    @torch.no_grad()
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.table(x, t) * (1 + self.slope * t.double()).view(-1, 1, 1)


def loss_of_hidden_set(net: torch.nn.Module, design: Tensor, hidden: tuple[int, ...], t: float) -> float:
    """Σ_{i hidden} −log p(x0_i | x) with exactly these positions hidden, one by one."""
    x = design.clone()
    x[list(hidden)] = V
    log_p = net(x.unsqueeze(0), torch.tensor([t])).log_softmax(-1)[0]
    return -sum(log_p[i, int(design[i])].item() for i in hidden)


def subsets(free: list[int]) -> list[tuple[int, ...]]:
    return [s for n in range(1, len(free) + 1) for s in itertools.combinations(free, n)]


def sum_over_orders(net: torch.nn.Module, design: Tensor, free: list[int]) -> float:
    """Σ_n 1/n · mean over the subsets of n hidden positions: −log p of a letter, averaged over all orders."""
    return sum(loss_of_hidden_set(net, design, s, 0.0) / len(s) / math.comb(len(free), len(s)) for s in subsets(free))


def sampled_loss(
    process: RevealingProcess | Finite, net: torch.nn.Module, design: Tensor, draws: int
) -> tuple[float, float]:
    """Mean of the loss and its standard error (too large, if anything: the draws are stratified)."""
    many = design.expand(draws, *design.shape)
    loss = process.denoising_loss(net, many, generator(99)).double()
    assert loss.shape == (draws,)
    return loss.mean().item(), (loss.std() / math.sqrt(draws)).item()


@pytest.mark.parametrize("held", [None, HELD], ids=["all free", "one held"])
@pytest.mark.parametrize("per_step", [1, 2])
def test_any_order_loss_is_the_sum_over_orders(held, per_step):
    net, design = Timed(1, 0.0), torch.tensor([1, 0, 1], dtype=torch.int8)
    exact = sum_over_orders(net, design, [0, 1, 2] if held is None else [1, 2])
    mean, error = sampled_loss(AnyOrder(L, V, held, per_step=per_step), net, design, 20_000)
    assert abs(mean - exact) < 4 * error


@pytest.mark.parametrize("held", [None, HELD], ids=["all free", "one held"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masked_loss_of_a_network_without_time_is_the_sum_over_orders(schedule, held):
    """∫ rate · Binomial(n; F, 1 − a) dt = 1/n for every schedule: the bound does not depend on it."""
    net, design = Timed(2, 0.0), torch.tensor([1, 1, 0], dtype=torch.int8)
    exact = sum_over_orders(net, design, [0, 1, 2] if held is None else [1, 2])
    mean, error = sampled_loss(Masked(L, V, held, schedule=schedule), net, design, 40_000)
    assert abs(mean - exact) < 4 * error


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masked_loss_of_a_network_with_time_is_its_integral(schedule):
    net, design, points = Timed(3, 1.5), torch.tensor([0, 1, 1], dtype=torch.int8), 400
    law_of_time = SCHEDULES[schedule]
    t = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    clean, rate = law_of_time.clean(t), law_of_time.rate(t)
    integrand = torch.zeros(points, dtype=torch.float64)
    for s in subsets([0, 1, 2]):
        losses = torch.tensor([loss_of_hidden_set(net, design, s, time.item()) for time in t], dtype=torch.float64)
        integrand += rate * (1 - clean) ** len(s) * clean ** (L - len(s)) * losses
    mean, error = sampled_loss(Masked(L, V, schedule=schedule), net, design, 40_000)
    assert abs(mean - integrand.mean().item()) < 4 * error


def test_any_order_loss_bounds_the_exact_log_likelihood():
    net = Timed(4, 0.0)
    policy = Policy(AnyOrder(L, V), net)
    gaps = []
    for design, mass in zip(DESIGNS, reveal_law(policy)):
        mean, error = sampled_loss(policy.process, net, design, 2000)
        gaps.append(mean + mass.log().item())
        assert gaps[-1] > -4 * error
    assert max(gaps) > 0.05, "a network whose letters depend on the order has a gap"


def test_any_order_loss_is_tight_for_the_conditionals_of_a_joint():
    joint = torch.tensor([0.05, 0.2, 0.1, 0.02, 0.3, 0.08, 0.15, 0.1], dtype=torch.float64)
    net = StateTable.of_joint(joint, V, L)
    for design, mass in zip(DESIGNS, joint):
        mean, error = sampled_loss(AnyOrder(L, V), net, design, 2000)
        assert abs(mean + mass.log().item()) < 4 * error + 1e-6


@pytest.mark.parametrize("held", [None, HELD], ids=["all free", "one held"])
def test_the_loss_from_left_to_right_is_minus_log_p(held):
    """Not a bound, for any network: log p read off the law that pushing mass through the kernels gives."""
    net, process = Timed(5, 0.0), AnyOrder(L, V, held, order="left_to_right")
    possible = [(design, mass) for design, mass in zip(DESIGNS, law(Policy(process, net))) if mass > 0]
    assert len(possible) == (8 if held is None else 4)
    for design, mass in possible:
        mean, error = sampled_loss(process, net, design, 4000)
        assert abs(mean + mass.log().item()) < 4 * error + 1e-6


S, K = 3, 3


def finite_bound(logits: Tensor, design: int) -> float:
    """E_q [ log q(x[1] … x[K−1] | design) − log p(path) ], q written out path by path."""
    log_p, total = logits.log_softmax(-1), 0.0
    for middle in itertools.product(range(S), repeat=K - 1):
        path = [0, *middle, design]
        q = math.prod(k / (k + 1) * (path[k] == path[k + 1]) + 1 / (k + 1) / S for k in range(1, K))
        p = sum(log_p[k, path[k], path[k + 1]].item() for k in range(K))
        total += q * (math.log(q) - p)
    return total


def test_finite_loss_is_the_variational_bound():
    logits = torch.randn(K, S, S, generator=generator(5), dtype=torch.float64)
    policy = Policy(Finite(S, K), Table(S, K, logits))
    masses = law(policy)
    with torch.no_grad():
        for design in range(S):
            exact = finite_bound(logits, design)
            mean, error = sampled_loss(policy.process, policy.net, torch.tensor(design, dtype=torch.int8), 20_000)
            assert abs(mean - exact) < 4 * error
            assert exact > -masses[design].log().item() + 0.05


def test_finite_loss_is_tight_for_the_table_that_reverses_the_noising():
    """p(y|x) ∝ q(x|y) q(y) by Bayes: the chain's law is the data's, and the loss averages to its entropy."""
    data = torch.tensor([0.55, 0.1, 0.35], dtype=torch.float64)
    marginal = [k / K * data + (1 - k / K) / S for k in range(K + 1)]
    noising = [k / (k + 1) * torch.eye(S).double() + 1 / (k + 1) / S for k in range(K)]  # [k][y, x]
    logits = torch.stack([(noising[k] * marginal[k + 1].unsqueeze(-1)).T.log() for k in range(K)])
    policy = Policy(Finite(S, K), Table(S, K, logits))
    torch.testing.assert_close(law(policy), data)
    bounds = torch.tensor([finite_bound(logits, d) for d in range(S)], dtype=torch.float64)
    assert (data * bounds).sum().item() == pytest.approx(-(data * data.log()).sum().item())
