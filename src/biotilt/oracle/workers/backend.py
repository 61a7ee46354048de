"""Where a reward runs: in this process, in a pool of worker processes, or on a Ray cluster; the scores are the same."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from biotilt.errors import ConfigError, suggest
from biotilt.oracle.store import Score
from biotilt.oracle.workers.scoring import Declaration, OneByOne, Outcome, ask


@dataclass(frozen=True)
class Limits:
    """What one design may cost.

    `time_limit`, in seconds, of scoring one design; its worker is killed and replaced. `memory_limit`, in MB (10^6
    bytes), that scoring may allocate beyond what the loaded reward takes. `retries`: further attempts at a design
    whose worker died or that met a transient fault. `chunk`: designs that a worker is given at a time; None sizes
    chunks by measured latency.

    Raises `ConfigError` when one is out of range.
    """

    time_limit: float | None = None
    memory_limit: float | None = None
    retries: int = 1
    chunk: int | None = None

    def __post_init__(self) -> None:
        for key in ("time_limit", "memory_limit", "chunk"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ConfigError(f"oracle.{key} must be > 0, got {value}")
        if self.retries < 0:
            raise ConfigError(f"oracle.retries must be >= 0, got {self.retries}")


class Ticket(Protocol):
    """Designs that were submitted together."""

    def wait(self, timeout: float) -> bool:
        """Return whether all are scored, after at most `timeout` seconds; raise the error that ended the work."""
        ...

    def finished(self) -> list[tuple[int, Score]]:
        """Return (index of the design, score) of those that were finished since this was asked last."""
        ...

    def cancel(self) -> None:
        """Start nothing more of this."""
        ...

    @property
    def wall(self) -> tuple[float, float]:
        """When it was submitted and when its last score came, by `time.perf_counter`."""
        ...


class Backend(Protocol):
    """Scores designs, in order, with a reward that it was built for.

    `concurrent`: `submit` returns at once, and the work goes on while the caller does something else.
    """

    concurrent: bool

    @property
    def workers(self) -> int: ...

    @property
    def replaced(self) -> int:
        """The number of workers that died or were killed, and were replaced."""
        ...

    def submit(self, designs: Sequence[str]) -> Ticket: ...

    def close(self) -> None:
        """End the workers; nothing can be submitted afterwards."""
        ...


class Inline:
    """Scores in this process, while `submit` runs. It can stop no design: a reward that hangs, hangs the run."""

    concurrent = False
    workers = 1
    replaced = 0

    def __init__(self, reward: Callable[[list[str]], Any], limits: Limits | None = None) -> None:
        limits = limits or Limits()
        _check_inline(None, limits, None)
        self._reward = reward
        self._declared = Declaration.by(reward)
        self._retries = limits.retries

    def submit(self, designs: Sequence[str]) -> Ticket:
        """Score `designs`; errors that no design causes are raised here."""
        start = time.perf_counter()
        scores = self._score(designs)
        return _Done(scores, (start, time.perf_counter()))

    def close(self) -> None:
        """Do nothing: there are no workers."""

    def _score(self, designs: Sequence[str]) -> list[Score]:
        outcomes = dict(self._ask(designs))
        return [self._retried(design, outcomes[index]) for index, design in enumerate(designs)]

    def _ask(self, designs: Sequence[str]) -> Iterator[tuple[int, Outcome]]:
        for answer in ask(self._reward, self._declared, designs):
            if not isinstance(answer, OneByOne):
                yield answer

    def _retried(self, design: str, outcome: Outcome) -> Score:
        attempts, seconds = 1, outcome.seconds
        while outcome.transient and attempts <= self._retries:
            ((_, outcome),) = self._ask([design])
            attempts, seconds = attempts + 1, seconds + outcome.seconds
        return Score(outcome.value, outcome.reason, seconds, attempts=attempts)


@dataclass
class _Done:
    scores: list[Score]
    wall: tuple[float, float]

    def wait(self, timeout: float) -> bool:
        return True

    def finished(self) -> list[tuple[int, Score]]:
        found, self.scores = self.scores, []
        return list(enumerate(found))

    def cancel(self) -> None:
        pass


def _pool(reward: Any, workers: int | None, limits: Limits, address: str | None) -> Backend:
    from biotilt.oracle.workers.nursery import Nursery, pack
    from biotilt.oracle.workers.process import ProcessWorker
    from biotilt.oracle.workers.scheduler import Scheduler

    nursery = Nursery(pack(reward), limits.memory_limit)
    declared = Declaration.by(reward)
    members = [ProcessWorker(nursery, declared, limits.time_limit) for _ in range(workers or usable_cores())]
    return Scheduler(members, declared, limits, nursery.close)


def _ray(reward: Any, workers: int | None, limits: Limits, address: str | None) -> Backend:
    from biotilt.oracle.workers.nursery import pack
    from biotilt.oracle.workers.ray_worker import RayWorker, connect
    from biotilt.oracle.workers.scheduler import Scheduler

    declared = Declaration.by(reward)
    close, cores = connect(address, workers)
    members = [RayWorker(pack(reward), declared, limits) for _ in range(workers or cores)]

    def close_all() -> None:
        for member in members:
            member.close()
        close()

    return Scheduler(members, declared, limits, close_all)


def _inline(reward: Any, workers: int | None, limits: Limits, address: str | None) -> Backend:
    return Inline(reward, limits)


def _check_inline(workers: int | None, limits: Limits, address: str | None) -> None:
    for key, value in (("workers", workers), ("address", address)):
        if value is not None:
            raise ConfigError(f'oracle.{key} has no meaning without workers; add oracle.backend = "pool" or "ray"')
    for key in ("time_limit", "memory_limit"):
        if getattr(limits, key) is not None:
            raise ConfigError(
                f'oracle.{key} cannot be kept in the process that tunes; add oracle.backend = "pool" (or "ray"), '
                "whose workers can be stopped"
            )


def _check_pool(workers: int | None, limits: Limits, address: str | None) -> None:
    if address is not None:
        raise ConfigError('oracle.address is that of a Ray cluster; add oracle.backend = "ray"')
    if not hasattr(os, "fork"):
        raise ConfigError('oracle.backend = "pool" needs Linux or macOS; use "inline" or "ray"')
    _check_ray(workers, limits, address)


def _check_ray(workers: int | None, limits: Limits, address: str | None) -> None:
    if limits.memory_limit is not None and sys.platform != "linux":
        raise ConfigError("oracle.memory_limit works on Linux only; leave it out")


Check = Callable[[int | None, Limits, str | None], None]
Build = Callable[[Any, int | None, Limits, str | None], Backend]
BACKENDS: dict[str, tuple[Check, Build]] = {
    "inline": (_check_inline, _inline),
    "pool": (_check_pool, _pool),
    "ray": (_check_ray, _ray),
}


def check_backend(
    name: str, *, workers: int | None = None, limits: Limits | None = None, address: str | None = None
) -> None:
    """Raise ConfigError for what `build_backend` cannot build; nothing is started, and no cluster is connected to."""
    if name not in BACKENDS:
        raise ConfigError(f'oracle.backend: unknown backend "{name}"{suggest(name, BACKENDS)}')
    if workers is not None and workers < 1:
        raise ConfigError(f"oracle.workers must be >= 1, got {workers}")
    BACKENDS[name][0](workers, limits or Limits(), address)


def build_backend(
    name: str,
    reward: Any,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    address: str | None = None,
) -> Backend:
    """Build the backend called `name` ("inline", "pool" or "ray") for a reward.

    `workers`: None means one a core that this process may use (of the whole cluster for "ray"); they start when they
    are first asked. `address` of a Ray cluster ("auto", "host:port", "ray://host:port"), which is connected to here;
    None starts one on this machine.

    Raises `ConfigError` for an unknown name, and for limits or workers that the backend cannot have.

    >>> from biotilt.rewards import GCFraction
    >>> ticket = build_backend("inline", GCFraction()).submit(["GGCA"])
    >>> [score.value for _, score in ticket.finished()]
    [0.75]
    """
    check_backend(name, workers=workers, limits=limits, address=address)
    return BACKENDS[name][1](reward, workers, limits or Limits(), address)


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
