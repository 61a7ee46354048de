"""v_φ(x, k) and log Z: what the network is shown, the units, and how `value` names are built."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.networks import MLP, MLPConfig, ValueSize, VectorMLP, VectorMLPConfig, value_network
from biotilt.networks.table import Table, ValueTable
from biotilt.processes import AnyOrder, Finite, Gaussian, Masked
from biotilt.testing import Mixture, MixtureDenoiser
from biotilt.values import (
    VALUES,
    LearnedQ,
    LearnedV,
    LogZ,
    LogZConfig,
    PosteriorMean,
    StateNet,
    StateNetConfig,
    SurrogateQ,
)


class Watched(nn.Module):
    """Remembers what it was shown; returns two numbers a position, made from the state and the time."""

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen.append((x, t))
        return torch.stack([x.float(), t.unsqueeze(-1).expand(x.shape)], -1)


def test_the_value_is_the_mean_output_at_the_time_of_the_step():
    net = Watched()
    value = StateNet(net, Masked(3, 2, num_steps=4))
    x, k = torch.tensor([[2, 0, 2], [1, 1, 0]], dtype=torch.int8), torch.tensor([1, 3])
    got = value(x, k)
    assert len(net.seen) == 1 and torch.equal(net.seen[0][0], x)
    assert net.seen[0][1].tolist() == [0.75, 0.25]
    by_hand = [(2 + 0 + 2 + 3 * 0.75) / 6, (1 + 1 + 0 + 3 * 0.25) / 6]
    assert got.tolist() == pytest.approx(by_hand)
    # any-order reads the time off the state
    StateNet(net, AnyOrder(3, 2))(x, 0)
    assert net.seen[1][1].tolist() == pytest.approx([2 / 3, 0])


def test_units_are_fixed_by_the_first_rewards():
    first = torch.tensor([1.0, 5.0, 6.0])
    for value, ask in ((LogZ(), ()), (StateNet(ValueTable(3, 2), Finite(3, 2)), (torch.tensor([0, 2]), 1))):
        assert (value(*ask) == 0).all()
        value.set_units(first)
        value.set_units(torch.tensor([100.0, 300.0]))  # later ones change nothing
        assert torch.allclose(value(*ask), torch.tensor(4.0))
        spread = ((9 + 1 + 4) / 3) ** 0.5
        next(iter(value.parameters())).data += 0.5
        assert torch.allclose(value(*ask), torch.tensor(4 + 0.5 * spread))
    constant = LogZ()
    constant.set_units(torch.tensor([2.0, 2.0]))
    assert constant.spread > 0 and constant().item() == 2


def test_the_state_is_saved_with_its_units():
    ours, theirs = LogZ(), LogZ()
    ours.set_units(torch.tensor([1.0, 4.0]))
    ours.offset.data.fill_(2.0)
    theirs.load_state_dict(ours.state_dict())
    assert theirs().item() == ours().item() == 2.5 + 2 * 1.5


def test_value_names_build_values():
    torch.manual_seed(0)
    letters, points = AnyOrder(2, 3), Gaussian(2, num_steps=3)
    mlp, vector = MLP(MLPConfig(3, 2, 8)), VectorMLP(VectorMLPConfig(2, 8, 1))

    def build(kind, process=letters, net: nn.Module = mlp):
        value, made = VALUES[kind], lambda width, depth: value_network(Policy(process, net), ValueSize(width, depth))
        return value.build(VALUES.options_of(kind)(), process, made)

    assert isinstance(build("posterior_mean"), PosteriorMean)
    assert isinstance(build("surrogate"), SurrogateQ)
    for run in ("return", "bootstrapped", "mixed"):
        value = build(run)
        assert isinstance(value, LearnedQ) and value.run == run
    assert isinstance(build("return", points, vector), LearnedV)
    assert isinstance(build("log_z"), LogZ)
    state = build("state", points, vector)
    x = torch.randn(5, 2)
    assert isinstance(state, StateNet) and (state(x, 1) == 0).all() and (vector(x, torch.ones(5)) != 0).any()
    with pytest.raises(ConfigError, match="reveals"):
        build("mixed", points, vector)
    for kind in (StateNetConfig, LogZConfig):
        with pytest.raises(ConfigError, match=r"value\.lr"):
            kind(lr=0.0)


def test_networks_with_a_blank_of_their_own():
    table = Table(4, 2, torch.randn(2, 4, 4)).blank()
    assert isinstance(table, ValueTable) and table(torch.arange(4), torch.ones(4)).abs().sum() == 0
    correction = VectorMLP(VectorMLPConfig(2, 8, 1))
    net = MixtureDenoiser(Mixture(torch.ones(1), torch.ones(1, 2), torch.eye(2).unsqueeze(0)), Gaussian(2), correction)
    correction.layers[-1].weight.data.fill_(1.0)  # type: ignore[union-attr]  # as after tuning
    blank = net.blank()
    x, t = torch.randn(3, 2), torch.full((3,), 0.5)
    assert (blank(x, t) == 0).all() and (correction(x, t) != 0).all()
    assert all(p.requires_grad for p in blank.parameters())


def test_a_value_table_is_linear_in_relaxed_states():
    table = ValueTable(3, 2)
    table.values.data = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    t = torch.tensor([1.0, 0.5])
    assert table(torch.tensor([2, 0]), t).tolist() == [[4], [8]]
    assert table(torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.25, 0.75]]), t).tolist() == [[2.5], [28]]
