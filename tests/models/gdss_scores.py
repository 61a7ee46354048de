"""The score networks of GDSS by their equations, a graph at a time, in double precision, under the original's names.

Jo et al. 2022 (arXiv 2202.02514), section 3.3 and appendix; attention of Baek et al. 2021; convolutions of Kipf &
Welling 2017. `QM9` and `ZINC` are the sizes of the published networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

QM9 = {
    "max_feat_num": 4, "max_node_num": 9, "nhid": 16, "depth": 2, "num_layers": 3, "num_linears": 3, "c_init": 2,
    "c_hid": 8, "c_final": 4, "adim": 16, "num_heads": 4, "conv": "GCN",
}  # fmt: skip
ZINC = QM9 | {"max_feat_num": 9, "max_node_num": 38, "num_layers": 6}
NODES = ("max_feat_num", "depth", "nhid")


def content(sizes: Mapping[str, Any], *, seed: int = 0, attention: bool = False, data: str = "QM9") -> dict[str, Any]:
    """What a file of theirs holds, of random weights."""
    g = torch.Generator().manual_seed(seed)
    of_nodes = dict(sizes) | {"model_type": "ScoreNetworkX_GMH"} if attention else {k: sizes[k] for k in NODES}
    vp = {"type": "VP", "beta_min": 0.1, "beta_max": 1.0, "num_scales": 1000}
    ve = {"type": "VE", "beta_min": 0.2, "beta_max": 1.0, "num_scales": 1000}
    of_nodes_noise = ve | {"beta_min": 0.1} if data == "QM9" else vp
    return {
        "model_config": {"data": {"data": data}, "sde": {"x": of_nodes_noise, "adj": ve}},
        "params_x": {"model_type": "ScoreNetworkX"} | of_nodes,
        "params_adj": {"model_type": "ScoreNetworkA"} | dict(sizes),
        "x_state_dict": node_weights(sizes, g, attention),
        "adj_state_dict": attended_weights(sizes, g, sizes["num_layers"], edges=True),
    }  # fmt: skip


def node_weights(sizes: Mapping[str, Any], g: torch.Generator, attention: bool) -> dict[str, Tensor]:
    if attention:
        return attended_weights(sizes, g, sizes["depth"], edges=False)
    named, read, width = dict[str, Tensor](), sizes["max_feat_num"], sizes["nhid"]
    for i in range(sizes["depth"]):
        named |= convolution(f"layers.{i}", width if i else read, width, g)
    total = read + sizes["depth"] * width
    return named | dense("final", 3, total, 2 * total, read, g)


def attended_weights(sizes: Mapping[str, Any], g: torch.Generator, count: int, *, edges: bool) -> dict[str, Tensor]:
    named, read, width = dict[str, Tensor](), sizes["max_feat_num"], sizes["nhid"]
    for i in range(count):
        before = sizes["c_hid"] if i else sizes["c_init"]
        after = sizes["c_final"] if i and i == count - 1 else sizes["c_hid"]
        inner, seen = sizes["adim"] if i else width, width if i else read
        for c in range(before):
            for part, out in (("q", inner), ("k", inner), ("v", width)):
                named |= convolution(f"layers.{i}.attn.{c}.gnn_{part}", seen, out, g)
        hidden = 2 * max(before, after)
        named |= dense(f"layers.{i}.mlp", sizes["num_linears"], 2 * before, hidden, after, g)
        named |= dense(f"layers.{i}.multi_channel", 2, before * width, hidden, width, g)
    total = read + count * width
    if edges:
        total = sizes["c_init"] + sizes["c_hid"] * (count - 1) + sizes["c_final"]
    return named | dense("final", 3, total, 2 * total, 1 if edges else read, g)


def convolution(name: str, read: int, out: int, g: torch.Generator) -> dict[str, Tensor]:
    return {
        f"{name}.weight": torch.randn(read, out, generator=g) / read**0.5,
        f"{name}.bias": 0.3 * torch.randn(out, generator=g),
    }


def dense(name: str, count: int, read: int, hidden: int, out: int, g: torch.Generator) -> dict[str, Tensor]:
    widths = [read, *[hidden] * (count - 1), out]
    named = {}
    for i in range(count):
        layer = f"{name}.linears.{i}" if count > 1 else f"{name}.linear"
        named[f"{layer}.weight"] = torch.randn(widths[i + 1], widths[i], generator=g) / widths[i] ** 0.5
        named[f"{layer}.bias"] = 0.3 * torch.randn(widths[i + 1], generator=g)
    return named


class Network:
    """One of the two networks, of one graph: features `(n, F)` and a symmetric adjacency `(n, n)`, padded or not."""

    def __init__(self, named: Mapping[str, Tensor], sizes: Mapping[str, Any]):
        self.named, self.sizes = {name: tensor.double() for name, tensor in named.items()}, sizes

    def convolved(self, name: str, x: Tensor, adjacency: Tensor) -> Tensor:
        loops = adjacency.clone().fill_diagonal_(1.0)
        root = torch.diag(loops.sum(1).clamp(min=1) ** -0.5)
        return root @ loops @ root @ x @ self.named[f"{name}.weight"] + self.named[f"{name}.bias"]

    def dense(self, name: str, x: Tensor) -> Tensor:
        layers = sorted({key.rsplit(".", 1)[0] for key in self.named if key.startswith(f"{name}.linear")})
        for i, layer in enumerate(layers):
            x = F.linear(x, self.named[f"{layer}.weight"], self.named[f"{layer}.bias"])
            x = F.elu(x) if i < len(layers) - 1 else x
        return x

    def attended(self, name: str, x: Tensor, channels: list[Tensor], there: Tensor) -> tuple[Tensor, list[Tensor]]:
        values, scores = [], []
        for c, adjacency in enumerate(channels):
            q, k, v = (self.convolved(f"{name}.attn.{c}.gnn_{part}", x, adjacency) for part in "qkv")
            heads = zip(q.chunk(self.sizes["num_heads"], 1), k.chunk(self.sizes["num_heads"], 1))
            score = torch.stack([torch.tanh(a @ b.T / math.sqrt(v.shape[1])) for a, b in heads]).mean(0)
            scores.append((score + score.T) / 2)
            values.append(v)
        new = torch.tanh(self.dense(f"{name}.multi_channel", torch.cat(values, 1)) * there[:, None])
        pairs = self.dense(f"{name}.mlp", torch.stack(scores + channels, -1))
        pairs = (pairs + pairs.transpose(0, 1)) * there[:, None, None] * there[None, :, None]
        return new, list(pairs.unbind(-1))

    def of_nodes(self, x: Tensor, adjacency: Tensor, there: Tensor) -> Tensor:
        """What is said of nodes; features `(N, F)`, `there` `(N,)` of 0 and 1."""
        seen, channels = [x], self.powers(adjacency)
        for i in range(self.sizes["depth"]):
            if f"layers.{i}.weight" in self.named:
                x = torch.tanh(self.convolved(f"layers.{i}", x, adjacency))
            else:
                x, channels = self.attended(f"layers.{i}", x, channels, there)
                x = torch.tanh(x)
            seen.append(x)
        return self.dense("final", torch.cat(seen, 1)) * there[:, None]

    def of_edges(self, x: Tensor, adjacency: Tensor, there: Tensor) -> Tensor:
        """What is said of edges, `(N, N)`."""
        channels = self.powers(adjacency)
        seen = list(channels)
        for i in range(self.sizes["num_layers"]):
            x, channels = self.attended(f"layers.{i}", x, channels, there)
            seen += channels
        score = self.dense("final", torch.stack(seen, -1)).squeeze(-1)
        return score * there[:, None] * there[None, :] * (1 - torch.eye(len(there)))

    def powers(self, adjacency: Tensor) -> list[Tensor]:
        return [torch.linalg.matrix_power(adjacency, p) for p in range(1, self.sizes["c_init"] + 1)]


def scores(held: Mapping[str, Any], x: Tensor, adjacency: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What both networks of a file say of one graph of `count` nodes, padded to N."""
    sizes = held["params_adj"] | held["params_x"]
    there = (torch.arange(len(x)) < count).double()
    given = x.double(), adjacency.double(), there
    return Network(held["x_state_dict"], sizes).of_nodes(*given), Network(held["adj_state_dict"], sizes).of_edges(
        *given
    )
