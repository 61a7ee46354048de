"""Score networks of nodes and edges by attention on graphs, as in GDSS (Jo et al. 2022, arXiv 2202.02514)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from biotilt.core.graphs import GraphLayout
from biotilt.errors import ConfigError
from biotilt.networks.blank import blank_copy, zero
from biotilt.networks.cnn import fourier_features
from biotilt.options import Flag, Layers, Whole, Width, check_options

TOLD = 8  # numbers by which a network that is told the time knows it


@dataclass(frozen=True)
class GraphScoresConfig:
    """Graphs of at most `nodes` nodes with `features` numbers each, as points (`core.graphs`).

    Nodes: `depth` layers of `width`, convolutions ("gcn") or attention, and three linear ones at the end. Edges:
    `layers` ≥ 2 layers of attention with `heads` heads, which carry several adjacencies: at first the `powers` first
    powers of the graph's, then `channels`, at the end `last`; each layer has `linears` linear ones on edges. Queries
    and keys have the width `attention`, in the first layer `width`. With `time` it is told the time.
    """

    nodes: Annotated[Whole, Field(ge=1, le=1_000)]
    features: Annotated[Whole, Field(ge=1, le=1_000)]
    width: Width = 16
    depth: Layers = 2
    by: Literal["gcn", "attention"] = "gcn"
    attention: Width = 16
    heads: Layers = 4
    layers: Layers = 3
    linears: Layers = 3
    powers: Layers = 2
    channels: Width = 8
    last: Width = 4
    time: Flag = False

    def __post_init__(self) -> None:
        check_options(self, 'network "graph_scores"')
        if self.width % self.heads or self.attention % self.heads:
            raise ConfigError(
                f'network "graph_scores": width {self.width} and attention {self.attention} must be multiples of '
                f"heads, {self.heads}"
            )
        if self.layers < 2:
            raise ConfigError('network "graph_scores": layers must be 2 at least, a first one and a last one')

    @property
    def size(self) -> int:
        """The number of coordinates of a state."""
        return GraphLayout(self.nodes, self.features).size


class GraphScores(nn.Module):
    """Graphs as points `(B, D)` and times `(B,)` → `(B, D)`, numbers of nodes and of edges, 0 for n.

    It does not know the order of nodes: graphs in another order have their outputs in that order. What is not there
    gets 0. Two networks side by side, which share nothing: one for nodes, one for edges.
    """

    name: ClassVar[str] = "graph_scores"
    Options: ClassVar[type] = GraphScoresConfig

    def __init__(self, config: GraphScoresConfig):
        super().__init__()
        self.config, self.layout = config, GraphLayout(config.nodes, config.features)
        told = TOLD if config.time else 0
        self.time = nn.Sequential(nn.Linear(64, told), nn.SiLU()) if config.time else None
        seen = config.features + told
        if config.by == "gcn":
            widths = [seen] + [config.width] * config.depth
            self.node_layers = nn.ModuleList(Convolution(a, b) for a, b in itertools.pairwise(widths))
        else:
            self.node_layers = attention_layers(config, seen, config.depth)
        read = seen + config.depth * config.width
        self.of_nodes = perceptron(3, read, 2 * read, config.features)
        self.edge_layers = attention_layers(config, seen, config.layers)
        read = config.powers + config.channels * (config.layers - 1) + config.last + told
        self.of_edges = perceptron(3, read, 2 * read, 1)

    @property
    def reads_time(self) -> bool:
        return self.config.time

    def blank(self) -> GraphScores:
        """Return a copy whose outputs start at zero."""
        fresh = blank_copy(self, f"of_nodes.{len(self.of_nodes) - 1}")
        zero(fresh.of_edges[-1])
        return fresh

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        nodes, adjacency, there = self.layout.parts(x.to(dtype))
        shown = there.to(dtype).unsqueeze(-1)
        told = None if self.time is None else self.time(fourier_features(t, 64).to(dtype))
        if told is not None:
            nodes = torch.cat([nodes, told.unsqueeze(1).expand(-1, nodes.shape[1], -1) * shown], -1)
        powers = [adjacency]
        for _ in range(self.config.powers - 1):
            powers.append(powers[-1] @ adjacency)
        channels = torch.stack(powers, 1)
        scores = self._of_nodes(nodes, channels, shown)
        edges = self._of_edges(nodes, channels, shown, told)
        return self.layout.join(scores, edges, torch.zeros_like(x[:, -1]))

    def _of_nodes(self, nodes: Tensor, channels: Tensor, there: Tensor) -> Tensor:
        """Return what is said of nodes `(B, N, F)`."""
        seen, near = [nodes], with_loops(channels[:, 0])
        for layer in self.node_layers:
            if isinstance(layer, Convolution):
                nodes = torch.tanh(layer(nodes, near))
            else:
                nodes, channels = layer(nodes, channels, there)
                nodes = torch.tanh(nodes)
            seen.append(nodes)
        return self.of_nodes(torch.cat(seen, -1)) * there

    def _of_edges(self, nodes: Tensor, channels: Tensor, there: Tensor, told: Tensor | None) -> Tensor:
        """Return what is said of edges `(B, N, N)`, symmetric; of the diagonal nobody reads it."""
        seen = [channels]
        for layer in self.edge_layers:
            nodes, channels = layer(nodes, channels, there)
            seen.append(channels)
        if told is not None:
            seen.append(told[..., None, None].expand(-1, -1, *channels.shape[2:]))
        edges = self.of_edges(torch.cat(seen, 1).permute(0, 2, 3, 1)).squeeze(-1)
        return edges * there * there.mT


class Convolution(nn.Module):
    """A graph convolution (Kipf & Welling 2017, arXiv 1609.02907), of dense adjacencies that `with_loops` made."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        glorot(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, nodes: Tensor, near: Tensor) -> Tensor:
        return near @ (nodes @ self.weight) + self.bias


class AttentionLayer(nn.Module):
    """New features `(B, N, F')` and adjacencies `(B, C', N, N)`, by attention in each adjacency (Baek et al. 2021).

    In adjacency c queries, keys and values are convolutions of nodes; A_c = mean over heads of tanh(q·k/√F'), made
    symmetric. Nodes become a perceptron of the values of all c; pairs one of all A_c and adjacencies, made symmetric.
    """

    def __init__(self, inputs: int, attention: int, outputs: int, before: int, after: int, heads: int, linears: int):
        super().__init__()
        self.attention, self.outputs, self.heads = attention, outputs, heads
        parts = [attention, attention, outputs]  # queries, keys, values
        self.weight = nn.Parameter(torch.empty(before, inputs, sum(parts)))
        for weight in self.weight.detach().split(parts, -1):
            glorot(weight)
        self.bias = nn.Parameter(torch.zeros(before, sum(parts)))
        hidden = 2 * max(before, after)
        self.pairs = perceptron(linears, 2 * before, hidden, after)
        self.values = perceptron(2, before * outputs, hidden, outputs)

    def forward(self, nodes: Tensor, channels: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        near = with_loops(channels)
        found = near @ (nodes.unsqueeze(1) @ self.weight) + self.bias.unsqueeze(1)  # (B, C, N, 2A + F')
        query, key, value = found.split([self.attention, self.attention, self.outputs], -1)
        query, key = (part.unflatten(-1, (self.heads, -1)).movedim(-2, 1) for part in (query, key))
        score = torch.tanh(query @ key.mT / math.sqrt(self.outputs)).mean(1)  # over heads
        pairs = torch.cat([(score + score.mT) / 2, channels], 1)
        edges = self.pairs(pairs.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        both = (there * there.mT).unsqueeze(1)
        made = self.values(value.transpose(1, 2).flatten(2)) * there
        return torch.tanh(made), (edges + edges.mT) * both


def attention_layers(config: GraphScoresConfig, inputs: int, count: int) -> nn.ModuleList:
    """Return layers whose first one reads `inputs` numbers a node and the powers, and whose last one makes `last`."""
    made = []
    for i in range(count):
        first, last = i == 0, i == count - 1 > 0
        made.append(
            AttentionLayer(
                inputs if first else config.width,
                config.width if first else config.attention,
                config.width,
                config.powers if first else config.channels,
                config.last if last else config.channels,
                config.heads,
                config.linears,
            )
        )
    return nn.ModuleList(made)


def with_loops(adjacency: Tensor) -> Tensor:
    """Return adjacencies `(…, N, N)` with ones on the diagonal, divided by the roots of the degrees, at least 1."""
    loops = torch.eye(adjacency.shape[-1], dtype=adjacency.dtype, device=adjacency.device)
    adjacency = adjacency * (1 - loops) + loops
    root = adjacency.sum(-1).clamp(min=1).rsqrt()
    return root.unsqueeze(-1) * adjacency * root.unsqueeze(-2)


def perceptron(layers: int, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return so many linear layers, with ELU in between."""
    widths = [inputs, *[hidden] * (layers - 1), outputs]
    made = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ELU())]
    return nn.Sequential(*made[:-1])


def glorot(weight: Tensor) -> None:
    """Draw weights `(…, inputs, outputs)`, uniform within √(6/(inputs + outputs))."""
    bound = math.sqrt(6 / sum(weight.shape[-2:]))
    nn.init.uniform_(weight, -bound, bound)
