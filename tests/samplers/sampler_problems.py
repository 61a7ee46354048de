"""Small problems with known answers that the tests of several samplers share."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from biotilt.core import Context, Evaluates, Policy, Roles, Target
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite, Masked, Uniform
from biotilt.testing import TableScorer

ALPHA = 0.7
PROCESSES: dict[str, Any] = {
    "one letter a step": AnyOrder(3, 3),
    "two letters a step": AnyOrder(3, 3, per_step=2),
    "masked": Masked(3, 3, num_steps=3),
    "uniform": Uniform(3, 3, num_steps=2),
    "finite": Finite(5, 3),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def reward_of(process: Any) -> Tensor:
    """An asymmetric reward: no letter, position or state is like another."""
    return normal(5 if isinstance(process, Finite) else 27, seed=2)


def base_of(process: Any) -> Policy:
    if isinstance(process, Finite):
        return Policy(process, Table(5, 3, normal(3, 5, 5, seed=1)))
    return Policy(process, StateTable.of_joint(normal(27, seed=1).exp(), 3, 3))


def tuned_of(process: Any) -> Policy:
    """Somewhere on the way to p*, and off it: other logits at every state."""
    net = base_of(process).net
    with torch.no_grad():
        net.logits += 0.5 * normal(*net.logits.shape, seed=3)  # type: ignore[operator]
        net.logits[..., 0] += 0.3  # type: ignore[index]
    return Policy(process, net)


def context_of(
    base: Policy,
    scorer: Any = None,
    *,
    proposal: Policy | None = None,
    value: Any = None,
    seed: int = 0,
) -> Context:
    """A context whose scorer is the table of `reward_of` unless another is given."""
    roles = Roles.start(base)
    if proposal is not None:
        roles.proposal = proposal.frozen_copy()
    scorer = scorer or TableScorer(base.process, reward_of(base.process))
    return Context(roles, Target(scorer, ALPHA), generator(seed), value=value)


class TableValue(Evaluates):
    """Values `(K, S)` of the states of a finite chain, looked up; it remembers what it was asked."""

    def __init__(self, table: Tensor):
        self.table, self.asked = table, []

    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        self.asked.append((int(k), x.clone()))
        return self.table[k, x.long()]


class Watching(torch.nn.Module):
    """A network that counts how many of the states it was shown are still kept by someone."""

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net, self.shown, self.most = net, [], 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.shown.append(weakref.ref(x))
        self.most = max(self.most, sum(ref() is not None for ref in self.shown))
        return self.net(x, t)
