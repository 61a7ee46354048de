"""One small space a process, on which p* is known: what the matrix measures its cells on.

Each has `name`, `base`, `alpha`, `scorer()`, `base_distance`, `distances(policy, generator)` and
`distances_of(designs, weight)`, as the landscapes have. The reward has an optimum of its own and no symmetry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from biotilt.core import Policy, Process, sample
from biotilt.networks import MLP, MLPConfig
from biotilt.networks.table import Table
from biotilt.processes import AnyOrder, Finite, Masked, Simplex, Uniform
from biotilt.testing import TableScorer, law, tilted_law, total_variation
from biotilt.testing.exact import all_designs, lexicographic_index
from landscapes import empirical_floor

DRAWN = 20_000  # designs of a law that can only be sampled


@dataclass
class Enumerable:
    """A space whose laws are computed exactly; `reward` `(D,)` of all designs."""

    name: str
    base: Policy
    reward: Tensor
    alpha: float

    def scorer(self) -> TableScorer:
        return TableScorer(self.base.process, self.reward)

    @cached_property
    def target(self) -> Tensor:
        return tilted_law(law(self.base), self.reward, self.alpha)[0]

    @property
    def base_distance(self) -> float:
        return total_variation(law(self.base), self.target)

    def distances(self, policy: Policy, generator: Generator) -> dict[str, float]:
        return {"distance": total_variation(law(policy), self.target)}

    def floor(self, count: int) -> float:
        """Return the mean distance of `count` exact draws."""
        return empirical_floor(self.target, count)

    def distances_of(self, designs: Tensor, weight: Tensor) -> dict[str, float]:
        rows = designs if designs.dim() == 1 else lexicographic_index(designs, self.base.process.letters)  # type: ignore[attr-defined]
        drawn = torch.zeros_like(self.target).index_add_(0, rows.long(), weight.double())
        return {"distance": total_variation(drawn, self.target)}


@dataclass
class Letters:
    """The simplex process: laws of the letters that its states mean, from many draws."""

    name: str
    base: Policy
    reward: Tensor
    alpha: float

    def scorer(self) -> LettersScorer:
        return LettersScorer(self.base.process, self.reward)

    def _law(self, letters: Tensor, weight: Tensor) -> Tensor:
        rows = lexicographic_index(letters, self.base.process.letters)  # type: ignore[attr-defined]
        return torch.zeros(len(self.reward), dtype=torch.float64).index_add_(0, rows, weight.double())

    def law(self, policy: Policy, generator: Generator) -> Tensor:
        states = sample(policy, DRAWN, generator, chunk=5000)
        return self._law(policy.process.tokens(states), torch.full((DRAWN,), 1 / DRAWN))  # type: ignore[attr-defined]

    @cached_property
    def base_law(self) -> Tensor:
        return self.law(self.base, torch.Generator().manual_seed(77))

    @property
    def target(self) -> Tensor:
        return tilted_law(self.base_law, self.reward, self.alpha)[0]

    @property
    def base_distance(self) -> float:
        return total_variation(self.base_law, self.target)

    def distances(self, policy: Policy, generator: Generator) -> dict[str, float]:
        return {"distance": total_variation(self.law(policy, generator), self.target)}

    def floor(self, count: int) -> float:
        return empirical_floor(self.target, count)

    def distances_of(self, designs: Tensor, weight: Tensor) -> dict[str, float]:
        letters = self.base.process.tokens(designs)  # type: ignore[attr-defined]
        return {"distance": total_variation(self._law(letters, weight), self.target)}


class LettersScorer(TableScorer):
    """Scores states of the simplex by their letters; relaxed designs are letter probabilities already."""

    def __call__(self, designs: Tensor) -> Tensor:
        return super().__call__(self.process.tokens(designs))  # type: ignore[attr-defined]


def words(length: int, letters: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return a skewed law over all words and a reward with pairs and an optimum of its own, `(V^L,)` each."""
    generator = torch.Generator().manual_seed(seed)
    designs = all_designs(letters, length).long()

    def energy(single: float, pair: float) -> Tensor:
        total = torch.zeros(len(designs), dtype=torch.float64)
        for i in range(length):
            first = torch.randn(letters, generator=generator, dtype=torch.float64)
            second = torch.randn(letters, letters, generator=generator, dtype=torch.float64)
            total += single * first[designs[:, i]] + pair * second[designs[:, i], designs[:, (i + 1) % length]]
        return total

    return energy(0.6, 0.3).softmax(0), energy(1.0, 0.6)


def pretrained(process: Process, net: torch.nn.Module, joint: Tensor, designs: Tensor, steps: int) -> Policy:
    """Return a policy trained on designs drawn from the law `joint` `(D,)` over `designs` `(D, ...)`."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.multinomial(joint, 256, replacement=True, generator=generator)
        loss = process.denoising_loss(net, designs[rows], generator).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return Policy(process, net)


def _of_letters(process: Any, seed: int, *, time: bool = False, kind: type = Enumerable, steps: int = 1500) -> Any:
    torch.manual_seed(seed)
    joint, reward = words(process.length, process.letters, seed)
    tokens = all_designs(process.letters, process.length)
    designs = process.vertices(tokens) if hasattr(process, "vertices") else tokens
    net = MLP(MLPConfig(process.letters, process.length, width=96, depth=2, time=time))
    return kind(process.name, pretrained(process, net, joint, designs, steps), reward, alpha=0.7)


def finite() -> Enumerable:
    """12 states, 4 steps, random tables."""
    generator = torch.Generator().manual_seed(3)
    process = Finite(12, 4)
    net = Table(12, 4, torch.randn(4, 12, 12, generator=generator))
    reward = 1.5 * torch.randn(12, generator=generator, dtype=torch.float64)
    return Enumerable("finite", Policy(process, net), reward, alpha=0.7)


def continuous(which: str) -> Callable[[], Any]:
    def build() -> Any:
        from continuous import mixture_2d

        return mixture_2d(which)

    return build


SPACES: dict[str, Callable[[], Any]] = {
    "finite": finite,
    "any_order": lambda: _of_letters(AnyOrder(4, 3), 11),
    "masked": lambda: _of_letters(Masked(3, 3, num_steps=16), 12),
    "uniform": lambda: _of_letters(Uniform(3, 3, num_steps=16), 13, time=True),
    "gaussian": continuous("gaussian"),
    "flow": continuous("flow"),
    "simplex": lambda: _of_letters(Simplex(2, 3), 14, time=True, kind=Letters, steps=2000),
}
