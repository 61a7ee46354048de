"""Where a reward runs: in this process, in a pool of worker processes, or on a Ray cluster; the scores are the same."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Protocol

from biotilt.declared import Declaration
from biotilt.errors import ConfigError, suggest
from biotilt.options import Count, Text, check_options
from biotilt.oracle.store import Score
from biotilt.oracle.workers.inline import Inline
from biotilt.oracle.workers.limits import Limits, Retries, Workers
from biotilt.registry import Registry


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

    def submit(self, designs: Sequence[Any]) -> Ticket: ...

    def close(self) -> None:
        """End the workers; nothing can be submitted afterwards."""
        ...


class Place(ABC):
    """A kind of place where rewards run, by `name`: a frozen dataclass, whose fields are keys of `[oracle]`.

    It says in `__post_init__`, by ConfigError, what it cannot have; nothing is started before `start`.
    """

    name: ClassVar[str]

    @abstractmethod
    def start(self, reward: Any) -> Backend:
        """Return a backend for a reward, whose workers may start when they are first asked."""


@dataclass(frozen=True)
class ThisProcess(Place):
    """In this process: nothing can be stopped there, so a reward that hangs, hangs the run.

    `retries` at a design that met a transient fault; `chunk`: designs that the reward is given at a time.
    """

    retries: Retries = 1
    chunk: Count | None = None

    name: ClassVar[str] = "inline"

    def __post_init__(self) -> None:
        check_options(self, "oracle")

    def start(self, reward: Any) -> Backend:
        return Inline(reward, self.retries, self.chunk)


@dataclass(frozen=True)
class Pool(Limits, Place):
    """Worker processes of this machine, as many as `workers`; None: one a core that this process may use."""

    workers: Workers | None = None

    name: ClassVar[str] = "pool"

    def __post_init__(self) -> None:
        super().__post_init__()
        if sys.platform == "win32":
            raise ConfigError('oracle.backend = "pool" needs Linux or macOS; use "inline" or "ray"')

    def start(self, reward: Any) -> Backend:
        from biotilt.oracle.workers.nursery import Nursery, pack
        from biotilt.oracle.workers.process import ProcessWorker
        from biotilt.oracle.workers.scheduler import Scheduler

        nursery = Nursery(pack(reward), self.memory_limit)
        declared, count = Declaration.by(reward), self.workers or usable_cores()
        members = [ProcessWorker(nursery, declared, self.time_limit) for _ in range(count)]
        return Scheduler(members, declared, self, nursery.close)


@dataclass(frozen=True)
class RayCluster(Limits, Place):
    """Workers on a Ray cluster, one a core of it by default.

    `address`: "auto", "host:port" or "ray://host:port", which is connected to at the start; None starts a cluster on
    this machine.
    """

    workers: Workers | None = None
    address: Text | None = None

    name: ClassVar[str] = "ray"

    def start(self, reward: Any) -> Backend:
        from biotilt.oracle.workers.nursery import pack
        from biotilt.oracle.workers.ray_worker import RayWorker, connect
        from biotilt.oracle.workers.scheduler import Scheduler

        limits = Limits(self.time_limit, self.memory_limit, self.retries, self.chunk)
        declared = Declaration.by(reward)
        close, cores = connect(self.address, self.workers)
        members = [RayWorker(pack(reward), declared, limits) for _ in range(self.workers or cores)]

        def close_all() -> None:
            for member in members:
                member.close()
            close()

        return Scheduler(members, declared, limits, close_all)


BACKENDS: Registry[Place] = Registry(
    "backends",
    "backend",
    lazy={kind.name: f"{kind.__module__}:{kind.__name__}" for kind in (ThisProcess, Pool, RayCluster)},
)


def place(name: str, options: Mapping[str, Any]) -> Place:
    """Return the place called `name` with its options, keys of `[oracle]`; nothing is started.

    Raises ConfigError for an unknown name, for options that the place does not take, or that are out of range.
    """
    known = _keys(name)
    for key in options:
        if key not in known:
            others = [f'"{other}"' for other in BACKENDS if other != name and key in _keys(other)]
            hint = f"; it is an option of {' and '.join(others)}" if others else suggest(key, known)
            raise ConfigError(f'oracle.{key} means nothing to the backend "{name}"{hint}')
    return BACKENDS.build(name, options, "oracle", "oracle.backend")


def _keys(name: str) -> list[str]:
    kind = BACKENDS.options_of(name, "oracle.backend")
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def build_backend(name: str, reward: Any, **options: Any) -> Backend:
    """Build the backend called `name` ("inline", "pool", "ray", or another package's) for a reward; see `place`.

    >>> from biotilt.rewards import GCFraction
    >>> ticket = build_backend("inline", GCFraction()).submit(["GGCA"])
    >>> [score.value for _, score in ticket.finished()]
    [0.75]
    """
    return place(name, options).start(reward)


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
