"""Steps that reveal nothing: no network is asked for them, and every number is what it would be if it were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Foreseeing, Policy, rollout, sample
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig
from biotilt.networks.conditional import Conditional
from biotilt.processes import AnyOrder, Masked, Uniform
from biotilt.processes.conditioned import conditioned
from biotilt.testing import RowCounter, Rows

L, V, K, N = 4, 3, 12, 30
MASKED = Masked(L, V, num_steps=K)

pytestmark = pytest.mark.usefixtures("double")


def policy(seed: int, process=MASKED, *, time: bool = False) -> Policy:
    torch.manual_seed(seed)
    net = MLP(MLPConfig(V, L, 16, 1, time=time))
    nn.init.normal_(net.layers[-1].weight)
    return Policy(process, net)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def changes(states: Tensor) -> Tensor:
    """Which steps `(K, N)` of chains changed something."""
    return (states[1:] != states[:-1]).any(-1)


@pytest.mark.parametrize("time", [False, True])
def test_chains_are_those_of_a_network_that_is_asked_at_every_step(time):
    """And the network is asked for each step that changed something, whether it reads the time or not.

    About the noise it is asked once, since all chains start there.
    """
    ours, x = policy(1, time=time), MASKED.noise(N, generator())
    states, draws = [x], generator()
    for k in range(K):
        states.append(ours.kernel(states[-1], k).sample(draws))
    with RowCounter(policy=ours.net) as rows:
        chain = rollout(ours, N, generator())
    assert torch.equal(chain.states, torch.stack(states))
    moved = int(changes(chain.states).sum())
    assert 0.2 * N * K < moved < 0.4 * N * K
    started = int(changes(chain.states)[0].sum())
    assert rows["policy"] == Rows(moved - started + 1) and started > 1
    with RowCounter(policy=ours.net) as rows:
        assert torch.equal(sample(ours, N, generator()), chain.designs)
    assert rows["policy"] == Rows(moved - started + 1)


@pytest.mark.parametrize("process", [MASKED, AnyOrder(L, V, per_step=2)], ids=lambda p: p.name)
def test_what_chance_decides_depends_on_no_network(process):
    """And a draw that is decided before and then followed is the draw of `sample`."""
    ours, other = policy(1, process), policy(2, process)
    x = process.corrupt(torch.randint(V, (N, L), generator=generator()).to(process.token_type), 1, generator())
    one, two = (each.kernel_as(Foreseeing, x, 1) for each in (ours, other))
    for mine, theirs in zip(one.chance(generator()), two.chance(generator())):
        assert torch.equal(mine, theirs)
    chance = one.chance(generator())
    y = one.follow(chance)
    assert torch.equal(y, one.sample(generator())) and not torch.equal(y, two.sample(generator()))
    assert torch.equal(y != x, chance.chosen)


def test_the_chains_of_several_conditions_are_those_of_kernels_too():
    process = conditioned(MASKED, (0.3, 0.7))
    net = Conditional(CNN(CNNConfig(V, L, channels=8, blocks=1, conditions=2)), torch.arange(2), mark=process.mark)
    ours, x = Policy(process, net), process.noise(N, draws := generator())
    for k in range(K):
        x = ours.kernel(x, k).sample(draws)
    with RowCounter(policy=net) as rows:
        chain = rollout(ours, N, generator())
    assert torch.equal(chain.designs, x)
    assert rows["policy"] == Rows(int(changes(chain.states).sum()))


@pytest.mark.parametrize("terms", [False, True])
def test_ratios_to_the_base_are_those_of_all_steps(terms):
    """A step that reveals nothing has the ratio 1, whatever the networks say: the base is asked for the others."""
    ours, base = policy(1, time=True), policy(2, time=True)
    with RowCounter(base=base.net) as rows:
        chain = rollout(ours, N, generator(), base=base, terms=terms)
    started = int(changes(chain.states)[0].sum())
    assert rows["base"] == Rows(int(changes(chain.states).sum()) - started + 1)
    by_letter = torch.zeros(N, L)
    for k in range(K):
        x, y = chain.states[k], chain.states[k + 1]
        one, other = ours.kernel(x, k), base.kernel(x, k)
        torch.testing.assert_close(chain.log_prob[k], one.log_prob(y))
        torch.testing.assert_close(chain.log_ratio[k], one.log_prob(y) - other.log_prob(y))
        by_letter += (one.terms(y) - other.terms(y)).detach()
    assert not terms or torch.testing.assert_close(chain.terms, by_letter) is None


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("process", [MASKED, AnyOrder(L, V), Uniform(L, V, num_steps=6)], ids=lambda p: p.name)
def test_log_probabilities_and_their_gradient(process, whole):
    """Of all steps, and of those alone that reveal nothing, which have no gradient."""
    ours = policy(1, process, time=True)
    chain = rollout(ours, N, generator()).states
    steps = len(chain) - 1
    x, y = chain[:-1].flatten(0, 1), chain[1:].flatten(0, 1)
    k = torch.arange(steps).repeat_interleave(N)
    if not whole and process is MASKED:
        still = (x == y).all(-1)
        x, y, k = x[still], y[still], k[still]
    with RowCounter(policy=ours.net) as rows:
        found = ours.log_prob(x, k, y)
        found.square().sum().backward()
    grads = [p.grad.clone() for p in ours.net.parameters()]
    ours.net.zero_grad()
    expected = ours.kernel(x, k).log_prob(y)
    expected.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for one, other in zip(grads, (p.grad for p in ours.net.parameters())):
        torch.testing.assert_close(one, other)
    if process is MASKED:
        moved = int((x != y).any(-1).sum())
        assert rows["policy"] == Rows(plain=1, graph=max(moved, 1)) and (moved > 0) == whole
    else:
        assert rows["policy"] == Rows(graph=len(x))


def test_children_that_are_their_parent_are_not_asked_again():
    ours = policy(1)
    here = ours.at(MASKED.noise(5, generator()), 0)
    draws = generator()
    y = torch.stack([here.kernel.sample(draws) for _ in range(7)])
    with RowCounter(policy=ours.net) as rows:
        there = here.after(y.flatten(0, 1))
        log_prob = there.kernel.x0
    assert rows["policy"] == Rows(graph=int((y != here.x).any(-1).sum()))
    torch.testing.assert_close(log_prob, ours.kernel(y.flatten(0, 1), 1).x0)
    some = torch.tensor([3, 0, 33])
    with RowCounter(policy=ours.net) as rows:
        torch.testing.assert_close(there[some].kernel.x0, log_prob[some])
    assert rows["policy"] == Rows()
