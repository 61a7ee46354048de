"""The law of the designs and the loss of the simplex process: exact posteriors, quadrature, and networks that learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from simplex_series import (
    Posterior,
    density,
    frequencies,
    generator,
    score,
)
from torch import Tensor

from biotilt.core import Policy, sample
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig
from biotilt.processes.jacobi import chain_times
from biotilt.processes.simplex import Simplex


def test_the_chain_of_the_exact_posterior_gives_back_the_data():
    """Two dependent letters; the bias of finite steps falls as 1/K: about 0.03 at K = 25 for this law."""
    joint = torch.tensor([0.30, 0.02, 0.05, 0.03, 0.12, 0.05, 0.01, 0.04, 0.38])
    draws, distance = 6000, []
    for steps in (25, 100):
        process = Simplex(2, 3, num_steps=steps)
        x = sample(Policy(process, Posterior(process, joint)), draws, generator(20), chunk=draws)
        distance.append((frequencies(process, x) - joint).abs().sum().item() / 2)
    # the noise of the counts alone makes 0.011 on average
    assert distance[1] < 0.03
    assert distance[1] < distance[0]


def losses_of(net: torch.nn.Module, process: Simplex, draws: int = 10_000) -> Tensor:
    """Losses `(V, draws)` of designs of one letter, with the same noise for every network."""
    designs = torch.arange(process.letters, dtype=torch.int8).view(-1, 1, 1).expand(-1, draws, 1)
    losses = [process.denoising_loss(net, design, generator(21 + i)) for i, design in enumerate(designs)]
    return torch.stack(losses)


def mean_over_data(losses: Tensor, law: Tensor) -> tuple[float, float]:
    """The mean over data of losses `(V, draws)`, and its standard error (too large: the draws are stratified)."""
    error = (law.square() * losses.var(1)).sum() / losses.shape[1]
    return (law * losses.mean(1)).sum().item(), error.sqrt().item()


class OnNodes(torch.nn.Module):
    """The posterior of a chain whose steps are the nodes of the loss, its logits times a factor."""

    def __init__(self, letters: int, law: Tensor, factor: float = 1.0):
        super().__init__()
        self.exact, self.factor = Posterior(Simplex(1, letters, num_steps=127), law), factor

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return self.exact(p, t) * self.factor


def test_the_loss_of_the_exact_posterior_is_the_entropy_of_the_data(double):
    law = torch.tensor([0.7, 0.05, 0.25])
    process = Simplex(1, 3)
    entropy = -(law * law.log()).sum().item()
    exact = losses_of(OnNodes(3, law), process)
    mean, error = mean_over_data(exact, law)
    assert error < 0.03
    assert abs(mean - entropy) < 4 * error
    for wrong in (OnNodes(3, law, 0.5), OnNodes(3, law, 2.0)):
        more, its_error = mean_over_data(losses_of(wrong, process) - exact, law)
        assert more > 4 * its_error
    # the posterior of another law reverses the noising of that law: the bound is as tight as for its own
    other = torch.tensor([0.2, 0.3, 0.5])
    more, its_error = mean_over_data(losses_of(OnNodes(3, other), process) - exact, law)
    assert abs(more - (law * (law / other).log()).sum().item()) < 4 * its_error


def test_the_loss_is_the_girsanov_integral_by_quadrature(double):
    """½ ∫ E_q g² (score given x0 − model's score)² dt for V = 2, with densities and scores of the series.

    The network is sure of the truth where the series is not reliable, at small times: nothing is lost there.
    """
    process = Simplex(1, 2)

    def net(p: Tensor, t: Tensor) -> Tensor:
        # the clock of the nodes to the clock of the diffusion
        late = torch.from_numpy(np.interp(t.numpy(), np.arange(128) / 127, chain_times(127)[::-1]))
        sure = torch.where(late < 0.25, 60.0, 0.0).view(-1, 1, 1)
        return torch.stack([1.5 * p[..., 0] - 0.4, torch.zeros_like(p[..., 0])], -1) + sure * torch.tensor([1.0, -1.0])

    times = np.geomspace(0.25, 6, 61)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    v, weights = (nodes + 1) / 2, weights / 2
    pi = 1 / (1 + np.exp(-(1.5 * v - 0.4)))
    rates = []
    for t in times:
        ones, zeros = score(1, t, 1, v), score(1, t, 0, v)
        gap = (1 - pi) * (ones - zeros)
        rates.append((weights * density(1, t, 1, v) * v * (1 - v) * gap**2).sum() / 2)
    integral = np.trapezoid(np.array(rates) * times, np.log(times))
    loss = process.denoising_loss(net, torch.zeros(60_000, 1, dtype=torch.int8), generator(24))
    error = (loss.std() / math.sqrt(len(loss))).item()
    # half a node at the edge of 0.25 is the resolution of the trapezoid sum
    assert loss.mean().item() == pytest.approx(integral, abs=4 * error + 0.02)
    assert integral > 0.2


def test_the_loss_bounds_minus_log_p_of_the_network_that_ignores_the_state(double):
    """Such a chain is stationary, so its letters are those of the nearest vertex of a flat Dirichlet draw: 1/V."""
    process = Simplex(1, 4)
    loss = process.denoising_loss(lambda p, t: torch.zeros_like(p), torch.zeros(500, 1, dtype=torch.int8), generator())
    assert loss.mean() > math.log(4)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_network_learns_the_law_of_the_data(kind):
    """Three letters that depend on each other: the bound comes close to the entropy, and the designs to the law."""
    length, letters = 3, 3
    words = torch.tensor([[0, 1, 2], [2, 2, 0], [1, 1, 1], [0, 0, 2]], dtype=torch.int8)
    law = torch.tensor([0.5, 0.25, 0.15, 0.1])
    entropy = -(law * law.log()).sum().item()
    torch.manual_seed(0)
    if kind == "mlp":
        net: torch.nn.Module = MLP(MLPConfig(letters, length, width=64, time=True))
    else:
        net = CNN(CNNConfig(letters, length, channels=24, blocks=2, kernel=3, time=True))
    process, g = Simplex(length, letters, num_steps=40), generator(25)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 250)

    def bound() -> float:
        with torch.no_grad():
            rows = torch.multinomial(law, 8000, replacement=True, generator=generator(26))
            return process.denoising_loss(net, words[rows], generator(27)).mean().item()

    before = bound()
    for _ in range(250):
        rows = torch.multinomial(law, 128, replacement=True, generator=g)
        loss = process.denoising_loss(net, words[rows], g).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    after = bound()
    # its standard error is 0.08
    assert before > 50 * entropy and entropy - 0.3 < after < entropy + 0.5
    wanted = torch.zeros(27)
    wanted[(words.long() * torch.tensor([9, 3, 1])).sum(-1)] = law
    x = sample(Policy(process, net), 2000, generator(28), chunk=2000)
    assert (frequencies(process, x) - wanted).abs().sum() / 2 < 0.15
