"""Screening by an exact gaussian process on fingerprints, k-mers, numbers or the generator's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from biotilt.core import Batch, View
from biotilt.formulas.acquisition import expected_improvement, upper_confidence
from biotilt.options import NotNegative, check_options
from biotilt.screens.gaussian_process import GaussianProcess, most_likely
from biotilt.screens.kernels import similarity
from biotilt.screens.ranking import RankingOptions, RankingScreen


@dataclass(frozen=True)
class GPOptions(RankingOptions):
    """`kernel`: by what designs are alike, default by the space: "counts" of parts (substructures of molecules, k-mers
    of texts) or "tanimoto" of them alone, "kmer" with positions, "values" of points and images, or "features" of the
    generator's network. `acquisition`: "ucb", μ + `kappa` σ, "expected_improvement" on the best score known, or
    "thompson", the best by one draw from the joint posterior for each call.
    """

    kernel: Literal["counts", "tanimoto", "kmer", "values", "features"] | None = None
    acquisition: Literal["ucb", "expected_improvement", "thompson"] = "ucb"
    kappa: NotNegative = 0.5

    def __post_init__(self) -> None:
        check_options(self, "screen")


class GPScreen(RankingScreen):
    """Ranks by the posterior of an exact gaussian process on at most `rows` designs.

    New rows extend its Cholesky factor. Kernel setting and noise are those of the largest marginal likelihood on a
    small grid, chosen anew when the number of designs has doubled and whenever some are forgotten.
    """

    name: ClassVar[str] = "gp"
    Options: ClassVar[type] = GPOptions
    options: GPOptions

    @classmethod
    def build(cls, options: Any, view: View) -> GPScreen:
        return cls(options, view)

    def __init__(self, options: GPOptions, view: View):
        super().__init__(options, view)
        self.kernel = similarity(options.kernel, view)
        self.process: GaussianProcess | None = None
        self.blocks: list[int] = []  # rows that were added at once, the first with the setting

    def fit(self, new: int, *, again: bool) -> None:
        process, scores = self.process, self.floored(self.scores)
        if process is None or again or len(scores) >= 2 * self.blocks[0]:
            self.process = most_likely(self.kernel, self.kernel.read(self.designs), scores)
            self.blocks = [len(scores)]
            return
        process.add(self.kernel.read(self.designs[-new:]))
        process.condition(scores)
        self.blocks.append(new)

    def predict(self, designs: Tensor) -> Tensor:
        return self._fitted.predict(self.kernel.read(designs))[0]

    def promise(self, designs: Tensor, count: int, generator: Generator) -> Tensor:
        process, features = self._fitted, self.kernel.read(designs)
        mean, deviation = process.predict(features)
        if self.options.acquisition == "ucb":
            return upper_confidence(mean, deviation, self.options.kappa)
        if self.options.acquisition == "expected_improvement":
            return expected_improvement(mean, deviation, self.scores.max().item())
        return thompson(mean, process.covariance(features), count, generator)

    def state(self) -> Batch:
        process = self.process
        chosen = [] if process is None else [*process.setting, process.noise]
        return super().state() | {
            "blocks": torch.tensor(self.blocks, dtype=torch.int64), "setting": torch.tensor(chosen, dtype=torch.float64)
        }  # fmt: skip

    def load_state(self, state: Batch) -> None:
        """Go back to a state: rows are added in the blocks in which they were, so that nothing is rounded otherwise."""
        super().load_state(state)
        self.blocks, self.process = state["blocks"].tolist(), None
        if not self.blocks:
            return
        *setting, noise = state["setting"].tolist()
        self.process = GaussianProcess(self.kernel, tuple(setting), noise)
        for block in self.designs.split(self.blocks):
            self.process.add(self.kernel.read(block))
        self.process.condition(self.floored(self.scores))

    @property
    def _fitted(self) -> GaussianProcess:
        if self.process is None:
            raise ValueError("the screen has learned nothing yet")
        return self.process


def thompson(mean: Tensor, covariance: Tensor, count: int, generator: Generator) -> Tensor:
    """Return promises `(N,)` whose largest are the designs that `count` draws from a posterior find best, one after
    another: the best of each draw that no earlier draw has taken; designs that none took follow by their mean.
    """
    size = len(mean)
    jitter = 1e-9 * covariance.diagonal().mean().clamp(min=1e-300)
    factor = torch.linalg.cholesky(covariance + jitter * torch.eye(size, dtype=mean.dtype))
    noise = torch.randn(size, count, generator=generator, device=generator.device, dtype=mean.dtype).cpu()
    draws = mean.unsqueeze(1) + factor @ noise
    promise = mean - mean.max() - 1
    for turn in range(min(count, size)):
        best = int(draws[:, turn].argmax())
        promise[best] = count - turn
        draws[best] = -torch.inf
    return promise
