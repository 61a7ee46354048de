"""A worker that is a process of this machine: it keeps the limits, and is replaced when it is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from biotilt import errors
from biotilt.declared import Declaration
from biotilt.errors import BiotiltError, RewardError
from biotilt.oracle.workers.nursery import Child, Nursery
from biotilt.oracle.workers.scheduler import Answer, Lost

FIRST = 10.0  # seconds added to the time limit of the first design of all, which may have packages to import
LATER = 3.0  # how many times that of the slowest first design so far is added for those of later workers
UNREADABLE = "the worker sent what is no answer"
STARTS = 3  # workers that die in a row before they have loaded the reward


class ProcessWorker:
    """Scores chunks in one process of `nursery`, each design within `time_limit` seconds (None: without end)."""

    def __init__(self, nursery: Nursery, declared: Declaration, time_limit: float | None) -> None:
        self._nursery = nursery
        self._declared = declared
        self._time_limit = time_limit
        self._child: Child | None = None
        self._fresh = True
        self._request = 0

    def prepare(self) -> None:
        """Start a process when there is none, or when it died while it had nothing to do.

        Raises `RewardError` when the reward cannot be loaded there.
        """
        if self._child is not None and self._child.connection.poll(0):
            self._end()
        if self._child is None:
            self._child = self._start()

    def run(self, designs: list[Any]) -> Iterator[Answer]:
        """Yield the outcomes of `designs`; see `Worker`. What answers another request is dropped."""
        assert self._child is not None  # it was prepared
        connection = self._child.connection
        certain = not self._declared.batched or len(designs) == 1
        since = time.perf_counter()
        self._request += 1
        with suppress(OSError):  # a worker that has just died is seen below
            connection.send((self._request, designs))
        while True:
            allowed = self._allowed(time.perf_counter() - since)
            try:
                if not connection.poll(allowed):
                    self._end()
                    reason = f"took longer than {self._time_limit:g} s"
                    yield Lost(reason, time.perf_counter() - since, transient=False, certain=certain)
                    return
                request, kind, content = connection.recv()
            except Exception as error:  # not only its end: the code of others may write to any descriptor
                ended = _cause(self._end())
                reason = ended if isinstance(error, EOFError | OSError) else UNREADABLE
                yield Lost(reason, time.perf_counter() - since, transient=True, certain=certain)
                return
            if request != self._request:
                continue
            if kind == "stop":
                raise _rebuilt(*content)
            if kind == "leaves":
                self._end()
                return
            if kind == "over":
                return
            if kind == "singly":
                certain = True
            else:
                self._note_first(time.perf_counter() - since)
                yield content
            since = time.perf_counter()

    def close(self) -> None:
        """End the process."""
        self._end()

    def _allowed(self, used: float) -> float | None:
        """How much longer the design in progress may take."""
        if self._time_limit is None:
            return None
        slowest = self._nursery.slowest_first
        extra = 0.0 if not self._fresh else FIRST if slowest is None else LATER * slowest
        return max(0.0, self._time_limit + extra - used)

    def _note_first(self, seconds: float) -> None:
        if self._fresh:
            self._nursery.slowest_first = max(seconds, self._nursery.slowest_first or 0.0)
            self._fresh = False

    def _start(self) -> Child:
        cause = ""
        for _ in range(STARTS):
            child = self._nursery.start()
            self._fresh = True
            try:
                _, kind, content = child.connection.recv()
            except Exception:
                cause = _cause(self._nursery.end(child))
                continue
            if kind == "loaded":
                return child
            self._nursery.end(child)
            raise RewardError(f'reward "{self._declared.name}" cannot be loaded in a worker process: {content}')
        raise RewardError(f'reward "{self._declared.name}" cannot be loaded in a worker process: {cause}')

    def _end(self) -> int | None:
        if self._child is None:
            return None
        child, self._child = self._child, None
        return self._nursery.end(child)


def _cause(status: int | None) -> str:
    """Say why a worker died, by its exit status."""
    if status is None:
        return "the worker was lost"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = f", {signal.Signals(number).name}" if number in signal.Signals.__members__.values() else ""
        return f"the worker died (signal {number}{name})"
    return f"the worker died (exit code {os.WEXITSTATUS(status)})"


def _rebuilt(name: str, text: str) -> BiotiltError:
    kind = getattr(errors, name, RewardError)
    return kind(text)
