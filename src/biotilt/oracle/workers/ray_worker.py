"""A worker on a Ray cluster: an actor with a worker process of its own, on whichever node Ray puts it."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from biotilt.declared import Declaration
from biotilt.errors import ConfigError, RewardError, needs_extra
from biotilt.oracle.workers.limits import Limits
from biotilt.oracle.workers.nursery import Freight, Nursery
from biotilt.oracle.workers.process import STARTS, ProcessWorker
from biotilt.oracle.workers.scheduler import Answer, Lost

CORES = 0.5  # that a worker reserves: tuning and judging, which take turns, have workers of their own
PATIENCE = 60.0  # seconds after which somebody is told that the cluster has no place for a worker
SILENCE = 60.0  # seconds beyond the time limit after which an actor that says nothing is given up
LOOPBACK = "127.0.0.1"


class Host:
    """What the actor runs. Time, memory and death are dealt with here, on the node, as they are in a pool.

    So a design that hangs or kills costs a fork here, in milliseconds, not an actor, in seconds. An actor is lost
    only with its node or by a hand from outside.
    """

    def __init__(self, freight: Freight, declared: Declaration, limits: Limits) -> None:
        nursery = Nursery(freight.elsewhere(), limits.memory_limit)
        self._worker = ProcessWorker(nursery, declared, limits.time_limit)

    def prepare(self) -> None:
        """Start the worker process."""
        self._worker.prepare()

    def run(self, designs: list[Any]) -> Iterator[Answer]:
        """Yield what the worker process does."""
        self._worker.prepare()
        yield from self._worker.run(designs)


class RayWorker:
    """Scores chunks in one actor, which is replaced when it is lost."""

    def __init__(self, freight: Freight, declared: Declaration, limits: Limits) -> None:
        self._freight = freight
        # kinds of exceptions may be of a module that no other node has; only the worker process needs them
        self._declared = replace(declared, transient=None)
        self._limits = limits
        self._actor: Any = None

    def prepare(self) -> None:
        """Start an actor when there is none, and wait until the cluster has a place for it.

        Raises `RewardError` when none can be started, or the reward cannot be loaded there.
        """
        ray = needs_extra("ray", "ray")
        error = None
        for _ in range(STARTS):
            if self._actor is not None:
                return
            # Ray does not restart it, since only the scheduler knows which designs are still to be asked.
            actor = ray.remote(num_cpus=CORES, max_restarts=0)(Host).remote(self._freight, self._declared, self._limits)
            try:
                ready = actor.prepare.remote()
                if not ray.wait([ready], timeout=PATIENCE)[0]:
                    warnings.warn(_no_place(ray), stacklevel=2)
                ray.get(ready)
                self._actor = actor
            except ray.exceptions.RayTaskError as caught:
                raise caught.cause from caught
            except ray.exceptions.RayActorError as caught:
                error = caught
        if self._actor is None:
            raise RewardError(f"the oracle's Ray workers cannot be started: {error}") from error

    def run(self, designs: list[Any]) -> Iterator[Answer]:
        """Yield the outcomes of `designs`; see `Worker`. The loss of the actor is a transient fault."""
        ray = needs_extra("ray", "ray")
        certain = not self._declared.batched or len(designs) == 1
        since = time.perf_counter()
        try:
            stream = self._actor.run.options(num_returns="streaming").remote(designs)
            while self._answers(ray, stream):
                try:
                    answer = ray.get(next(stream))
                except StopIteration:
                    return
                yield answer
                since = time.perf_counter()
            reason = "the Ray worker gave no answer"
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            reason = f"the Ray worker was lost ({type(error).__name__})"
        self.close()
        yield Lost(reason, time.perf_counter() - since, transient=True, certain=certain)

    def close(self) -> None:
        """End the actor, and with it its process."""
        actor, self._actor = self._actor, None
        ray = needs_extra("ray", "ray")
        if actor is not None and ray.is_initialized():
            ray.kill(actor)

    def _answers(self, ray: Any, stream: Any) -> bool:
        """Wait for the next outcome; return False when the actor must be lost, since it would say "too long" itself."""
        limit = self._limits.time_limit
        return bool(ray.wait([stream], timeout=None if limit is None else limit + SILENCE)[0])


def _no_place(ray: Any) -> str:
    free, all_of_them = (found.get("CPU", 0.0) for found in (ray.available_resources(), ray.cluster_resources()))
    return (
        f"a Ray worker of the oracle is still not ready: {free:g} of the cluster's {all_of_them:g} cores are free, "
        f"and it needs {CORES:g}; lower oracle.workers if this goes on"
    )


def connect(address: str | None, workers: int | None) -> tuple[Callable[[], None], int]:
    """Connect to the cluster at `address`, or start one here (None), unless this process already has one.

    Returns what closes it (nothing, if it was not opened here), and its number of cores. Raises `ConfigError` when
    Ray is not installed or cannot be reached.
    """
    ray = needs_extra("ray", "ray")
    opened = not ray.is_initialized()
    if opened:
        try:
            if address is None:
                _start(ray, workers)
            else:
                _check_address(address)
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = "on this machine" if address is None else f'at oracle.address = "{address}"'
            raise ConfigError(f"Ray cannot be used {where}: {' '.join(str(error).split())}") from error
    return (ray.shutdown if opened else lambda: None), int(ray.cluster_resources().get("CPU", 1))


def _start(ray: Any, workers: int | None) -> None:
    """Start a cluster for this process alone: whoever reaches Ray's ports can run code, so no other machine may."""
    with _single_machine():
        ray.init(
            address="local", num_cpus=workers, _node_ip_address=LOOPBACK, include_dashboard=False,
            log_to_driver=False, logging_level="ERROR",
        )  # fmt: skip
    if others := {node["NodeManagerAddress"] for node in ray.nodes()} - {LOOPBACK}:
        ray.shutdown()
        raise ConfigError(
            f"Ray {ray.__version__} would listen on {', '.join(sorted(others))}, where other machines reach it: "
            "install another version of Ray, or start a cluster that asks for a token and name it in oracle.address"
        )


@contextmanager
def _single_machine() -> Iterator[None]:
    """Switch clusters of several machines off, as they are on macOS: Ray's servers then listen on loopback only.

    Without this Ray takes the loopback address that it is given for a slip, and listens on all interfaces.
    """
    constants: Any = import_module("ray._private.ray_constants")
    name, before = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", constants.ENABLE_RAY_CLUSTER
    said = os.environ.get(name)
    os.environ[name] = "0"  # for Ray's own processes
    constants.ENABLE_RAY_CLUSTER = False  # read from the environment when Ray was imported
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name)
        if said is not None:
            os.environ[name] = said


def _check_address(address: str) -> None:
    """Raise ConfigError when nobody listens there: Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f'oracle.address = "{address}" must be "auto", "host:port" or "ray://host:port"')
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(
            f'nothing answers at oracle.address = "{address}" ({error}); is Ray running there?'
        ) from error
