"""Scoring in the process that tunes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from biotilt.declared import Declaration
from biotilt.oracle.store import Score
from biotilt.oracle.workers.scoring import OneByOne, Outcome, ask


class Inline:
    """Scores in this process, while `submit` runs. It can stop no design: a reward that hangs, hangs the run."""

    concurrent = False
    workers = 1
    replaced = 0

    def __init__(self, reward: Callable[[list[Any]], Any], retries: int = 1, chunk: int | None = None) -> None:
        self._reward = reward
        self._declared = Declaration.by(reward)
        self._retries, self._chunk = retries, chunk

    def submit(self, designs: Sequence[Any]) -> Done:
        """Score `designs`; errors that no design causes are raised here."""
        start = time.perf_counter()
        scores = self._score(designs)
        return Done(scores, (start, time.perf_counter()))

    def close(self) -> None:
        """Do nothing: there are no workers."""

    def _score(self, designs: Sequence[Any]) -> list[Score]:
        size = self._chunk or max(len(designs), 1)
        pieces = [(start, designs[start : start + size]) for start in range(0, len(designs), size)]
        outcomes = {start + index: outcome for start, piece in pieces for index, outcome in self._ask(piece)}
        return [self._retried(design, outcomes[index]) for index, design in enumerate(designs)]

    def _ask(self, designs: Sequence[Any]) -> Iterator[tuple[int, Outcome]]:
        for answer in ask(self._reward, self._declared, designs):
            if not isinstance(answer, OneByOne):
                yield answer

    def _retried(self, design: str, outcome: Outcome) -> Score:
        attempts, seconds = 1, outcome.seconds
        while outcome.transient and attempts <= self._retries:
            ((_, outcome),) = self._ask([design])
            attempts, seconds = attempts + 1, seconds + outcome.seconds
        return Score(outcome.value, outcome.reason, seconds, attempts=attempts, columns=outcome.columns)


@dataclass
class Done:
    """A `Ticket` whose designs are all scored."""

    scores: list[Score]
    wall: tuple[float, float]

    def wait(self, timeout: float) -> bool:
        return True

    def finished(self) -> list[tuple[int, Score]]:
        found, self.scores = self.scores, []
        return list(enumerate(found))

    def cancel(self) -> None:
        pass
