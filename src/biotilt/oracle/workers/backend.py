"""Where a reward runs: in this process, in a pool of worker processes, or on a Ray cluster; the scores are the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from biotilt.declared import Declaration
from biotilt.errors import ConfigError, suggest
from biotilt.options import check_option
from biotilt.oracle.store import Score
from biotilt.oracle.workers.inline import Inline, check_inline
from biotilt.oracle.workers.limits import Limits, Workers


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
    "inline": (check_inline, _inline),
    "pool": (_check_pool, _pool),
    "ray": (_check_ray, _ray),
}


def check_backend(
    name: str, *, workers: int | None = None, limits: Limits | None = None, address: str | None = None
) -> None:
    """Raise ConfigError for what `build_backend` cannot build; nothing is started, and no cluster is connected to."""
    if name not in BACKENDS:
        raise ConfigError(f'oracle.backend: unknown backend "{name}"{suggest(name, BACKENDS)}')
    if workers is not None:
        check_option(Workers, workers, "oracle", "workers")
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
