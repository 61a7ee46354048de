"""Landscapes whose every design is known: a base trained on them and an exact p* to compare with."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from biotilt.core import Policy
from biotilt.networks import MLP, MLPConfig
from biotilt.processes import AnyOrder
from biotilt.testing import TableScorer
from biotilt.testing.exact import all_designs, kl, lexicographic_index, total_variation
from biotilt.testing.reveal import reveal_law


@dataclass
class Landscape:
    """`reward` `(V^L,)` of all designs in lexicographic order, a trained base, its exact law, and α.

    `base`: any-order, one letter a step, so that the law of every policy can be computed and p* be reached.
    """

    name: str
    reward: Tensor
    base: Policy
    base_law: Tensor
    alpha: float

    def scorer(self) -> TableScorer:
        """Return a scorer that counts, repeats included; relaxed designs get the multilinear extension."""
        return TableScorer(self.base.process, self.reward.float())

    @property
    def target(self) -> Tensor:
        """p* over all designs."""
        return (self.base_law.log() + self.reward / self.alpha).softmax(0)

    @property
    def log_z(self) -> float:
        return (self.base_law.log() + self.reward / self.alpha).logsumexp(0).item()

    def distances(self, policy: Policy, generator: Generator | None = None) -> dict[str, float]:
        """Return exact distances of a policy's law to p*: TV, and the error of E[r]; nothing is drawn."""
        return self._distances(reveal_law(policy))

    def floor(self, count: int) -> float:
        """Return the mean TV that `count` exact draws of p* show."""
        return empirical_floor(self.target, count)

    def distances_of(self, designs: Tensor, weight: Tensor) -> dict[str, float]:
        """The same of weighted designs `(N, L)`, `(N,)` summing to 1: the empirical law."""
        law = torch.zeros_like(self.reward)
        law.index_add_(0, lexicographic_index(designs, 4), weight.double())
        return self._distances(law)

    def _distances(self, law: Tensor) -> dict[str, float]:
        target = self.target
        error = ((law - target) * self.reward).sum().item()
        return {"distance": total_variation(law, target), "reward_error": error}

    @property
    def base_distance(self) -> float:
        return total_variation(self.base_law, self.target)

    def at(self, alpha: float) -> Landscape:
        """Return the same landscape at another temperature."""
        return replace(self, alpha=alpha)

    def tilted_by(self, nats: float) -> Landscape:
        """Return the same landscape at the α where KL(p* ‖ base) is so many nats."""

        def divergence(alpha: float) -> float:
            law = (self.base_law.log() + self.reward / alpha).softmax(0)
            return kl(law, self.base_law)

        return self.at(bisect(divergence, nats))


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
    return policy


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


def specificity(folder: Path, seed: int = 0) -> Landscape:
    """SIX6 binding minus the mean binding of the 40 other factors of the same assay; base as for `tfbind8`."""
    with gzip.open(folder / "REF_TFs_escore_x1e5.csv.gz", "rt") as handle:
        names, *rows = csv.reader(handle)
    score = np.array([row[1:] for row in rows], dtype=float) / 1e5
    target = names.index("SIX6_REF_R1") - 1
    contrast = score[:, target] - np.delete(score, target, axis=1).mean(1)
    reward = torch.empty(4**8, dtype=torch.float64)
    for row, value in zip(rows, contrast):
        tokens = torch.tensor(["ACGT".index(letter) for letter in row[0]])
        both = torch.stack([tokens, 3 - tokens.flip(0)])  # the table has one strand of each
        reward[lexicographic_index(both, 4)] = value
    lower = (reward <= reward.median()).double()
    base = train_base(8, lower / lower.sum(), width=256, steps=4000, seed=seed)
    return Landscape("specificity", reward, base, reveal_law(base), alpha=0.05).tilted_by(4.0)


def rna_hairpin(seed: int = 0) -> Landscape:
    """All 4^8 inserts into the 5′ side of a hairpin's stem: minus the ensemble free energy, kcal/mol (ViennaRNA).

    Stacking makes neighbours depend on each other, and G·U pairs give several good answers at each place. Inserts of
    the base are rich in A and U, which hold the stem less.
    """
    import RNA

    before, after = "GA", "UUCGCUAGGAUCUC"
    length, letters = 8, "ACGU"
    values = []
    for word in itertools.product(letters, repeat=length):
        _, ensemble = RNA.fold_compound(before + "".join(word) + after).pf()
        values.append(-ensemble)
    reward = torch.tensor(values, dtype=torch.float64)
    composition = torch.tensor([0.4, 0.15, 0.15, 0.3], dtype=torch.float64).log()
    law = composition[all_designs(4, length).long()].sum(-1).softmax(0)
    base = train_base(length, law, width=256, steps=4000, seed=seed)
    return Landscape("rna_hairpin", reward, base, reveal_law(base), alpha=1.0).tilted_by(4.0)


def empirical_floor(law: Tensor, count: int, repeats: int = 20) -> float:
    """Return the mean TV of the empirical law of `count` draws to the law `(D,)` they are of."""
    generator = torch.Generator().manual_seed(5)
    total = 0.0
    for _ in range(repeats):
        rows = torch.multinomial(law, count, replacement=True, generator=generator)
        drawn = torch.bincount(rows, minlength=len(law)).double() / count
        total += total_variation(drawn, law) / repeats
    return total


def temperature(law: Tensor, reward: Tensor, goal: float) -> float:
    """Return the α at which E_{p*}[r] = goal."""
    return bisect(lambda alpha: ((law.log() + reward / alpha).softmax(0) * reward).sum().item(), goal)


def bisect(function: Callable[[float], float], goal: float) -> float:
    """Return α in [1e-3, 1000] at which a function that falls with α takes a value."""
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if function(middle) > goal else (low, middle)
    return middle


# The three tilts of each landscape: KL(p* ‖ base) in nats.
TILTS = {"mild": 1.0, "middle": 2.0, "strong": 4.0}
LANDSCAPES = ("epistatic", "tfbind8", "specificity", "rna_hairpin", "mixture_2d", "mixture_10d")


def build(name: str, folder: Path) -> Any:
    """Return a landscape by name, at its own α; `folder` holds the tfbind8 files."""
    if name.startswith("mixture"):
        import continuous

        return getattr(continuous, name)("gaussian")
    makers = {"tfbind8": lambda: tfbind8(folder), "specificity": lambda: specificity(folder)}
    return makers.get(name, {"epistatic": epistatic, "rna_hairpin": rna_hairpin}.get(name))()


def tilted(landscape: Any, tilt: str) -> Any:
    """Return a landscape at one of the three tilts; `epistatic` has those of its table: α = 1, 0.5, 0.25."""
    if landscape.name == "epistatic":
        return landscape.at({"mild": 1.0, "middle": 0.5, "strong": 0.25}[tilt])
    return landscape.tilted_by(TILTS[tilt])
