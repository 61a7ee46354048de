"""The counter of network rows, by hand."""

from __future__ import annotations

import torch

from biotilt.core import Context, Policy, Replay, Roles, Target, rollout
from biotilt.networks import value_network
from biotilt.networks.mlp import MLP, MLPConfig
from biotilt.processes import AnyOrder
from biotilt.testing import RowCounter, Rows
from biotilt.values import LearnedValueConfig, Return
from biotilt.values.reused import Reused


def context() -> Context:
    process = AnyOrder(6, 3, per_step=2)
    base = Policy(process, MLP(MLPConfig(3, 6, 8)))
    value = Return(value_network(base), process, "return", LearnedValueConfig())
    return Context(
        Roles.start(base), Target(lambda designs: designs.sum(-1).float(), 1.0), torch.Generator(), Replay(None), value
    )


def test_rows_are_counted_by_role_and_by_graph():
    shared = context()
    roles, value = shared.roles, shared.value
    assert isinstance(value, Return)
    with RowCounter.of(shared) as rows:
        rollout(roles.proposal, 5, shared.generator, base=roles.base)
        x = roles.base.process.noise(7, shared.generator)
        value.action_value(shared, x, 0)
        roles.policy.kernel(x, 0)
        with torch.no_grad():
            roles.policy.kernel(x[:4], 0)
    assert dict(rows) == {
        "policy": Rows(plain=4, graph=7),
        "base": Rows(plain=1 + 5 * 2),  # the noise, where all chains start, is one row
        "proposal": Rows(plain=1 + 5 * 2),
        "value.net": Rows(graph=7),
        "value.target": Rows(),
    }
    assert rows.total == Rows(plain=26, graph=14) and rows.total.total == 40
    roles.policy.kernel(x, 0)
    assert rows["policy"] == Rows(plain=4, graph=7), "outside nothing is counted"


def test_a_graph_that_only_the_states_need_is_counted():
    """The base's weights take no gradient, but it passes on that of relaxed states."""
    shared = context()
    base = shared.roles.base
    x = torch.nn.functional.one_hot(base.process.noise(3, shared.generator).long(), 4).float().requires_grad_()
    with RowCounter(base=base.net) as rows:
        base.kernel(x, 0)
        base.kernel(x.detach(), 0)
    assert rows["base"] == Rows(plain=3, graph=3)


class Named(torch.nn.Module):
    def forward(self, *, x, scale=1.0):
        return x * scale


def test_rows_of_a_network_that_is_told_by_name_are_counted_and_what_has_none_is_not():
    net = Named()
    with RowCounter(net=net) as rows:
        net(scale=2.0, x=torch.zeros(3, 2))
        net(x=torch.tensor(1.0))
    assert rows["net"] == Rows(plain=3)


def test_networks_of_a_value_inside_a_value_are_counted():
    shared = context()
    learned = shared.value
    assert isinstance(learned, Return)
    shared.value = Reused(learned)
    x = shared.roles.base.process.noise(6, shared.generator)
    with RowCounter.of(shared) as rows:
        shared.value.state_value(shared, x, 0)
    assert rows["value.learned.net"] == Rows(plain=6)
    assert rows["base"].total > 0  # it averages over what the base would do
