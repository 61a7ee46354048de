"""What an objective is, and what it is given to work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Generator, Tensor, nn

from biotilt.core.capabilities import T, needed
from biotilt.core.parts import Algorithm, Value
from biotilt.core.policy import Roles, Trajectory
from biotilt.core.replay import Batch, Columns, Replay
from biotilt.core.target import Target

Metrics = dict[str, float]


@dataclass
class Context:
    """The parts all algorithms share: roles, what is aimed at, random numbers, a value; objectives have a replay."""

    roles: Roles
    target: Target
    generator: Generator
    memory: Replay = field(default_factory=lambda: Replay(None))
    value: Value | None = None

    def value_as(self, kind: type[T]) -> T:
        """Return the value as one of a class that the algorithm works with."""
        return needed(self.value, kind)


@dataclass
class Round:
    """What one round of oracle calls brought: replay rows, the designs the policy drew, if any, and figures to show."""

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
