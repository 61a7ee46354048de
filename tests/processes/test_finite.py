"""The finite chain against sums over its states."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.networks.table import Table
from biotilt.processes import Finite

S, K = 4, 3
EVERY = torch.arange(S, dtype=torch.int8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_policy(seed: int) -> Policy:
    logits = 1.5 * torch.randn(K, S, S, generator=generator(seed), dtype=torch.float64)
    return Policy(Finite(S, K), Table(S, K, logits))


def probabilities(policy: Policy, k: int) -> Tensor:
    return policy.net.logits[k].detach().softmax(-1)


@pytest.mark.parametrize("k", [0, 1, K - 1])
def test_log_prob_is_the_softmax_of_the_row(k):
    policy = random_policy(1)
    for y in EVERY:
        kernel = policy.kernel(EVERY, k)
        torch.testing.assert_close(kernel.log_prob(y.expand(S)).exp(), probabilities(policy, k)[:, int(y)])
        torch.testing.assert_close(kernel.terms(y.expand(S)), kernel.log_prob(y.expand(S)).unsqueeze(-1))


def test_a_tensor_of_steps_picks_each_row_of_its_step():
    policy = random_policy(2)
    kernel = policy.kernel(EVERY, torch.tensor([2, 0, 1, 2]))
    wanted = torch.stack([probabilities(policy, k)[x] for x, k in enumerate((2, 0, 1, 2))])
    torch.testing.assert_close(kernel.x0.exp(), wanted)


def test_kl_tilted_and_mix_by_their_definitions():
    p, other, k = random_policy(3), random_policy(4), 1
    ours, theirs = probabilities(p, k), probabilities(other, k)
    q = torch.randn(S, S, generator=generator(5), dtype=torch.float64)
    kernel, second = p.kernel(EVERY, k), other.kernel(EVERY, k)
    torch.testing.assert_close(kernel.kl(second), (ours * (ours / theirs).log()).sum(-1))
    tilted, mixed = ours * q.exp(), ours**0.3 * theirs**0.7
    torch.testing.assert_close(kernel.tilted(q).x0.exp(), tilted / tilted.sum(-1, keepdim=True))
    torch.testing.assert_close(kernel.mix(second, 0.7).x0.exp(), mixed / mixed.sum(-1, keepdim=True))


def test_samples_follow_log_prob():
    policy, draws = random_policy(6), 20_000
    y = policy.kernel(torch.full((draws,), 2, dtype=torch.int8), 1).sample(generator(7))
    expected = draws * probabilities(policy, 1)[2]
    chi2 = ((y.long().bincount(minlength=S) - expected).square() / expected).sum().item()
    assert y.dtype == torch.int8
    assert chi2 < (S - 1) + 6 * math.sqrt(2 * (S - 1))


@pytest.mark.parametrize(("states", "dtype"), [(128, torch.int8), (129, torch.int16), (32768, torch.int16)])
def test_states_take_the_smallest_type_and_start_at_zero(states, dtype):
    process = Finite(states, K)
    x = process.noise(2000, generator())
    drawn = process.corrupt(torch.full_like(x, states - 1), torch.ones(2000, dtype=torch.long), generator(8))
    assert (x == 0).all() and x.dtype == drawn.dtype == dtype
    assert drawn.min() >= 0 and drawn.max() == states - 1


def test_corrupt_keeps_with_probability_k_over_K():
    process, draws = Finite(S, K), 9000
    design = torch.full((draws,), 3, dtype=torch.int8)
    assert (process.corrupt(design, 0, generator()) == 0).all()
    assert (process.corrupt(design, K, generator()) == 3).all()
    seen = process.corrupt(design, 2, generator(9)).long().bincount(minlength=S)
    expected = draws * (1 / 3 / S + torch.tensor([0, 0, 0, 2 / 3]))
    assert ((seen - expected).square() / expected).sum() < 3 + 6 * math.sqrt(6)


def test_draws_are_reproduced_by_the_generator():
    policy, x = random_policy(10), torch.zeros(200, dtype=torch.int8)

    def draws(seed: int) -> Tensor:
        g = generator(seed)
        return torch.stack([policy.kernel(x, 0).sample(g), policy.process.corrupt(x + 1, 1, g)])

    assert torch.equal(draws(1), draws(1))
    assert all((a != b).any() for a, b in zip(draws(1), draws(2)))


@pytest.mark.parametrize(
    ("states", "horizon", "message"),
    [(1, 3, "states must be ≥ 2, got 1"), (32769, 3, "states must be ≤ 32768"), (4, 0, "horizon must be ≥ 1, got 0")],
)
def test_impossible_chains_are_refused(states, horizon, message):
    with pytest.raises(ConfigError, match=message):
        Finite(states, horizon)
