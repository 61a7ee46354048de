"""Score networks of graphs: equations written a second time with loops, the order of nodes, what is not there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.core.graphs import GraphLayout
from biotilt.errors import ConfigError
from biotilt.networks import NETWORKS, GraphScores, GraphScoresConfig, describe_network
from biotilt.networks.graph import AttentionLayer, Convolution, perceptron

SMALL = GraphScoresConfig(nodes=4, features=2, width=6, attention=4, heads=2, layers=3, channels=3, last=2)
CONFIGS = {
    "gcn": SMALL,
    "attention": replace(SMALL, by="attention", linears=1, powers=3),
    "time": replace(SMALL, time=True, layers=2),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def made(config: GraphScoresConfig) -> GraphScores:
    torch.manual_seed(3)
    net = GraphScores(config).double().eval()
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return net


def states(config: GraphScoresConfig, counts: list[int]) -> Tensor:
    layout = GraphLayout(config.nodes, config.features)
    count = torch.tensor(counts)
    x = torch.randn(len(counts), layout.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = torch.where(layout.free(count), x, 0.0)
    x[:, -1] = count
    return x


def times(count: int) -> Tensor:
    return torch.linspace(0.1, 0.9, count, dtype=torch.float64)


def looped(adjacency: list[list[float]]) -> list[list[float]]:
    """Ones on the diagonal, each entry over the roots of two degrees."""
    size = len(adjacency)
    rows = [[1.0 if i == j else adjacency[i][j] for j in range(size)] for i in range(size)]
    degrees = [max(1.0, sum(row)) for row in rows]
    return [[rows[i][j] / math.sqrt(degrees[i] * degrees[j]) for j in range(size)] for i in range(size)]


def convolved(nodes: list[Tensor], adjacency: list[list[float]], weight: Tensor, bias: Tensor) -> list[Tensor]:
    near = looped(adjacency)
    return [sum((w * (v @ weight) for w, v in zip(row, nodes)), start=bias) for row in near]


def dense(net: torch.nn.Sequential, x: Tensor) -> Tensor:
    linear = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    for place, layer in enumerate(linear):
        x = layer.weight @ x + layer.bias
        x = F.elu(x) if place < len(linear) - 1 else x
    return x


def attended(layer: AttentionLayer, nodes: list[Tensor], channels: list[Tensor], there: int, heads: int):
    """One layer, a node, a pair and a head at a time; attention of each adjacency, mean over heads, symmetric."""
    size, a = len(nodes), layer.attention
    values, scores = [], []
    for c, adjacency in enumerate(channels):
        q, k, v = (
            convolved(nodes, adjacency.tolist(), layer.weight[c][:, part], layer.bias[c][part])
            for part in (slice(0, a), slice(a, 2 * a), slice(2 * a, None))
        )
        values.append(v)
        score = torch.zeros(size, size, dtype=torch.float64)
        for i in range(size):
            for j in range(size):
                for head in range(heads):
                    part = slice(head * a // heads, (head + 1) * a // heads)
                    score[i, j] += torch.tanh(q[i][part] @ k[j][part] / math.sqrt(layer.outputs)) / heads
        scores.append((score + score.T) / 2)
    new = [
        torch.tanh(dense(layer.values, torch.cat([v[i] for v in values]))) * (1.0 if i < there else 0.0)
        for i in range(size)
    ]
    made = torch.zeros(layer.pairs[-1].out_features, size, size, dtype=torch.float64)
    for i in range(there):
        for j in range(there):
            for one, two in ((i, j), (j, i)):
                read = [s[one, two] for s in scores] + [adjacency[one, two] for adjacency in channels]
                made[:, i, j] += dense(layer.pairs, torch.stack(read))
    return new, list(made)


def by_loops(net: GraphScores, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Scores of nodes `(N, F)` and of edges `(N, N)` of one graph."""
    config, there = net.config, int(x[-1])
    size = config.nodes
    nodes = list(x[: size * config.features].reshape(size, config.features))
    adjacency = torch.zeros(size, size, dtype=torch.float64)
    place = size * config.features
    for i in range(size):
        for j in range(i + 1, size):
            adjacency[i, j] = adjacency[j, i] = x[place]
            place += 1
    told = torch.zeros(0, dtype=torch.float64)
    if net.time is not None:
        angles = t * 1000.0 ** (torch.arange(32, dtype=torch.float64) / 31)
        told = F.silu(net.time[0].weight @ torch.cat([angles.sin(), angles.cos()]) + net.time[0].bias)
        nodes = [torch.cat([v, told * (i < there)]) for i, v in enumerate(nodes)]
    powers = [torch.linalg.matrix_power(adjacency, p) for p in range(1, config.powers + 1)]
    h, channels, seen = nodes, powers, [nodes]
    for layer in net.node_layers:
        if isinstance(layer, Convolution):
            h = convolved(h, adjacency.tolist(), layer.weight, layer.bias)
        else:
            h, channels = attended(layer, h, channels, there, config.heads)
        h = [torch.tanh(v) for v in h]
        seen.append(h)
    of_nodes = torch.stack([dense(net.of_nodes, torch.cat([v[i] for v in seen])) * (i < there) for i in range(size)])
    h, channels, kept = nodes, powers, list(powers)
    for layer in net.edge_layers:
        h, channels = attended(layer, h, channels, there, config.heads)
        kept += channels
    of_edges = torch.zeros(size, size, dtype=torch.float64)
    for i in range(there):
        for j in range(there):
            if i != j:
                of_edges[i, j] = dense(net.of_edges, torch.cat([torch.stack([a[i, j] for a in kept]), told])).squeeze()
    return of_nodes, of_edges


@each_config
@torch.no_grad()
def test_it_is_the_published_equations_by_loops(config):
    net, x, t = made(config), states(config, [4, 3, 1]), times(3)
    nodes, edges, _ = net.layout.parts(net(x, t))
    assert (nodes[0] != 0).all()
    for row in range(3):
        of_nodes, of_edges = by_loops(net, x[row], float(t[row]))
        torch.testing.assert_close(nodes[row], of_nodes, atol=2e-5 if config.time else 1e-10, rtol=0)
        torch.testing.assert_close(edges[row], of_edges, atol=2e-5 if config.time else 1e-10, rtol=0)


@each_config
@torch.no_grad()
def test_it_does_not_know_the_order_of_nodes(config):
    net, x, t = made(config), states(config, [4, 3]), times(2)
    order = torch.tensor([[2, 0, 3, 1], [1, 2, 0, 3]])
    moved = net(net.layout.permuted(x, order), t)
    wanted = net.layout.permuted(torch.cat([net(x, t)[:, :-1], x[:, -1:]], -1), order)
    torch.testing.assert_close(moved[:, :-1], wanted[:, :-1])
    assert (moved[:, -1] == 0).all()


@each_config
@torch.no_grad()
def test_what_is_not_there_neither_speaks_nor_is_heard(config):
    net, x, t = made(config), states(config, [2, 2]), times(2)
    out = net(x, t)
    free = net.layout.free(torch.tensor([2, 2]))
    assert (out[~free] == 0).all() and (out[free] != 0).all()


def test_the_time_is_read_where_it_is_told():
    x = states(SMALL, [4, 4])[:1].repeat(2, 1)
    for config, told in ((SMALL, False), (replace(SMALL, time=True), True)):
        net = made(config)
        out = net(x, torch.tensor([0.2, 0.7], dtype=torch.float64))
        assert torch.equal(out[0], out[1]) != told and net.reads_time == told


@each_config
def test_a_copy_starts_at_zero_and_can_learn(config):
    net, x, t = made(config).requires_grad_(False), states(config, [4, 3]), times(2)
    fresh = net.blank()
    assert (fresh(x, t) == 0).all() and (net(x, t)[0, :-1] != 0).all()
    fresh(x, t).sum().backward()
    assert all(p.grad is not None for p in fresh.of_nodes.parameters())


def test_it_is_rebuilt_from_its_description():
    net = made(SMALL)
    described = describe_network(net)
    again = NETWORKS.of_table(described).double()
    again.load_state_dict(net.state_dict())
    x, t = states(SMALL, [3]), times(1)
    assert described["name"] == "graph_scores" and torch.equal(again(x, t), net(x, t))
    assert SMALL.size == GraphLayout(4, 2).size


def test_perceptrons_have_so_many_layers():
    assert [type(layer).__name__ for layer in perceptron(3, 2, 4, 1)] == ["Linear", "ELU", "Linear", "ELU", "Linear"]
    assert len(perceptron(1, 2, 4, 1)) == 1


@pytest.mark.parametrize(
    ("options", "message"), [({"heads": 4}, "multiples of"), ({"layers": 1}, "2 at least"), ({"by": "mlp"}, "by")]
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **options)
