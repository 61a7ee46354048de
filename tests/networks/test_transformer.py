"""The transformer: relative positions, pads, relaxed states, 16 bits, and values on its features."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.networks import NETWORKS, Transformer, TransformerConfig, describe_network, value_network
from biotilt.networks.transformer import rotated, rotations
from biotilt.processes import AnyOrder


def net(**options) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(
        TransformerConfig(**({"letters": 4, "length": 6, "width": 16, "blocks": 2, "heads": 2} | options))
    )
    for parameter in made.parameters():  # at first biases are alike, and outputs nearly so
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


X = torch.tensor([[0, 4, 2, 3, 4, 1], [1, 1, 4, 0, 2, 4]], dtype=torch.int8)
T = torch.tensor([1 / 3, 2 / 3])


def test_a_pair_of_channels_is_turned_by_position_times_frequency():
    x = torch.zeros(1, 3, 4)
    x[..., 0], x[..., 1] = 1.0, 2.0  # two pairs: (0, 2) and (1, 3)
    y = rotated(x, rotations(3, 4, x.device))
    for position in range(3):
        slow = position * 10_000 ** (-2 / 4)
        expected = [math.cos(position), 2 * math.cos(slow), math.sin(position), 2 * math.sin(slow)]
        assert y[0, position].tolist() == pytest.approx(expected)


def test_products_of_rotated_vectors_depend_on_the_distance_only():
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(1)).double()
    angles = rotations(9, 8, q.device)
    turned = [rotated(v.expand(9, 8), angles) for v in (q, k)]
    products = turned[0] @ turned[1].T
    for distance in (-3, 0, 4):
        torch.testing.assert_close(*(products.diagonal(distance)[i] for i in (0, -1)))
    assert (products.diagonal(1)[0] - products.diagonal(2)[0]).abs() > 1e-3


def test_where_nothing_is_shown_positions_alone_tell_places_apart():
    """Rotated attention to equal letters is the mean of equal values: the same law everywhere, whatever is learned."""
    hidden = torch.full((1, 6), 4)
    same, told = net()(hidden, T[:1])[0], net(positions=True)(hidden, T[:1])[0]
    torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-5, atol=1e-5)
    assert all((told[i] - told[j]).abs().max() > 0.05 for i in range(6) for j in range(i))


def test_every_letter_is_seen_from_everywhere():
    model = net()
    base = model(X, T)
    for position in range(6):
        other = X.clone()
        other[:, position] = (other[:, position] + 1) % 5
        assert ((model(other, T) - base).abs().amax(-1) > 1e-6).all(), position


def test_nobody_looks_at_pads():
    model = net(letters=5, pad=4)
    x = torch.tensor([[0, 3, 2, 4, 4, 4]], dtype=torch.int8)
    short = net(letters=5, pad=4, length=3)
    short.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x, T[:1])[:, :3], short(x[:, :3], T[:1]))
    empty = torch.full((1, 6), 4, dtype=torch.int8)
    assert model(empty, T[:1]).isfinite().all()


def test_relaxed_states_that_are_letters_say_the_same():
    model = net()
    torch.testing.assert_close(model(F.one_hot(X.long(), 5).float(), T), model(X, T))


def test_time_is_told_where_it_is_asked_for():
    assert torch.equal(net()(X, T), net()(X, 1 - T))
    assert not torch.allclose(net(time=True)(X, T), net(time=True)(X, 1 - T))


def test_in_16_bits_it_says_nearly_the_same():
    model = net(length=300)
    x = torch.randint(5, (2, 300), generator=torch.Generator().manual_seed(2), dtype=torch.int8)
    full = model(x, T)
    half = model.bfloat16()(x, T)
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 0.05 * full.std() * 8  # 8 bits of precision through a dozen layers


def test_it_is_described_and_built_again():
    model = net(time=True)
    table = describe_network(model)
    again = NETWORKS.of_table(table)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(X, T), model(X, T))


def test_its_value_is_a_head_on_its_features():
    model = net()
    value = value_network(Policy(AnyOrder(6, 4), model))
    assert (value(X, T) == 0).all() and value(X, T).shape == (2, 6, 4)
    assert sum(p.numel() for p in value.parameters()) == sum(p.numel() for p in value.head.parameters())
    torch.nn.init.normal_(value.head[-1].weight)
    relaxed = F.one_hot(X.long(), 5).float().requires_grad_(True)
    value(relaxed, T).square().sum().backward()
    assert relaxed.grad is not None and relaxed.grad.abs().max() > 0, "a tilt is the slope of the value in the state"
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"), [({"width": 18}, r"width must be a multiple of 2 · heads = 4"), ({"pad": 4}, "pad must be")]
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        net(**options)
