"""What an objective is, and what it is given to work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from biotilt.core.capabilities import T, needed
from biotilt.core.parts import Algorithm, Value
from biotilt.core.policy import Roles, Trajectory
from biotilt.core.reading import Reading
from biotilt.core.replay import Batch, Columns, Replay
from biotilt.core.screen import Screen
from biotilt.core.target import Target
from biotilt.core.temperature import Temperature

Metrics = dict[str, float]


@dataclass
class Context:
    """The parts all algorithms share: roles, what is aimed at, random numbers, a value; objectives have a replay.

    `screen`: what chooses which designs are scored, where there is one. An algorithm that takes one (`unscreened`)
    draws `proposals(count)` designs and scores `chosen` ones with `scores` or `rewards`, which let the screen learn.
    `reading`: which states are one design, and what else the space tells those that search. `temperature`: what α
    follows, where it is not given; the α of the newest round is that of `target`.
    """

    roles: Roles
    target: Target
    generator: Generator
    memory: Replay = field(default_factory=lambda: Replay(None))
    value: Value | None = None
    screen: Screen | None = None
    reading: Reading = field(default_factory=Reading)
    temperature: Temperature | None = None

    def value_as(self, kind: type[T]) -> T:
        """Return the value as one of a class that the algorithm works with."""
        return needed(self.value, kind)

    def proposals(self, count: int) -> int:
        """Return how many designs to draw, of which `count` will be scored."""
        return count if self.screen is None else self.screen.proposals(count)

    def chosen(self, designs: Tensor, count: int) -> Tensor:
        """Return the places `(count,)` of the designs `(B, ...)`, B ≥ `count`, that are worth a call."""
        if self.screen is None or len(designs) == count:
            return torch.arange(count, device=designs.device)
        return self.screen.choose(designs, count, self.generator)

    def scores(self, designs: Tensor) -> Tensor:
        """Score designs as `Target.scores` does, and let the screen learn from it."""
        scores = self.target.scores(designs)
        if self.screen is not None:
            self.screen.learn(designs, scores)
        return scores

    def rewards(self, designs: Tensor) -> Tensor:
        """Score designs for a loss as `Target.rewards` does, and let the screen learn from it."""
        return self.target.finite(self.scores(designs))


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

    def check_calls(self, calls: int) -> None:
        """Raise ConfigError when its configuration does not go with rounds of so many calls."""

    @abstractmethod
    def columns(self, value: Value | None) -> Columns:
        """Return the columns of the rows that `collect` brings, with the value it works with."""

    def begun(self, context: Context, designs: Tensor, scores: Tensor) -> Batch:
        """Return rows of designs of the base that were scored before the first round; none where it cannot use such."""
        return {}

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
    value = context.value
    learned = [value] if isinstance(value, nn.Module) and any(True for _ in value.parameters()) else []
    return [context.roles.policy.net, *learned]


def roll_in_metrics(chain: Trajectory, rewards: Tensor | None) -> Metrics:
    """Return the mean reward of those scored, and the mean path KL to the base as drawn."""
    metrics = {} if rewards is None else {"reward": rewards.nanmean().item()}
    if chain.log_ratio is not None:
        metrics["kl"] = chain.log_ratio.sum(0).mean().item()
    return metrics
