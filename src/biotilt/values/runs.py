"""The learned values that differ in how many letters at a time they are fitted to: see `values.learned`."""

from __future__ import annotations

from typing import ClassVar

from biotilt.core import Network, Process, Reveals, Value
from biotilt.values.learned import LearnedQ, LearnedValueConfig
from biotilt.values.learned_state import LearnedV


class Return(LearnedQ):
    """Regression on the whole return: of letters, or of states (`LearnedV`) where nothing is hidden and revealed."""

    name: ClassVar[str] = "return"

    @classmethod
    def build(cls, options: LearnedValueConfig, process: Process, network: Network) -> Value:
        if not isinstance(process, Reveals):
            return LearnedV(network(options.width, options.depth), process, options)
        return super().build(options, process, network)


class Bootstrapped(LearnedQ):
    """The soft Bellman equation, one letter at a time."""

    name: ClassVar[str] = "bootstrapped"


class Mixed(LearnedQ):
    """Between the two: a random number of letters at a time."""

    name: ClassVar[str] = "mixed"
