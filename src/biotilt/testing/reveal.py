"""Exact answers for one-letter-a-step reveal chains, over all (V+1)^L states: letters V, length L.

A state with n hidden positions leads only to states with n − 1, so one pass over the levels of n is enough;
each state is a number whose neighbours are found by arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from biotilt.core.policy import Policy
from biotilt.errors import ConfigError
from biotilt.processes.any_order import AnyOrder
from biotilt.testing.exact import all_designs, all_states, lexicographic, lexicographic_index, place_values

_CHUNK = 16384


class Fan(NamedTuple):
    """States `(B,)`, `children` `(B, L, V)` and their log-probabilities, −inf where i is shown already."""

    states: Tensor
    children: Tensor
    log_prob: Tensor


def reveal_children(states: Tensor, letters: int, length: int) -> tuple[Tensor, Tensor]:
    """Return the states `(B, L, V)` got by showing letter a at position i, and whether i is hidden `(B, L)`.

    Where i is not hidden the child is the state itself.
    """
    hidden = lexicographic(states, letters + 1, length) == letters
    # the hidden token is the last letter, V: showing letter a moves the state down by V − a places
    offsets = (torch.arange(letters) - letters) * place_values(letters + 1, length).unsqueeze(-1)
    return states.view(-1, 1, 1) + offsets * hidden.unsqueeze(-1), hidden


def one_letter_process(policy: Policy) -> AnyOrder:
    """Return the process of the policy, or raise ConfigError unless it is any-order, random, with per_step = 1."""
    process = policy.process
    if not isinstance(process, AnyOrder) or process.per_step != 1 or process.order != "random":
        raise ConfigError(
            f'this exact answer needs the process "any_order" with per_step = 1 in random order, got "{process.name}"; '
            "the general route is biotilt.testing.law and soft_values"
        )
    return process


@torch.no_grad()
def _fans(policy: Policy, states: Tensor) -> Iterator[Fan]:
    """Yield what follows states with hidden positions `(N,)`: the network is called on each once."""
    process = one_letter_process(policy)
    for chunk in states.split(_CHUNK):
        children, hidden = reveal_children(chunk, process.letters, process.length)
        x = lexicographic(chunk, process.letters + 1, process.length)
        letters = policy.kernel(x, process.step_of(x)).x0.double().log_softmax(-1)
        position = -hidden.sum(-1).double().log().view(-1, 1, 1)
        yield Fan(chunk, children, (letters + position).masked_fill(~hidden.unsqueeze(-1), -torch.inf))


def _hidden_counts(process: AnyOrder) -> Tensor:
    return (all_states(process.letters, process.length) == process.letters).sum(-1)


def reveal_law(policy: Policy) -> Tensor:
    """Return the law over all designs, lexicographic `(V^L,)`, of an any-order policy with per_step = 1.

    Raises:
        ConfigError: another process, or several letters a step.
    """
    process = one_letter_process(policy)
    counts = _hidden_counts(process)
    mass = torch.zeros(len(counts), dtype=torch.float64)
    mass[lexicographic_index(process.noise(1, torch.Generator()), process.letters + 1)] = 1
    for count in range(process.free, 0, -1):
        for fan in _fans(policy, ((counts == count) & (mass > 0)).nonzero().squeeze(-1)):
            moved = mass[fan.states].view(-1, 1, 1) * fan.log_prob.exp()
            mass.index_add_(0, fan.children.flatten(), moved.flatten())
    return mass[lexicographic_index(all_designs(process.letters, process.length), process.letters + 1)]


def reveal_soft_values(base: Policy, reward: Tensor, alpha: float) -> Tensor:
    """Return v(x) = α log E_base[exp(r/α) | x] in units of reward, over `all_states` `((V+1)^L,)`.

    `base`: any-order with per_step = 1, whose states tell their step. `reward` `(V^L,)` of `all_designs`;
    `alpha` > 0. −inf where no feasible design can be reached.

    Raises:
        ConfigError: another process, or several letters a step.
    """
    process = one_letter_process(base)
    counts = _hidden_counts(process)
    # not empty: a shown position leads to the state itself, and −inf plus leftover memory can be NaN
    scaled = torch.zeros(len(counts), dtype=torch.float64)
    scaled[lexicographic_index(all_designs(process.letters, process.length), process.letters + 1)] = (
        reward.double() / alpha
    )
    for count in range(1, process.length + 1):
        for fan in _fans(base, (counts == count).nonzero().squeeze(-1)):
            scaled[fan.states] = (fan.log_prob + scaled[fan.children]).flatten(1).logsumexp(-1)
    return alpha * scaled
