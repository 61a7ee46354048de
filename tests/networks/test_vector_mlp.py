"""The network of points: what it computes, told the time, rebuilt from its description."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from biotilt.errors import ConfigError
from biotilt.networks import NETWORKS, VectorMLP, VectorMLPConfig, describe_network


def test_it_is_layers_of_points_and_time_by_hand():
    torch.manual_seed(0)
    net = VectorMLP(VectorMLPConfig(3, width=5, depth=2)).double()
    x, t = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    angles = t.unsqueeze(-1) * 1000.0 ** (torch.arange(32) / 31)
    h = torch.cat([x, angles.sin(), angles.cos()], -1)
    weights = dict(net.named_parameters())
    for layer in (0, 2):
        h = F.silu(h @ weights[f"layers.{layer}.weight"].T + weights[f"layers.{layer}.bias"])
    wanted = h @ weights["layers.4.weight"].T + weights["layers.4.bias"]
    torch.testing.assert_close(net(x, t), wanted, atol=1e-4, rtol=1e-4)


def test_the_time_is_read():
    torch.manual_seed(0)
    net, x = VectorMLP(VectorMLPConfig(2, width=8, depth=1)), torch.ones(2, 2)
    early, late = net(x, torch.tensor([0.1, 0.9]))
    assert (early != late).all()


def test_it_is_rebuilt_from_its_description():
    net = NETWORKS.build("vector_mlp", {"size": 3, "width": 8, "depth": 2})
    described = describe_network(net)
    assert described == {"name": "vector_mlp", "size": 3, "width": 8, "depth": 2, "conditions": 0}
    again = NETWORKS.of_table(described)
    again.load_state_dict(net.state_dict())
    x, t = torch.randn(5, 3), torch.rand(5)
    assert torch.equal(again(x, t), net(x, t))
    with pytest.raises(ConfigError, match='unknown option "widt"; did you mean "width"'):
        NETWORKS.build("vector_mlp", {"size": 3, "widt": 8})


def test_a_network_that_derives_from_it_is_not_described_as_it():
    class Doubled(VectorMLP):
        def forward(self, x, t):
            return 2 * super().forward(x, t)

    with pytest.raises(ConfigError, match=r"Doubled is not one of .*vector_mlp.* register its class"):
        describe_network(Doubled(VectorMLPConfig(2)))


def test_a_copy_of_it_starts_at_zero_and_can_learn():
    net = VectorMLP(VectorMLPConfig(2, width=8, depth=2)).requires_grad_(False)
    fresh, x, t = net.blank(), torch.randn(4, 2), torch.rand(4)
    assert (fresh(x, t) == 0).all() and (net(x, t) != 0).any()
    fresh(x, t).sum().backward()
    assert all(p.grad is not None for p in fresh.parameters())
