"""How a graph is written as a point: features of nodes, the upper triangle of the adjacency, the number of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class GraphLayout:
    """States `(B, D)` of graphs of at most N = `nodes` nodes with F = `features` numbers each.

    N F features, node by node; the N(N−1)/2 edges i < j, in the order of `torch.triu_indices(N, N, 1)`; and n, the
    number of nodes. Nodes from n on are not there: their features and edges are 0.

    >>> layout = GraphLayout(nodes=3, features=1)
    >>> nodes, edges, there = layout.parts(torch.tensor([[1.0, 2.0, 0.0, 5.0, 0.0, 0.0, 2.0]]))
    >>> edges[0].tolist(), there[0].tolist()
    ([[0.0, 5.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [True, True, False])
    """

    nodes: int
    features: int

    @property
    def edges(self) -> int:
        """The number of pairs of nodes."""
        return self.nodes * (self.nodes - 1) // 2

    @property
    def size(self) -> int:
        """The number of coordinates of a state, D."""
        return self.nodes * self.features + self.edges + 1

    def counts(self, x: Tensor) -> Tensor:
        """Return the numbers of nodes `(B,)` of states `(B, D)`."""
        return x[:, -1].detach().round().long()

    def there(self, count: Tensor) -> Tensor:
        """Return which nodes graphs of `count` `(B,)` nodes have, bool `(B, N)`."""
        return torch.arange(self.nodes, device=count.device) < count.unsqueeze(-1)

    def free(self, count: Tensor) -> Tensor:
        """Return which coordinates graphs of `count` `(B,)` nodes have, bool `(B, D)`; n itself is none of them."""
        there = self.there(count)
        first, second = torch.triu_indices(self.nodes, self.nodes, 1, device=count.device)
        of_nodes = there.repeat_interleave(self.features, 1)
        return torch.cat([of_nodes, there[:, first] & there[:, second], torch.zeros_like(there[:, :1])], 1)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features `(B, N, F)`, symmetric adjacencies `(B, N, N)` with zeros on the diagonal, and `there`."""
        split = self.nodes * self.features
        edges = F.pad(x[:, split:-1], (0, 1))
        adjacency = edges[:, _places(self.nodes, x.device)]
        return x[:, :split].unflatten(1, (self.nodes, self.features)), adjacency, self.there(self.counts(x))

    def join(self, nodes: Tensor, adjacency: Tensor, count: Tensor) -> Tensor:
        """Return states `(B, D)` of features `(B, N, F)`, upper triangles of adjacencies `(B, N, N)`, and n `(B,)`."""
        first, second = torch.triu_indices(self.nodes, self.nodes, 1, device=nodes.device)
        return torch.cat([nodes.flatten(1), adjacency[:, first, second], count.unsqueeze(-1).to(nodes.dtype)], 1)

    def permuted(self, x: Tensor, order: Tensor) -> Tensor:
        """Return the states with their nodes in another `order` `(N,)` or `(B, N)`: node i is the old `order[i]`.

        An order that takes a node that is there beyond the n-th place makes no state.
        """
        nodes, adjacency, _ = self.parts(x)
        order = order.expand(len(x), -1)
        rows = torch.arange(len(x), device=x.device).unsqueeze(-1)
        moved = adjacency[rows.unsqueeze(-1), order.unsqueeze(-1), order.unsqueeze(-2)]
        return self.join(nodes[rows, order], moved, x[:, -1])


@cache
def _places(nodes: int, device: torch.device) -> Tensor:
    """Return where in the list of edges each pair `(N, N)` stands; on the diagonal, one place beyond."""
    first, second = torch.triu_indices(nodes, nodes, 1)
    places = torch.full((nodes, nodes), len(first))
    places[first, second] = places[second, first] = torch.arange(len(first))
    return places.to(device)
