"""Policies, roles and chains: what is recorded is recomputed step by step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biotilt.core import (
    Centred,
    Context,
    Guessing,
    Policy,
    Replay,
    Roles,
    Target,
    Tiltable,
    Trajectory,
    check_capabilities,
    draw_states,
    own_names,
    path_kl,
    rollout,
    sample,
    share,
)
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite, Masked
from biotilt.testing import law, path_kl_exact


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def finite(seed: int, states: int = 4, horizon: int = 3) -> Policy:
    logits = torch.randn(horizon, states, states, generator=generator(seed))
    return Policy(Finite(states, horizon), Table(states, horizon, logits))


def letters(seed: int, per_step: int = 1) -> Policy:
    logits = torch.randn(27, 3, 2, generator=generator(seed))
    return Policy(AnyOrder(3, 2, per_step=per_step), StateTable(2, 3, logits))


def test_roles_start_as_three_copies():
    base = finite(1)
    roles = Roles.start(base)
    nets = [base.net, roles.policy.net, roles.base.net, roles.proposal.net]
    assert len({id(net.logits) for net in nets}) == 4
    assert all(torch.equal(net.logits, base.net.logits) for net in nets)
    assert [net.logits.requires_grad for net in nets[1:]] == [True, False, False]
    frozen = Roles.start(base.frozen_copy())
    assert not frozen.policy.net.logits.requires_grad, "what was frozen stays so"


class Tied(nn.Module):
    """A frozen embedding that is also the head, a trained layer, a buffer and dropout."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.embed.weight.requires_grad_(False)
        self.register_buffer("scale", torch.tensor(2.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.layer(self.embed(x.long())))) * self.scale


def test_roles_share_what_is_frozen_and_own_the_rest():
    net = Tied().train()
    assert own_names(net) == ("layer.weight", "layer.bias")
    roles = Roles.start(Policy(Finite(5, 3), net))
    nets = (roles.policy.net, roles.base.net, roles.proposal.net, share(roles.policy.net))
    for other in nets:
        assert other.head.weight is other.embed.weight, "tied weights stay tied"
        assert other.embed.weight.data_ptr() == net.embed.weight.data_ptr()
        assert other.scale is net.scale
        assert not other.training, "dropout never acts"
        assert not other.embed.weight.requires_grad
    where = [other.layer.weight.data_ptr() for other in (net, *nets)]
    assert where[0] == where[2], "the base is the pretrained network itself"
    assert len(set(where)) == 4
    with torch.no_grad():
        roles.policy.net.layer.weight.add_(1.0)
    assert not torch.equal(roles.proposal.net.layer.weight, roles.policy.net.layer.weight)
    roles.refresh_proposal()
    assert torch.equal(roles.proposal.net.layer.weight, roles.policy.net.layer.weight)
    assert torch.equal(roles.base.net.layer.weight, net.layer.weight)


def test_refreshing_moves_the_proposal_only():
    roles = Roles.start(finite(1))
    before = roles.base.net.logits.clone()
    with torch.no_grad():
        roles.policy.net.logits += 1
    roles.refresh_proposal()
    assert torch.equal(roles.proposal.net.logits, roles.policy.net.logits)
    assert torch.equal(roles.base.net.logits, before)
    with torch.no_grad():
        roles.policy.net.logits += 1
    assert not torch.equal(roles.proposal.net.logits, roles.policy.net.logits)
    assert not roles.proposal.net.logits.requires_grad


@pytest.mark.parametrize("per_step", [1, 2])
def test_a_rollout_records_what_it_drew(per_step):
    policy, base = letters(1, per_step), letters(2, per_step)
    chain = rollout(policy, 50, generator(), base=base, terms=True)
    steps = policy.process.steps
    assert chain.states.shape == (steps + 1, 50, 3) and chain.steps == steps
    assert chain.log_prob is not None and chain.log_ratio is not None and chain.terms is not None
    assert chain.log_prob.shape == chain.log_ratio.shape == (steps, 50)
    assert torch.equal(chain.designs, chain.states[-1]) and (chain.designs < 2).all()
    for k in range(steps):
        x, y = chain.states[k], chain.states[k + 1]
        ours, theirs = policy.kernel(x, k).log_prob(y), base.kernel(x, k).log_prob(y)
        torch.testing.assert_close(chain.log_prob[k], ours)
        torch.testing.assert_close(chain.log_ratio[k], ours - theirs)
    # every letter is revealed once: the coordinates share out the ratio of the path
    torch.testing.assert_close(chain.terms.sum(-1), chain.log_ratio.sum(0), atol=1e-5, rtol=1e-5)
    # and each has the ratio of its own letter, read at the step that revealed it
    for b, i in ((0, 0), (7, 2), (23, 1)):
        k = int((chain.states[:, b, i] == 2).sum()) - 1
        x, letter = chain.states[k, b : b + 1], int(chain.designs[b, i])
        ratio = (policy.kernel(x, k).x0 - base.kernel(x, k).x0)[0, i, letter]
        torch.testing.assert_close(chain.terms[b, i], ratio)
    assert not chain.log_prob.requires_grad


def test_a_rollout_without_a_base_records_states_only():
    chain = rollout(finite(1), 5, generator())
    assert chain.log_prob is None and chain.log_ratio is None and chain.terms is None


def test_a_rollout_continues_given_states():
    """From step 1 of 3, states kept; and its designs have the law of the last two matrices."""
    policy = finite(3)
    start = torch.full((20_000,), 2, dtype=torch.int8)
    chain = rollout(policy, 20_000, generator(), base=finite(4), start=(start, 1))
    assert chain.steps == 2 and torch.equal(chain.states[0], start)
    assert chain.log_prob is not None and chain.log_prob.shape == (2, 20_000)
    p = policy.net.logits.softmax(-1)
    frequency = torch.bincount(chain.designs.long(), minlength=4) / 20_000
    assert (frequency - p[1, 2] @ p[2]).abs().max() < 0.015


def test_sampling_in_chunks_has_the_law_of_the_chain():
    policy = finite(5)
    drawn = sample(policy, 20_001, generator(), chunk=1000)
    assert drawn.shape == (20_001,)
    frequency = torch.bincount(drawn.long(), minlength=4) / len(drawn)
    assert (frequency - law(policy)).abs().max() < 0.015
    assert sample(policy, 3, generator(), chunk=512).shape == (3,)


def test_path_kl_averages_to_the_exact_one():
    p, q = finite(6), finite(7)
    drawn = path_kl(p, q, 20_000, generator())
    exact = path_kl_exact(p, q)
    assert drawn.shape == (20_000,) and drawn.mean().item() == pytest.approx(exact, rel=0.02)
    assert path_kl_exact(q, p) != pytest.approx(exact, rel=0.05)
    assert path_kl(p, p, 10, generator()).abs().max() < 1e-6


def test_chains_are_joined_side_by_side():
    policy, base = letters(1), letters(2)
    parts = [rollout(policy, n, generator(n), base=base, terms=True) for n in (2, 3)]
    joined = Trajectory.join(parts)
    assert joined.states.shape == (4, 5, 3) and joined.steps == 3
    for name, dim in (("states", 1), ("log_prob", 1), ("log_ratio", 1), ("terms", 0)):
        whole = getattr(joined, name)
        first, second = whole.split([2, 3], dim)
        assert torch.equal(first, getattr(parts[0], name)) and torch.equal(second, getattr(parts[1], name))
    mixed = Trajectory.join([parts[0], rollout(policy, 3, generator())])
    assert mixed.log_prob is None and mixed.terms is None and mixed.states.shape == (4, 5, 3)


def context() -> Context:
    return Context(Roles.start(finite(1)), Target(lambda d: d, 1.0), generator(), Replay(None))


def test_states_are_drawn_before_the_last_step_and_uniformly():
    """Every state of the chain says its step and its chain."""
    states = torch.arange(4).unsqueeze(-1) * 100 + torch.arange(5)
    chain = Trajectory(states)
    counts = torch.zeros(3, 5)
    shared = context()
    for _ in range(2000):
        x, k = draw_states(chain, 2, shared)
        assert len(set(x.tolist())) == 2 and torch.equal(x // 100, k) and (k < 3).all()
        counts.view(-1).index_add_(0, k * 5 + x % 100, torch.ones(2))
    assert (counts / 4000 - 1 / 15).abs().max() < 0.017
    x, _ = draw_states(chain, 99, shared)
    assert sorted(x.tolist()) == states[:3].flatten().tolist()


def test_a_missing_capability_names_the_processes_that_have_it():
    known = (AnyOrder, Masked, Finite)
    check_capabilities(AnyOrder(3, 2), (Guessing, Tiltable), "anything", known)
    with pytest.raises(ConfigError) as caught:
        check_capabilities(Finite(3, 2), (Tiltable, Guessing), 'value "posterior_mean"', known)
    message = str(caught.value)
    assert message.startswith('value "posterior_mean" needs kernels with guess, which the process "finite" has not')
    assert message.endswith("any_order, masked")
    with pytest.raises(ConfigError, match="have it: none"):
        check_capabilities(Finite(3, 2), (Centred,), "a bird", known)


class Half(nn.Module):
    """A network whose outputs have 16 bits."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits.bfloat16())

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1, -1)


def test_what_a_network_of_16_bits_says_is_summed_in_32():
    logits = torch.linspace(-3, 2, 80).view(40, 2).flip(0)
    policy = Policy(AnyOrder(40, 2, per_step=40), Half(logits))
    x = policy.process.noise(1, generator())
    y = torch.zeros_like(x)
    found = policy.log_prob(x, 0, y)
    # all letters at once: Σ_i log softmax(logits_i)[0] of the rounded logits, in more digits
    expected = logits.bfloat16().double().log_softmax(-1)[:, 0].sum()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double().squeeze(), expected, rtol=1e-6, atol=0)
    found.sum().backward()
    assert policy.net.logits.grad.dtype == torch.bfloat16
