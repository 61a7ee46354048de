"""Graphs as points: what stands where, by hand."""

from __future__ import annotations

import torch

from biotilt.core.graphs import GraphLayout


def test_features_edges_and_the_number_of_nodes_have_their_places():
    layout = GraphLayout(nodes=4, features=2)
    assert (layout.edges, layout.size) == (6, 15)
    nodes = torch.arange(1.0, 9.0).view(1, 4, 2)
    adjacency = torch.zeros(1, 4, 4)
    for place, (i, j) in enumerate([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]):
        adjacency[0, i, j] = adjacency[0, j, i] = 10.0 * (place + 1)
    x = layout.join(nodes, adjacency, torch.tensor([3]))
    assert x[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 30, 40, 50, 60, 3]
    found, matrix, there = layout.parts(x)
    assert torch.equal(found, nodes) and torch.equal(matrix, adjacency)
    assert there.tolist() == [[True, True, True, False]]
    free = layout.free(layout.counts(x))[0].tolist()
    assert free == [True] * 6 + [False] * 2 + [True, True, False, True, False, False] + [False]


def test_parts_carry_gradients():
    layout = GraphLayout(nodes=3, features=1)
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 3.0]], requires_grad=True)
    nodes, adjacency, _ = layout.parts(x)
    (nodes.sum() + (adjacency * torch.tensor([[0.0, 1, 2], [4, 0, 8], [16, 32, 0]])).sum()).backward()
    assert x.grad is not None and x.grad.tolist() == [[1, 1, 1, 1 + 4, 2 + 16, 8 + 32, 0]]


def test_nodes_in_another_order():
    layout = GraphLayout(nodes=3, features=1)
    x = torch.tensor([[1.0, 2.0, 3.0, 12.0, 13.0, 23.0, 3.0]])
    assert layout.permuted(x, torch.tensor([2, 0, 1])).tolist() == [[3, 1, 2, 13, 23, 12, 3]]
    both = layout.permuted(x.repeat(2, 1), torch.tensor([[0, 1, 2], [1, 0, 2]]))
    assert both.tolist() == [x[0].tolist(), [2, 1, 3, 12, 23, 13, 3]]


def test_a_graph_of_one_node_has_no_edges():
    layout = GraphLayout(nodes=1, features=2)
    nodes, adjacency, there = layout.parts(torch.tensor([[4.0, 5.0, 1.0]]))
    assert layout.size == 3 and nodes.tolist() == [[[4, 5]]] and adjacency.tolist() == [[[0]]] and there.all()
