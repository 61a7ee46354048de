"""What an objective is, and what it is given to work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from biotilt.core.capabilities import T, needed
from biotilt.core.parts import Algorithm, Value
from biotilt.core.policy import Roles, Trajectory
from biotilt.core.protocols import RelaxedScorer, Scorer
from biotilt.core.replay import Batch, Columns, Replay

Metrics = dict[str, float]


@dataclass
class Context:
    """The parts every objective shares: roles, oracle, value, temperature, random numbers and replay."""

    roles: Roles
    scorer: Scorer
    alpha: float
    generator: Generator
    memory: Replay
    value: Value | None = None

    def value_as(self, kind: type[T]) -> T:
        """Return the value as one of a class that the algorithm works with."""
        return needed(self.value, kind)

    def rewards(self, designs: Tensor) -> Tensor:
        """Score designs `(B, ...)`: rewards `(B,)` with NaN where not scored.

        An infeasible design (−inf) is given the worst feasible reward of the batch less 10 α: its weight
        exp(r/α) is then nil for any purpose, and every difference stays finite. A batch without any feasible design
        has no such scale: all of it counts as not scored.

        Raises ValueError when the scorer returns another shape: `(B, 1)` would credit a design with all.
        """
        scores = self.scorer(designs).to(torch.get_default_dtype())
        if scores.shape != designs.shape[:1]:
            raise ValueError(f"the scorer returned shape {tuple(scores.shape)} for {len(designs)} designs")
        feasible = scores.isfinite()
        if not feasible.any():
            return torch.full_like(scores, torch.nan)
        floor = scores[feasible].min() - 10 * self.alpha
        return torch.where(scores == -torch.inf, floor, scores)

    def relaxed_rewards(self, designs: Tensor) -> Tensor:
        """Score relaxed designs (letter probabilities `(B, L, V)`, or points): rewards `(B,)` with gradients."""
        scores = needed(self.scorer, RelaxedScorer).relaxed(designs)
        if scores.shape != designs.shape[:1]:
            raise ValueError(f"the scorer returned shape {tuple(scores.shape)} for {len(designs)} designs")
        return scores


@dataclass
class Round:
    """What one round of oracle calls brought: replay rows, the designs the policy drew, and figures to show."""

    rows: Batch
    designs: Tensor
    metrics: Metrics


class Objective(Algorithm, ABC):
    """A way of tuning weights: a frozen dataclass whose fields are its configuration.

    It says how often, and the loop does it: `updates` a round, each on `batch_size` rows of the replay.
    """

    updates: int

    @property
    @abstractmethod
    def capacity(self) -> int | None:
        """How many replay rows are kept; None for the last round only."""

    @property
    @abstractmethod
    def refresh_every(self) -> int:
        """After how many updates the proposal becomes a copy of the policy; `updates` for after each round."""

    @property
    @abstractmethod
    def batch_size(self) -> int | None:
        """How many rows of the replay a loss is given, drawn uniformly; None for all, where it draws its own."""

    @abstractmethod
    def columns(self, value: Value | None) -> Columns:
        """Return the columns of the rows that `collect` brings, with the value it works with."""

    @abstractmethod
    def collect(self, context: Context, calls: int) -> Round:
        """Draw data with at most `calls` oracle calls."""

    @abstractmethod
    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        """Return the scalar loss of one update on rows of the replay, and figures to show."""


def draw_loss(objective: Objective, context: Context) -> tuple[Tensor, Metrics]:
    """Return the loss of one update, and its figures, on rows drawn from the replay."""
    return objective.loss(context, context.memory.draw(objective.batch_size, context.generator))


def trainable(context: Context) -> list[nn.Module]:
    """Return the modules an optimiser updates: the policy's network, and a learned value."""
    return [context.roles.policy.net] + ([context.value] if isinstance(context.value, nn.Module) else [])


def roll_in_metrics(chain: Trajectory, rewards: Tensor | None) -> Metrics:
    """Return the mean reward of those scored, and the mean path KL to the base as drawn."""
    metrics = {} if rewards is None else {"reward": rewards.nanmean().item()}
    if chain.log_ratio is not None:
        metrics["kl"] = chain.log_ratio.sum(0).mean().item()
    return metrics
