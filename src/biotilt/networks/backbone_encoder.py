"""The encoder of ProteinMPNN (Dauparas et al. 2022, Science 378:49): what a backbone says, before any letter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.networks.proteinmpnn import SCALE

FARTHEST = 32  # places along the chain that are told apart, in either direction
RADII = (2.0, 22.0, 16)  # Å: the first and last centre of the radial functions, and how many there are
ATOMS: tuple[str, ...] = ("N", "CA", "C", "O", "CB")
# pairs of atoms whose distances an edge has, of the residue itself and of its neighbour
PAIRS = (
    "CA CA", "N N", "C C", "O O", "CB CB", "CA N", "CA C", "CA O", "CA CB", "N C", "N O", "N CB", "CB C", "CB O", "O C",
    "N CA", "C CA", "O CA", "CB CA", "C N", "O N", "CB N", "C CB", "O CB", "C O",
)  # fmt: skip


class Encoded(NamedTuple):
    """What the encoder says of N residues: `nodes` `(N, C)`, `edges` `(N, K, C)`, and `neighbours` `(N, K)`."""

    nodes: Tensor
    edges: Tensor
    neighbours: Tensor


class BackboneEncoder(nn.Module):
    """Places of N, CA, C, O and CB `(N, 5, 3)` in Å → what the decoder reads; C channels, at most `k` neighbours."""

    def __init__(self, width: int, layers: int, k: int):
        super().__init__()
        self.k, count = k, RADII[2]
        self.positions = nn.Linear(2 * FARTHEST + 2, count)
        self.features = nn.Linear(count * (1 + len(PAIRS)), width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.start = nn.Linear(width, width)
        self.blocks = nn.ModuleList(EncoderBlock(width) for _ in range(layers))

    def forward(self, atoms: Tensor, place: Tensor, chain: Tensor) -> Encoded:
        """Return what is said of residues at `place` `(N,)` along their `chain` `(N,)`, both integers."""
        near = nearest(atoms[:, 1], self.k)
        offset = (place.unsqueeze(-1) - place[near] + FARTHEST).clamp(0, 2 * FARTHEST)
        offset = torch.where(chain.unsqueeze(-1) == chain[near], offset, 2 * FARTHEST + 1)
        along = self.positions(F.one_hot(offset, 2 * FARTHEST + 2).to(atoms.dtype))
        edges = self.start(self.norm(self.features(torch.cat([along, distances(atoms, near)], -1))))
        nodes = edges.new_zeros(len(atoms), edges.shape[-1])
        for block in self.blocks:
            nodes, edges = block(nodes, edges, near)
        return Encoded(nodes, edges, near)


class EncoderBlock(nn.Module):
    """Messages along the edges into the nodes, and then into the edges themselves."""

    def __init__(self, width: int):
        super().__init__()
        self.to_nodes, self.to_edges = _messages(width), _messages(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, nodes: Tensor, edges: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new nodes `(N, C)` and edges `(N, K, C)`."""
        message = self.to_nodes(_read(nodes, edges, near)).sum(1) / SCALE
        nodes = self.norms[0](nodes + message)
        nodes = self.norms[1](nodes + self.down(F.gelu(self.up(nodes))))
        return nodes, self.norms[2](edges + self.to_edges(_read(nodes, edges, near)))


def nearest(alphas: Tensor, k: int) -> Tensor:
    """Return the numbers of the `k` residues whose Cα `(N, 3)` are nearest, itself first, `(N, ≤ k)`."""
    apart = (((alphas.unsqueeze(1) - alphas) ** 2).sum(-1) + 1e-6).sqrt()
    return apart.topk(min(k, len(alphas)), largest=False).indices


def distances(atoms: Tensor, near: Tensor) -> Tensor:
    """Return radial functions of the 25 distances between the atoms of neighbours, `(N, K, 25 · 16)`."""
    places = dict(zip(ATOMS, atoms.unbind(1)))
    low, high, count = RADII
    centres = torch.linspace(low, high, count, device=atoms.device)
    found = []
    for pair in PAIRS:
        own, other = pair.split()
        apart = (((places[own].unsqueeze(1) - places[other][near]) ** 2).sum(-1) + 1e-6).sqrt()
        found.append(torch.exp(-(((apart.unsqueeze(-1) - centres) / ((high - low) / count)) ** 2)))
    return torch.cat(found, -1)


def _messages(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
    )


def _read(nodes: Tensor, edges: Tensor, near: Tensor) -> Tensor:
    """Return node, edge and neighbouring node side by side, `(N, K, 3 C)`."""
    return torch.cat([nodes.unsqueeze(1).expand_as(edges), edges, nodes[near]], -1)
