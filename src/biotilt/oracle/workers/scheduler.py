"""Hands designs to workers: one queue, chunks sized by measured latency, and retries that only culprits pay for."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from biotilt.declared import Declaration
from biotilt.oracle.store import Score
from biotilt.oracle.workers.limits import Limits
from biotilt.oracle.workers.scoring import Outcome

CHUNK_SECONDS = 0.2  # long beside the milliseconds that a message takes, short beside a round of tuning
SMOOTHING = 0.5


@dataclass(frozen=True)
class Lost:
    """A worker was lost before it had scored all of its chunk.

    `certain`: the first design that has no outcome is to blame, and not one of a batch. `transient`: the fault
    may have been of the worker, not of the design. `seconds` were spent since the last outcome.
    """

    reason: str
    seconds: float
    transient: bool
    certain: bool


Answer = tuple[int, Outcome] | Lost  # with the index of the design among those that were asked


class Worker(Protocol):
    """Scores one chunk at a time."""

    def prepare(self) -> None:
        """Be ready for a chunk, replacing what was lost; it may take long, and hold up nobody else's designs."""
        ...

    def run(self, designs: list[Any]) -> Iterator[Answer]:
        """Yield an outcome a design. It may end early, with `Lost` or, where nobody is to blame, without.

        Raises the errors that no design causes.
        """
        ...

    def close(self) -> None: ...


@dataclass(eq=False)
class _Task:
    ticket: Queued
    index: int
    design: str
    attempts: int = 0
    seconds: float = 0.0
    alone: bool = False  # it was in a batch that was lost: asked by itself, it can hurt no other


class Queued:
    """A `Ticket` whose designs are in the queue of a scheduler."""

    def __init__(self, count: int, cancel: Callable[[Queued], None]) -> None:
        self._left = count
        self._new: deque[tuple[int, Score]] = deque()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._cancel = cancel
        now = time.perf_counter()
        self.wall = (now, now)
        if not count:
            self._done.set()

    def wait(self, timeout: float) -> bool:
        """Return whether all are scored, after at most `timeout` seconds; raise the error that ended the work."""
        done = self._done.wait(timeout)
        if self._error is not None:
            raise self._error
        return done

    def finished(self) -> list[tuple[int, Score]]:
        """Return (index of the design, score) of those that were finished since this was asked last."""
        return [self._new.popleft() for _ in range(len(self._new))]

    def cancel(self) -> None:
        """Start nothing more of this."""
        self._cancel(self)

    def put(self, index: int, score: Score) -> None:
        self._new.append((index, score))
        self._left -= 1
        self.wall = (self.wall[0], time.perf_counter())
        if not self._left:
            self._done.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._done.set()


class Scheduler:
    """A backend of several workers, each fed by a thread of its own, so that work goes on while the caller trains."""

    concurrent = True

    def __init__(
        self, members: Sequence[Worker], declared: Declaration, limits: Limits, close: Callable[[], None]
    ) -> None:
        self._members = members
        self._declared = declared
        self._limits = limits
        self._close = close
        self._changed = threading.Condition()
        self._queue: deque[_Task] = deque()
        self._open: set[Queued] = set()
        self._latency: float | None = None  # seconds a design, a moving average
        self._threads: list[threading.Thread] = []
        self._closed = False
        self.replaced = 0

    @property
    def workers(self) -> int:
        """The number of workers."""
        return len(self._members)

    def submit(self, designs: Sequence[Any]) -> Queued:
        """Queue `designs`, behind what is queued, and return at once."""
        ticket = Queued(len(designs), self._drop)
        with self._changed:
            if self._closed:
                raise RuntimeError("this backend is closed")
            self._open.add(ticket)
            self._queue.extend(_Task(ticket, index, design) for index, design in enumerate(designs))
            self._changed.notify_all()
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._serve, args=(member,), daemon=True, name="biotilt-oracle")
                for member in self._members
            ]
            for thread in self._threads:
                thread.start()
        return ticket

    def close(self) -> None:
        """End the workers, also one that hangs."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        self._close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _serve(self, member: Worker) -> None:
        while self._has_work():
            try:
                member.prepare()
                if chunk := self._take():
                    self._run(member, chunk)
            except BaseException as error:  # an error of this thread is raised where its scores are waited for
                self._fail(error)
        member.close()

    def _has_work(self) -> bool:
        """Wait until there is something to do; return False at the end."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            return not self._closed

    def _take(self) -> list[_Task]:
        """Return the next chunk, empty when others were faster."""
        with self._changed:
            if not self._queue:
                return []
            chunk = [self._queue.popleft()]
            size = 1 if chunk[0].alone else self._size(len(self._queue) + 1)
            while len(chunk) < size and self._queue and not self._queue[0].alone:
                chunk.append(self._queue.popleft())
            return chunk

    def _size(self, waiting: int) -> int:
        """How many designs take about `CHUNK_SECONDS`, but no more than a fair share of those that are waiting."""
        if self._limits.chunk is not None:
            return self._limits.chunk
        if self._latency is None:
            return 1
        target = CHUNK_SECONDS
        if self._declared.batched and self._limits.time_limit is not None:
            target = min(target, self._limits.time_limit / 2)  # a batch has the time limit of one design
        return max(1, min(int(target / max(self._latency, 1e-6)), math.ceil(waiting / len(self._members))))

    def _run(self, member: Worker, chunk: list[_Task]) -> None:
        waiting = dict(enumerate(chunk))
        start = time.perf_counter()
        for answer in member.run([task.design for task in chunk]):
            if isinstance(answer, Lost):
                self._count_replaced()  # first, since the outcome may be the last that somebody waits for
                self._blame(waiting, answer)
                break
            index, outcome = answer
            if index in waiting:  # any other was answered before, or never asked
                self._settle(waiting.pop(index), outcome)
        else:
            if waiting:
                self._count_replaced()  # it left, and nobody is to blame
            else:
                self._measure((time.perf_counter() - start) / len(chunk))
        with self._changed:
            self._requeue(waiting.values())

    def _count_replaced(self) -> None:
        with self._changed:
            self.replaced += 1

    def _measure(self, latency: float) -> None:
        with self._changed:
            before = latency if self._latency is None else self._latency
            self._latency = SMOOTHING * latency + (1 - SMOOTHING) * before

    def _blame(self, waiting: dict[int, _Task], lost: Lost) -> None:
        """Charge a lost worker to the design that it was scoring, or find out which of a batch it was."""
        if lost.certain and waiting:
            task = waiting.pop(min(waiting))
            self._settle(task, Outcome(math.nan, lost.reason, lost.seconds, lost.transient))
            return
        for task in waiting.values():
            task.alone = True
            task.seconds += lost.seconds / len(waiting)

    def _settle(self, task: _Task, outcome: Outcome) -> None:
        """Take the outcome of an attempt as the score, or queue the design for another one."""
        with self._changed:
            task.attempts += 1
            task.seconds += outcome.seconds
            if task.ticket not in self._open:
                return  # cancelled, or ended by an error
            if outcome.transient and task.attempts <= self._limits.retries:
                self._queue.append(task)
                self._changed.notify()
                return
            score = Score(outcome.value, outcome.reason, task.seconds, attempts=task.attempts, columns=outcome.columns)
            task.ticket.put(task.index, score)
            if task.ticket.wait(0):
                self._open.discard(task.ticket)

    def _requeue(self, tasks: Iterable[_Task]) -> None:
        kept = [task for task in tasks if task.ticket in self._open]
        self._queue.extendleft(reversed(kept))
        self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._queue.clear()
            for ticket in self._open:
                ticket.fail(error)
            self._open.clear()

    def _drop(self, ticket: Queued) -> None:
        with self._changed:
            self._open.discard(ticket)
            self._queue = deque(task for task in self._queue if task.ticket is not ticket)
