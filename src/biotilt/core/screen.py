"""What a screen is: it chooses which of the designs that were drawn are worth a call of the oracle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator, Tensor

from biotilt.core.replay import Batch
from biotilt.core.space import Space


@dataclass(frozen=True)
class View:
    """How screens, and values of whole designs, see states x[K] `(B, ...)`.

    `decode` returns their designs, which the `space` describes; `embed` their features `(B, C)` in the generator's
    network, pooled over positions, and is None where that offers none.
    """

    space: Space[Any]
    decode: Callable[[Tensor], list[Any]]
    embed: Callable[[Tensor], Tensor] | None = None


class Screen(ABC):
    """Chooses, from designs that cost no call, those to be scored, and learns from the scores.

    What an algorithm does with it: draw `proposals(count)` designs, score those at `choose(designs, count, …)`, and
    hand them with their scores to `learn`. `Context` has a method for each step, which does without where there is no
    screen. States are given and kept as the process has them. `state` and `load_state` are what a checkpoint holds: a
    screen that was loaded goes on bit for bit like the one that was saved.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def build(cls, options: Any, view: View) -> Screen:
        """Return the screen that its options (of its class `Options`, or of itself) stand for.

        Raises ConfigError when it cannot tell designs of this view apart.
        """

    @abstractmethod
    def proposals(self, count: int) -> int:
        """Return how many designs it wants to see to choose `count`; `count` itself while it would choose any."""

    @abstractmethod
    def choose(self, designs: Tensor, count: int, generator: Generator) -> Tensor:
        """Return the places `(count,)`, all different, of the designs `(B, ...)` that are worth a call; B ≥ `count`."""

    @abstractmethod
    def learn(self, designs: Tensor, scores: Tensor) -> None:
        """Learn from designs `(B, ...)`, chosen by it or not, and scores `(B,)`: NaN not scored, −inf infeasible."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Return what the history shows of it, by keys that start with "screen/"; only what is known."""

    @abstractmethod
    def state(self) -> Batch:
        """Return all that its next choices depend on, as tensors."""

    @abstractmethod
    def load_state(self, state: Batch) -> None:
        """Go back to a `state`; KeyError, ValueError or RuntimeError where it does not fit."""
