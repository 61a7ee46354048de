"""Second routes to the laws of the simplex process: eigenfunction series, sums of mixtures, the exact posterior."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.special import betaln, eval_jacobi, logsumexp
from torch import Tensor

from biotilt.processes.jacobi import EPS, lineage_law
from biotilt.processes.simplex import Simplex

CPU = torch.device("cpu")
DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def density(b: float, t: float, start: int, v: np.ndarray, orders: int = 80) -> np.ndarray:
    """q_t(v | start) of one stick by its eigenfunctions, the Jacobi polynomials: no lineages, no mixtures."""
    total, z0 = np.zeros_like(v), 2.0 * start - 1
    for n in range(orders):
        # orthogonal on [0, 1] with weight Beta(v; 1, b): scipy's alpha goes with 1 − z
        decay = math.exp(-n * (n + b) / (1 + b) * t)
        total += decay * eval_jacobi(n, b - 1, 0, z0) * eval_jacobi(n, b - 1, 0, 2 * v - 1) * (2 * n + b)
    return total * (1 - v) ** (b - 1)


def score(b: float, t: float, start: int, v: np.ndarray) -> np.ndarray:
    step = 1e-5
    ahead, behind = density(b, t, start, v + step), density(b, t, start, v - step)
    return (np.log(ahead) - np.log(behind)) / (2 * step)


def mixture(process: Simplex, k: int) -> np.ndarray:
    """The laws of the number of lineages of each stick at t_k, `(V−1, M)`."""
    return lineage_law(process.letters, process.num_steps)[1][k]


def log_beta(v: np.ndarray, m: np.ndarray, b: int, start: int) -> np.ndarray:
    more, less = (m, 0 * m) if start else (0 * m, m)
    v = v[:, None]
    return more * np.log(v) + (b - 1 + less) * np.log1p(-v) - betaln(1 + more, b + less)


def log_transition(process: Simplex, k: int, i: int, start: int, v: np.ndarray) -> np.ndarray:
    """log q(v_i at t_k | start) by summing the mixture."""
    law, b = mixture(process, k)[i], process.letters - 1 - i
    m = np.arange(len(law))
    return logsumexp(log_beta(v, m, b, start), b=law, axis=1)


class Posterior(torch.nn.Module):
    """The exact p(x0_i | x) of designs with a known law `(V^L,)`: Bayes with the transition densities, by look-up."""

    def __init__(self, process: Simplex, joint: Tensor):
        super().__init__()
        self.process, self.joint = process, joint
        self.words = torch.tensor(list(itertools.product(range(process.letters), repeat=process.length)))
        low = math.asin(math.sqrt(EPS))
        self.angles = np.linspace(low, math.pi / 2 - low, 400)
        self.tables: dict[int, np.ndarray] = {}

    def table(self, k: int) -> np.ndarray:
        if k not in self.tables:
            v = np.sin(self.angles) ** 2
            pairs = [
                [log_transition(self.process, k, i, s, v) for s in (0, 1)] for i in range(self.process.letters - 1)
            ]
            self.tables[k] = np.nan_to_num(np.array(pairs), neginf=-700)
        return self.tables[k]

    @torch.no_grad()
    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        steps = (self.process.num_steps * (1 - t)).round().long()
        out = torch.empty(p.shape, dtype=DOUBLE)
        for k in steps.unique().tolist():
            out[steps == k] = self._at(p[steps == k].double(), k)
        return out

    def _at(self, p: Tensor, k: int) -> Tensor:
        letters = self.process.letters
        left = p.flip(-1).cumsum(-1).flip(-1)
        angle = (p / left)[..., :-1].clamp(EPS, 1 - EPS).sqrt().asin().numpy()
        table = self.table(k)
        logs = torch.zeros(*p.shape[:2], letters, dtype=DOUBLE)
        for i in range(letters - 1):
            miss, hit = (torch.from_numpy(np.interp(angle[..., i], self.angles, row)) for row in table[i])
            logs[..., i] += hit
            logs[..., i + 1 :] += miss.unsqueeze(-1)
        joint = self.joint.log() + sum(logs[:, i, self.words[:, i]] for i in range(self.process.length))
        weight = joint.softmax(-1)
        each = [weight @ torch.nn.functional.one_hot(self.words[:, i], letters).double() for i in range(p.shape[1])]
        return torch.stack(each, 1).clamp(min=1e-300).log()


def frequencies(process: Simplex, x: Tensor) -> Tensor:
    places = process.letters ** torch.arange(process.length - 1, -1, -1)
    index = (process.tokens(x).long() * places).sum(-1)
    return index.bincount(minlength=process.letters**process.length) / len(x)


def random_net(letters: int, seed: int) -> torch.nn.Module:
    """A linear layer of the probabilities and the time, with letters of quite different chances."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(letters + 1, letters).double()

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, p: Tensor, t: Tensor) -> Tensor:
            return 3 * layer(torch.cat([p, t.to(p).view(-1, 1, 1).expand(*p.shape[:2], 1)], -1))

    return Net()
