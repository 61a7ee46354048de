"""Landscapes whose every design is known: a base trained on them and an exact p* to compare with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from biotilt.core import Policy
from biotilt.networks import MLP, MLPConfig
from biotilt.processes import AnyOrder
from biotilt.testing.exact import all_designs
from biotilt.testing.reveal import reveal_law


@dataclass
class Landscape:
    """`reward` `(V^L,)` of all designs in lexicographic order, a trained base, its exact law, and α."""

    name: str
    reward: Tensor
    base: Policy
    base_law: Tensor
    alpha: float

    def index(self, designs: Tensor) -> Tensor:
        """Return the number of each design `(B, L)` in lexicographic order."""
        process = self.base.process
        powers = process.letters ** torch.arange(process.length - 1, -1, -1)  # type: ignore[attr-defined]
        return (designs.long() * powers).sum(-1)

    def score(self, designs: Tensor) -> Tensor:
        return self.reward[self.index(designs)].float()

    @property
    def target(self) -> Tensor:
        """p* over all designs."""
        return (self.base_law.log() + self.reward / self.alpha).softmax(0)


def train_base(length: int, law: Tensor, *, width: int, steps: int, seed: int) -> Policy:
    """Return an MLP any-order model trained on designs drawn from `law` `(4^L,)`."""
    torch.manual_seed(seed)
    policy = Policy(AnyOrder(length, 4), MLP(MLPConfig(4, length, width)))
    generator = torch.Generator().manual_seed(seed)
    designs = all_designs(4, length)
    optimiser = torch.optim.Adam(policy.net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    cumulative = law.cumsum(0)
    for _ in range(steps):
        u = torch.rand(512, generator=generator, dtype=law.dtype) * cumulative[-1]
        rows = torch.searchsorted(cumulative, u).clamp(max=len(law) - 1)
        loss = policy.process.denoising_loss(policy.net, designs[rows], generator).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return policy.frozen_copy()


def epistatic(seed: int = 5) -> Landscape:
    """MATH.md's §6: L = 6, V = 4; skewed coupled data, a reward with pairwise epistasis and another optimum."""
    length, generator = 6, torch.Generator().manual_seed(seed)
    designs = all_designs(4, length).long()

    def energy(single: float, pair: float) -> Tensor:
        first = single * torch.randn(length, 4, generator=generator, dtype=torch.float64)
        total = first[torch.arange(length), designs].sum(-1)
        for i, j in itertools.combinations(range(length), 2):
            second = pair * torch.randn(4, 4, generator=generator, dtype=torch.float64)
            total = total + second[designs[:, i], designs[:, j]]
        return total

    data = energy(0.5, 0.2).softmax(0)
    reward = energy(1.0, 0.5)
    reward = (reward - reward.mean()) / reward.std()
    base = train_base(length, data, width=256, steps=4000, seed=seed)
    return Landscape("epistatic", reward, base, reveal_law(base), alpha=0.5)


def tfbind8(folder: Path, seed: int = 0) -> Landscape:
    """SIX6 binding of all 4^8 8-mers: reward = min-max normalised E-score, base trained on the lower half."""
    score = torch.from_numpy(np.load(folder / "SIX6_REF_R1_escore_65536.npy")).double()
    reward = (score - score.min()) / (score.max() - score.min())
    lower = (reward <= reward.median()).double()
    base = train_base(8, lower / lower.sum(), width=256, steps=4000, seed=seed)
    law = reveal_law(base)
    alpha = temperature(law, reward, reward.quantile(0.99).item())
    return Landscape("tfbind8", reward, base, law, alpha)


def temperature(law: Tensor, reward: Tensor, goal: float) -> float:
    """Return the α at which E_{p*}[r] = goal, by bisection: the expectation falls with α."""
    low, high = 1e-3, 10.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        expected = ((law.log() + reward / middle).softmax(0) * reward).sum().item()
        low, high = (middle, high) if expected > goal else (low, middle)
    return middle
