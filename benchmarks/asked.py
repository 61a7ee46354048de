"""A reward that remembers what was asked of it, for benchmarks that count calls alike for ours and for rivals."""

from __future__ import annotations

from typing import Generic, TypeVar

from biotilt.rewards import NamedReward

R = TypeVar("R", bound=NamedReward)


class Spent(Exception):
    """All calls were made."""


class Asked(Generic[R]):
    """A reward of which at most `calls` different designs are asked, then it raises `Spent`; `scores` in their order.

    Designs that were asked before cost nothing.
    """

    differentiable = False

    def __init__(self, reward: R, calls: int):
        self.reward, self.calls = reward, calls
        self.name, self.version = reward.name, reward.version
        self.scores: dict[str, float] = {}

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(design) for design in designs]

    def _score(self, design: str) -> float:
        if design not in self.scores:
            if len(self.scores) >= self.calls:
                raise Spent
            (self.scores[design],) = self.reward([design])
        return self.scores[design]
