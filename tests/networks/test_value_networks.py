"""The network of a learned value: a blank copy, a head on lent features, or a small network of our own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig, ValueSize, value_network
from biotilt.processes import AnyOrder, Finite, Gaussian, Uniform


class TiedHead(nn.Module):
    """A masked language model: the head's weights are the embedding's, so zeros there would blind the network."""

    def __init__(self, letters: int = 4, width: int = 8):
        super().__init__()
        self.embed, self.mix = nn.Embedding(letters + 1, width), nn.Conv1d(width, width, 3, padding=1)
        self.head = nn.Linear(width, letters + 1, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.head(self.hidden(x))[..., :-1]

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.mix(self.embed(x.long()).transpose(1, 2))).transpose(1, 2)


class Offering(TiedHead):
    def features(self, x: Tensor, t: Tensor) -> Tensor:
        return self.hidden(x)


STATES = torch.tensor([[0, 4, 2], [4, 4, 1]], dtype=torch.int8)
TIMES = torch.tensor([1 / 3, 2 / 3])


@pytest.mark.parametrize("make", [TiedHead, Offering, lambda: MLP(MLPConfig(4, 3, 8))])
def test_it_starts_at_zero_and_can_tell_letters_apart(make):
    torch.manual_seed(0)
    net = make()
    value = value_network(Policy(AnyOrder(3, 4), net), ValueSize(16, 2))
    assert value(STATES, TIMES).shape == (2, 3, 4)
    assert (value(STATES, TIMES) == 0).all()
    optimiser = torch.optim.Adam([p for p in value.parameters() if p.requires_grad], lr=0.05)
    target = torch.tensor([[1.0], [-2.0]])
    for _ in range(100):
        error = (value(STATES, TIMES)[:, 0, :1] - target).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert error < 0.05, "two states that differ in a shown letter get two values"


def test_a_head_on_features_lends_the_network_and_keeps_it():
    torch.manual_seed(0)
    net = Offering()
    before = copy.deepcopy(net.state_dict())
    value = value_network(Policy(AnyOrder(3, 4), net), ValueSize(16, 2))
    assert not any("embed" in name or "mix" in name for name in value.state_dict())
    nn.init.normal_(value.head[-1].weight)
    value(STATES, TIMES).square().sum().backward()
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    other = copy.deepcopy(value)
    with torch.no_grad():
        net.embed.weight.zero_()
    assert torch.equal(other(STATES, TIMES)[0], other(STATES.flip(1), TIMES)[0]), "a copy reads the same network"


def test_a_blank_copy_begins_with_the_features_of_the_network():
    net = MLP(MLPConfig(4, 3, 8))
    value = value_network(Policy(AnyOrder(3, 4), net))
    assert torch.equal(value.layers[0].weight, net.layers[0].weight)
    assert value.layers[0].weight is not net.layers[0].weight


@pytest.mark.parametrize(
    ("process", "shape"), [(Uniform(3, 4), (2, 3, 4)), (Gaussian(3), (2, 3)), (AnyOrder(3, 4), (2, 3, 4))]
)
def test_a_small_network_reads_what_the_process_shows(process, shape):
    torch.manual_seed(0)
    value = value_network(Policy(process, nn.Linear(1, 1)), ValueSize(8, 1))
    x = process.noise(2, torch.Generator().manual_seed(0))
    assert value(*process.inputs(x, 1)).shape == shape


def test_states_that_no_small_network_reads():
    with pytest.raises(ConfigError, match=r'process "finite".*`blank` or `features`'):
        value_network(Policy(Finite(3, 2), nn.Linear(1, 1)))


def test_a_network_that_is_trained_in_part_lends_its_features():
    """A copy of all of it would take more than what its own training does."""
    net = CNN(CNNConfig(4, 3, channels=8, blocks=1))
    assert sum(p.numel() for p in value_network(Policy(AnyOrder(3, 4), net)).parameters()) == sum(
        p.numel() for p in net.parameters()
    )
    net.embed.requires_grad_(False)
    value = value_network(Policy(AnyOrder(3, 4), net), ValueSize(16, 2))
    assert {name.partition(".")[0] for name, _ in value.named_parameters()} == {"head"}
    assert (value(STATES, TIMES) == 0).all()
