"""Networks that are told a condition: which one, in how many calls, and how guidance combines what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Mark, Policy
from biotilt.networks import (
    CNN,
    MLP,
    CNNConfig,
    MLPConfig,
    Transformer,
    TransformerConfig,
    VectorMLP,
    VectorMLPConfig,
    value_network,
)
from biotilt.networks.conditional import Conditional
from biotilt.processes import Gaussian, Masked
from biotilt.processes.conditioned import conditioned


class Spy(nn.Module):
    """Logits of two letters at each position: the condition, and a third of it; counts calls and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.calls.append(len(x))
        logits = torch.stack([condition, condition / 3], -1) + x[:, :1]
        return logits.unsqueeze(1).expand(-1, x.shape[1], -1)


def test_the_guided_law_by_hand():
    spy = Spy()
    net = Conditional(spy, torch.tensor([1.0]), unconditional=torch.tensor(-2.0), guidance=1.5)
    process = Masked(3, 2, num_steps=1)
    x = process.noise(4, torch.Generator())
    log_p = process.kernel_of(net(*process.inputs(x, 0)), x, 0).x0
    # log p(c) − log p(∅) of the two letters, by the softmax of (1, 1/3) and (−2, −2/3)
    told, untold = torch.tensor([1.0, 1 / 3]).log_softmax(0), torch.tensor([-2.0, -2 / 3]).log_softmax(0)
    expected = (2.5 * told - 1.5 * untold).log_softmax(0)
    assert torch.allclose(log_p, expected.expand(4, 3, 2), atol=1e-6)
    assert spy.calls == [8]  # one call, two rows a state


def test_without_guidance_one_row_a_state():
    spy = Spy()
    Conditional(spy, torch.tensor([1.0]), unconditional=torch.tensor(0.0))(torch.zeros(5, 3), torch.ones(5))
    assert spy.calls == [5]


def test_a_letter_that_both_rule_out_stays_out():
    class Never(nn.Module):
        def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
            return torch.tensor([0.0, 1.0, -torch.inf]).expand(len(x), 2, 3)

    net = Conditional(Never(), torch.tensor([1]), unconditional=torch.tensor(0), guidance=2.0)
    p = net(torch.zeros(1, 2), torch.ones(1)).softmax(-1)
    assert torch.allclose(p, torch.tensor([0.0, 1.0, -torch.inf]).softmax(-1).expand(1, 2, 3))


def test_guided_points_move_beyond_what_the_condition_says():
    class Shift(nn.Module):
        def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
            return 0.1 * x + condition.unsqueeze(-1)

    x = torch.tensor([[1.0, 2.0]])
    net = Conditional(Shift(), torch.tensor([3.0]), unconditional=torch.tensor(1.0), guidance=0.5)
    assert torch.allclose(net(x, torch.ones(1)), 0.1 * x + 3.0 + 0.5 * (3.0 - 1.0))


def test_each_row_is_told_the_condition_of_its_mark_and_not_shown_it():
    mark = Mark(3, letters=2)
    spy = Spy()
    net = Conditional(spy, torch.tensor([0.0, 6.0, 9.0]), mark=mark)
    x = torch.tensor([[0, 1], [0, 2]])
    out = net(mark.write(x, torch.tensor([2, 1])), torch.ones(2))
    assert out.shape == (2, 4, 2)  # two digits to the base 2
    assert torch.equal(out[:, :2, 0], torch.tensor([[9.0, 9.0], [6.0, 6.0]]))
    assert (out[:, 2:] == 0).all()


@pytest.mark.parametrize(
    ("mark", "x"),
    [
        (Mark(7, letters=3), torch.randint(4, (6, 5), generator=torch.Generator().manual_seed(0)).to(torch.int8)),
        (Mark(7, letters=3), torch.rand(6, 5, 4)),
        (Mark(7), torch.rand(6, 5)),
        (Mark(7), torch.rand(6, 5, 2)),
    ],
)
def test_marks_are_read_as_they_were_written(mark: Mark, x: Tensor):
    index = torch.tensor([0, 6, 3, 1, 5, 2])
    states, found = mark.read(mark.write(x, index))
    assert torch.equal(found, index)
    assert torch.equal(states, x)
    assert states.dtype == x.dtype


NETWORKS: list[tuple[Any, Tensor]] = [
    (lambda n: CNN(CNNConfig(4, 6, 8, 2, 3, conditions=n)), torch.randint(5, (3, 6))),
    (lambda n: MLP(MLPConfig(4, 6, 16, 1, conditions=n)), torch.randint(5, (3, 6))),
    (lambda n: Transformer(TransformerConfig(4, 6, 8, 1, 2, conditions=n)), torch.randint(5, (3, 6))),
    (lambda n: VectorMLP(VectorMLPConfig(6, 16, 1, conditions=n)), torch.randn(3, 6)),
]


@pytest.mark.parametrize(("build", "x"), NETWORKS, ids=["cnn", "mlp", "transformer", "vector_mlp"])
def test_our_networks_take_classes(build, x):
    torch.manual_seed(0)
    net, t = build(3), torch.ones(3)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    said = [net(x, t, torch.full((3,), c)) for c in range(4)]
    assert all(not torch.allclose(said[a], said[b]) for a in range(4) for b in range(a))
    assert torch.equal(net(x, t), said[3])  # none is the class n
    mixed = net(x, t, torch.tensor([2, 0, 1]))
    for row, c in enumerate((2, 0, 1)):
        assert torch.allclose(mixed[row], said[c][row], atol=1e-5)


@pytest.mark.parametrize(("build", "x"), NETWORKS, ids=["cnn", "mlp", "transformer", "vector_mlp"])
def test_networks_without_classes_are_what_they_were(build, x):
    assert not [name for name, _ in build(0).named_parameters() if name.startswith("condition")]
    assert torch.equal((net := build(0))(x, torch.ones(3)), net(x, torch.ones(3), None))


class Foreign(nn.Module):
    def __init__(self, outputs: tuple[int, ...]):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return self.bias.expand(len(x), *self.bias.shape)


@pytest.mark.parametrize(
    ("process", "net"),
    [
        (Masked(5, 4, num_steps=3), CNN(CNNConfig(4, 5, 8, 1, 3, conditions=3))),
        (Masked(5, 4, num_steps=3), Foreign((5, 4))),
        (Masked(5, 4, num_steps=3), Transformer(TransformerConfig(4, 5, 8, 1, 2, conditions=3))),
        (Gaussian(5, num_steps=3), Foreign((5,))),
    ],
    ids=["blank copy", "small network", "features", "points"],
)
def test_value_networks_read_the_condition_and_start_at_zero(process, net):
    several = conditioned(process, (0.5, 0.25, 0.25))
    told = Conditional(net, torch.arange(3), mark=several.mark)
    value = value_network(Policy(several, told))
    x = several.noise(9, torch.Generator().manual_seed(0))
    shown = several.inputs(x, 1)
    assert not value(*shown).any()
    for parameter in value.parameters():
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(1))
    same = x[:1].expand(2, *x.shape[1:])
    two = several.mark.write(several.mark.without(same), torch.tensor([0, 1]))
    first, second = value(*several.inputs(two, 1))
    assert not torch.allclose(first, second)
    assert not any(first.flatten()[-several.mark.width :])
