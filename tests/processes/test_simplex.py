"""The kernel of the simplex process against the reversed equation, quadrature and hand computation; held letters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from simplex_series import (
    DOUBLE,
    generator,
    random_net,
    score,
)
from torch import Tensor

from biotilt.core import Algorithm, Centred, Parts, Policy, check_parts, kernel_at, rollout
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.processes.jacobi import EPS, chain_times
from biotilt.processes.simplex import Simplex, probabilities_of


def test_the_mean_is_the_euler_step_of_the_reversed_equation(double):
    """v − h [f − (g²)′ − g² score], the score mixed letter by letter from differences of the series."""
    letters, k = 3, 4
    process, net = Simplex(1, letters, num_steps=12), random_net(3, 1)
    times = chain_times(12)
    x = torch.tensor([[[0.3, 0.6]], [[0.85, 0.1]], [[0.1, 0.93]]])
    kernel = kernel_at(process, net, x, k)
    weights = net(probabilities_of(x), torch.full((3,), 1 - k / 12)).softmax(-1).detach().numpy()[:, 0]
    h = times[k] - times[k + 1]
    for i in range(2):
        v, b = x[:, 0, i].numpy(), letters - 1 - i
        s = 2 / (1 + b)
        scores = [-(b - 1) / (1 - v)] * i + [score(b, times[k], 1, v)] + [score(b, times[k], 0, v)] * (letters - 1 - i)
        mixed = sum(weights[:, j] * scores[j] for j in range(letters))
        drift = s / 2 * ((1 - v) - b * v) - s * (1 - 2 * v) - s * v * (1 - v) * mixed
        np.testing.assert_allclose(kernel.mean[:, 0, i].detach().numpy(), v - h * drift, atol=1e-4)
        np.testing.assert_allclose(kernel.std[:, 0, i].numpy(), np.sqrt(h * s * v * (1 - v)), rtol=1e-9)


def test_log_prob_is_normalised_and_kl_agrees_by_quadrature(double):
    process = Simplex(1, 2, num_steps=12)
    p, q = random_net(2, 2), random_net(2, 3)
    for k, state in itertools.product((0, 5, 11), (-0.2, 0.3, 0.999)):
        x = torch.full((1, 1, 1), state)
        kernel, other = kernel_at(process, p, x, k), kernel_at(process, q, x, k)
        width = 12 * kernel.std.item()
        y = torch.linspace(kernel.mean.item() - width, kernel.mean.item() + width, 4001).view(-1, 1, 1)
        many, theirs = (kernel_at(process, net, x.expand(4001, 1, 1), k).log_prob(y) for net in (p, q))
        mass = many.exp() * (y[1] - y[0]).item()
        assert mass.sum().item() == pytest.approx(1, abs=1e-6)
        assert (mass * (many - theirs)).sum().item() == pytest.approx(kernel.kl(other).item(), rel=1e-5, abs=1e-9)
        assert kernel.kl(other) > 0


def test_samples_have_the_moments_of_the_kernel(double):
    process, draws = Simplex(2, 3, num_steps=12), 20_000
    x = torch.tensor([[0.3, 0.6], [0.9, 1.05]]).expand(draws, 2, 2)
    kernel = kernel_at(process, random_net(3, 4), x, 6)
    y = kernel.sample(generator(9))
    mean, std = kernel.mean[0].detach(), kernel.std[0].detach()
    assert ((y.mean(0) - mean).abs() < 4.5 * std / math.sqrt(draws)).all()
    assert ((y.std(0) / std - 1).abs() < 4.5 / math.sqrt(2 * draws)).all()
    by_hand = torch.distributions.Normal(mean, std).log_prob(y[:5])
    torch.testing.assert_close(kernel.terms(y)[:5].detach(), by_hand.sum(-1))
    torch.testing.assert_close(kernel.log_prob(y)[:5].detach(), by_hand.sum((-1, -2)))


def test_a_step_reads_the_state_as_if_inside_and_has_a_width_there(double):
    process, net = Simplex(1, 3, num_steps=12), random_net(3, 5)
    outside = kernel_at(process, net, torch.tensor([[[-0.4, 1.3]]]), 3)
    edge = kernel_at(process, net, torch.tensor([[[EPS, 1 - EPS]]]), 3)
    torch.testing.assert_close(outside.mean, edge.mean)
    torch.testing.assert_close(outside.std, edge.std)
    assert (outside.std > 0).all()


def test_mix_is_the_kernel_of_the_averaged_letters(double):
    """The mean is linear in the letters, so the mixture of kernels is the kernel of their mixture."""
    process, x = Simplex(2, 4), torch.rand(6, 2, 3, generator=generator(10), dtype=DOUBLE)
    p, q, weight = random_net(4, 6), random_net(4, 7), 0.3
    mixed = kernel_at(process, p, x, 40).mix(kernel_at(process, q, x, 40), weight)

    def averaged(state: Tensor, t: Tensor) -> Tensor:
        return ((1 - weight) * p(state, t).softmax(-1) + weight * q(state, t).softmax(-1)).log()

    direct = kernel_at(process, averaged, x, 40)
    torch.testing.assert_close(mixed.mean, direct.mean)
    torch.testing.assert_close(mixed.x0, direct.x0)
    torch.testing.assert_close(mixed.std, direct.std)
    tilt = torch.randn(x.shape, generator=generator(11))
    y, z = direct.sample(generator(12)), direct.sample(generator(13))
    gain = direct.tilted(tilt).log_prob(y) - direct.log_prob(y) - (tilt * y).sum((1, 2))
    torch.testing.assert_close(
        gain, direct.tilted(tilt).log_prob(z) - direct.log_prob(z) - (tilt * z).sum((1, 2)), atol=1e-8, rtol=1e-8
    )


def test_guess_expected_and_posterior_log_prob_are_of_letters(double):
    process, net = Simplex(2, 3), random_net(3, 8)
    x = torch.rand(1, 2, 2, generator=generator(14)).expand(4000, 2, 2)
    kernel = kernel_at(process, net, x, 50)
    p = net(probabilities_of(x[:1]), torch.tensor([0.5])).softmax(-1)[0].detach()
    torch.testing.assert_close(kernel.expected()[0].detach(), p)
    assert torch.equal(process.tokens(kernel.guess())[0].long(), p.argmax(-1))
    drawn = process.tokens(kernel.guess(generator(15)))
    for i, letter in itertools.product(range(2), range(3)):
        wanted = p[i, letter].item()
        seen = (drawn[:, i] == letter).double().mean().item()
        assert abs(seen - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / 4000) + 1e-9
    design = process.vertices(torch.tensor([[2, 0]])).expand_as(x)
    wanted = (p[0, 2].log() + p[1, 0].log()).expand(4000)
    torch.testing.assert_close(kernel.posterior_log_prob(design).detach(), wanted)


def test_gradients_flow_through_a_chain(double):
    """rsample and relaxed_design, against differences in the first state with the same noise."""
    process, net = Simplex(2, 3, num_steps=20), random_net(3, 9)
    weight = torch.randn(2, 3, generator=generator(16))

    def end(x: Tensor) -> Tensor:
        g = generator(17)
        for k in range(15, 18):
            x = kernel_at(process, net, process.relaxed(x), k).rsample(g)
        return (process.relaxed_design(x) * weight).sum()

    start = process.corrupt(torch.tensor([[1, 2]]), 15, generator(18)).requires_grad_(True)
    (slope,) = torch.autograd.grad(end(start), start)
    for place in itertools.product([0], range(2), range(2)):
        nudge = torch.zeros_like(start)
        nudge[place] = 1e-6
        numeric = (end(start + nudge) - end(start - nudge)).item() / 2e-6
        assert slope[place].item() == pytest.approx(numeric, rel=1e-4, abs=1e-6)
    assert slope.abs().min() > 1e-4


def test_steps_given_one_by_one_agree_with_a_tensor_of_steps():
    process, net = Simplex(2, 4, num_steps=12), random_net(4, 10)
    net = net.float()
    x = torch.rand(2, 2, 3, generator=generator(19))
    both = kernel_at(process, net, x, torch.tensor([11, 3]))
    for row, k in enumerate((11, 3)):
        torch.testing.assert_close(both.mean[row : row + 1], kernel_at(process, net, x[row : row + 1], k).mean)
        torch.testing.assert_close(both.std[row : row + 1], kernel_at(process, net, x[row : row + 1], k).std)


HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([-1, 2, -1], dtype=torch.int8))


def test_fixed_letters_never_move():
    process, net = Simplex(3, 4, HELD, num_steps=10), random_net(4, 11).float()
    vertex, g = torch.tensor([0.0, 0.0, 1.0]), generator(29)
    design = torch.tensor([[0, 2, 3], [1, 2, 1]], dtype=torch.int8)
    assert (process.corrupt(design, 4, g)[:, 1] == vertex).all()
    chain = rollout(Policy(process, net), 50, g)
    assert (chain.states[:, :, 1] == vertex).all() and (chain.states[1:, :, 0] != chain.states[:-1, :, 0]).all()
    kernel = kernel_at(process, net, chain.states[3], 3)
    assert (kernel.rsample(g)[:, 1] == vertex).all() and (kernel.guess(g)[:, 1] == vertex).all()
    y = kernel.sample(g)
    assert kernel.terms(y).shape == (50, 3) and (kernel.terms(y)[:, 1] == 0).all()
    assert (kernel.tilted(torch.ones_like(y)).sample(g)[:, 1] == vertex).all()
    assert (kernel.expected()[:, 1].argmax(-1) == 2).all()
    right, wrong = (process.vertices(torch.tensor([[0, letter, 3]])).expand(50, 3, 3) for letter in (2, 1))
    torch.testing.assert_close(
        kernel.posterior_log_prob(right), kernel.x0[:, 0, 0] + kernel.x0[:, 2, 3], rtol=1e-5, atol=1e-5
    )
    assert (kernel.posterior_log_prob(wrong) == -torch.inf).all()
    assert process.free == 2


def test_the_loss_ignores_fixed_letters():
    process, logits = Simplex(3, 4, HELD), torch.zeros(3, 4, requires_grad=True)
    design = torch.tensor([1, 2, 0], dtype=torch.int8).expand(64, 3)
    process.denoising_loss(lambda p, t: logits.expand(len(p), 3, 4), design, generator(30)).mean().backward()
    assert logits.grad is not None
    assert (logits.grad[1] == 0).all() and (logits.grad[[0, 2]] != 0).any(-1).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="num_steps must be ≥ 1, got 0"):
        Simplex(3, 4, num_steps=0)
    with pytest.raises(ConfigError, match="letters must be ≥ 2, got 1"):
        Simplex(3, 1)

    class NeedsMean(Algorithm):
        name = "adjoint"
        needs = (Centred,)

    with pytest.raises(ConfigError, match="noise depends on the state"):
        check_parts(NeedsMean(), Parts(Simplex(3, 4)))
