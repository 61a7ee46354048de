"""Three positions, three letters: a base whose letters depend on one another, a reward with interactions, and p*."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.core import Context, Policy, Replay, Roles, StateFunction, Target, draw_loss
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder
from biotilt.testing import TableScorer, all_designs, tilted_law
from biotilt.testing.exact import lexicographic_index

L, V, ALPHA = 3, 3, 0.5
DESIGNS = all_designs(V, L)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REWARD = 0.8 * normal(V**L, seed=2)  # no two designs alike: every order of interaction is in it
JOINT = (0.8 * normal(V**L, seed=1)).softmax(0)
P_STAR, LOG_Z = tilted_law(JOINT, REWARD, ALPHA)
# independent letters, and a reward that is a sum over them
ALONE = 0.7 * normal(L, V, seed=11)
INDEPENDENT = ALONE[torch.arange(L), DESIGNS.long()].sum(-1).softmax(0)
ADDITIVE = (0.6 * normal(L, V, seed=12))[torch.arange(L), DESIGNS.long()].sum(-1)


class StateValues(nn.Module, StateFunction):
    """log Z of every state, looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros((V + 1) ** L))
        self.config = SimpleNamespace(lr=0.05)

    def set_units(self, complete: Tensor) -> None:
        pass

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return self.values[lexicographic_index(x, V + 1)]


def policy_of(joint: Tensor, process: AnyOrder | None = None) -> Policy:
    """Return the any-order policy whose letters are the conditionals of a law over all designs."""
    process = process or AnyOrder(L, V)
    table = StateTable.of_joint(joint.to(torch.get_default_dtype()), process.letters, process.length)
    return Policy(process, table)


def context_of(
    objective: Any, policy: Policy, *, base: Policy | None = None, proposal: Policy | None = None,
    scorer: Any = None, value: Any = None, alpha: float = ALPHA, seed: int = 0,
) -> Context:  # fmt: skip
    """Return a context; base and proposal are those of JOINT and of the policy unless given."""
    base = base or policy_of(JOINT)
    roles = Roles(policy, base.frozen_copy(), (proposal or policy).frozen_copy())
    scorer = scorer or TableScorer(policy.process, REWARD.to(torch.get_default_dtype()))
    generator = torch.Generator().manual_seed(seed)
    return Context(roles, Target(scorer, alpha), generator, Replay(objective.capacity), value)


class Ordered(Replay):
    """A replay whose draws are all its rows, in their order."""

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        return self.rows


def gradient(objective: Any, context: Context) -> Tensor:
    """Return the gradient of one loss with respect to the policy's table."""
    net = context.roles.policy.net
    net.zero_grad()
    draw_loss(objective, context)[0].backward()
    return net.logits.grad.clone()  # type: ignore[union-attr, operator]
