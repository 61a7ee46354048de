"""Graphs, levels and an exact network for gaussian data that the tests of the process `graph` share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from biotilt.processes import Graph

MIXED = {"node_law": "vp", "node_range": (0.3, 4.0), "edge_law": "ve", "edge_range": (0.2, 1.5)}
KINDS = {
    "ve": {},
    "vp and ve": MIXED,
    "reverse": {**MIXED, "predictor": "reverse", "prediction": "score"},
    "published": {
        **MIXED, "predictor": "reverse", "memoryless": False, "snr": 0.25, "loudness": 0.7, "prediction": "gdss",
    },
    "corrected": {**MIXED, "snr": 0.3, "prediction": "x0"},
    "x[0] is read": {**MIXED, "memoryless": False},
}  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def level(law: str, span: tuple[float, float], t: float) -> tuple[float, float]:
    """a and s of one part, written out again in plain numbers."""
    low, high = span
    if law == "ve":
        return 1.0, low * (high / low) ** t
    a = math.exp(-(low * t + (high - low) * t * t / 2) / 2)
    return a, math.sqrt(1 - a * a)


def levels(process: Graph, part: str) -> list[tuple[float, float]]:
    """(a, s) of x[0] … x[S] of the "node" or the "edge" part, correctors repeating their level."""
    law, span = (process.node_law, process.node_range) if part == "node" else (process.edge_law, process.edge_range)
    grid = [level(law, span, 1 - k / process.num_steps) for k in range(process.num_steps)]
    end = process.remainder * grid[-1][1]
    if process.snr:
        grid = [each for each in grid for _ in (0, 1)][process.memoryless :]
    return [*grid, (1.0 if law == "ve" else math.sqrt(1 - end * end), end)]


def parts_of(process: Graph) -> list[str]:
    """Of which part each coordinate is, n left out."""
    return ["node"] * (process.nodes * process.features) + ["edge"] * process.layout.edges


class Gaussians(nn.Module):
    """The exact network for independent gaussian coordinates, `mean` and `variance` `(D − 1,)`, and a correction."""

    def __init__(self, process: Graph, mean: Tensor, variance: Tensor, correction: nn.Module | None = None):
        super().__init__()
        self.process, self.mean, self.variance, self.correction = process, mean, variance, correction

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        laws = {
            "node": (self.process.node_law, self.process.node_range),
            "edge": (self.process.edge_law, self.process.edge_range),
        }
        pairs = [[level(*laws[part], time) for part in parts_of(self.process)] for time in t.tolist()]
        a, s = torch.tensor(pairs, dtype=x.dtype).unbind(-1)
        inner = x[:, :-1]
        x0 = self.mean + a * self.variance / (a * a * self.variance + s * s) * (inner - a * self.mean)
        eps = (inner - a * x0) / s
        ve = torch.tensor([laws[part][0] == "ve" for part in parts_of(self.process)])
        said = {"x0": x0, "eps": eps, "score": -eps / s, "gdss": torch.where(ve, -eps / s, eps)}
        out = torch.cat([said[self.process.prediction], x[:, -1:] * 0 + 7], -1)  # of n it may say anything
        return out if self.correction is None else out + self.correction(x, t)
