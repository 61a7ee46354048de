"""Noisy rewards: each design is scored several times, and the scores are averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from biotilt.oracle.store import Score
from biotilt.oracle.workers.backend import Backend, Ticket


class Repeated:
    """A backend that scores each design `repeats` times with another and averages the scores it got.

    Attempts that failed enter no mean; when all failed, the score is NaN with the reason of the first. A design that
    was infeasible once is infeasible. Seconds and attempts are summed.
    """

    def __init__(self, backend: Backend, repeats: int) -> None:
        self._backend = backend
        self._repeats = repeats
        self.concurrent = backend.concurrent

    @property
    def workers(self) -> int:
        return self._backend.workers

    @property
    def replaced(self) -> int:
        return self._backend.replaced

    def submit(self, designs: Sequence[Any]) -> Ticket:
        return _Averaged([self._backend.submit(designs) for _ in range(self._repeats)], len(designs))

    def close(self) -> None:
        self._backend.close()


class _Averaged:
    def __init__(self, tickets: list[Ticket], count: int) -> None:
        self._tickets = tickets
        self._scores: list[list[Score]] = [[] for _ in range(count)]

    def wait(self, timeout: float) -> bool:
        return all(ticket.wait(timeout) for ticket in self._tickets)

    def finished(self) -> list[tuple[int, Score]]:
        found = []
        for ticket in self._tickets:
            for index, score in ticket.finished():
                self._scores[index].append(score)
                if len(self._scores[index]) == len(self._tickets):
                    found.append((index, average(self._scores[index])))
        return found

    def cancel(self) -> None:
        for ticket in self._tickets:
            ticket.cancel()

    @property
    def wall(self) -> tuple[float, float]:
        return self._tickets[0].wall[0], max(ticket.wall[1] for ticket in self._tickets)


def average(scores: Sequence[Score]) -> Score:
    """Return the mean of the scores that are not NaN, as one score; each column has its own mean.

    >>> mean = average([Score(1.0), Score(math.nan, "odd"), Score(2.0)])
    >>> mean.value, mean.attempts
    (1.5, 3)
    """
    names = dict.fromkeys(name for score in scores for name, _, _ in score.columns)
    columns = tuple((name, *_mean([_of_column(score, name) for score in scores])) for name in names)
    value, reason = _mean([(score.value, score.reason) for score in scores])
    seconds, attempts = math.fsum(score.seconds for score in scores), sum(score.attempts for score in scores)
    return Score(value, reason, seconds, attempts=attempts, columns=columns)


def _mean(scores: Sequence[tuple[float, str]]) -> tuple[float, str]:
    values = [value for value, _ in scores if not math.isnan(value)]
    return (sum(values) / len(values), "") if values else (math.nan, scores[0][1])


def _of_column(score: Score, name: str) -> tuple[float, str]:
    """Return score and reason of a column; an attempt that gave no columns says the same of all."""
    known = {column: (value, reason) for column, value, reason in score.columns}
    return known.get(name, (score.value, score.reason))
