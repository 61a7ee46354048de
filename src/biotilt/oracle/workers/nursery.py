"""The process that worker processes are forked from, as seen from the process that tunes.

A fork of the process that tunes would inherit torch's threads in an unknown state; a fresh interpreter for every
worker would import torch again each time one is replaced, which takes seconds. So one fresh interpreter imports what
the reward needs, and no more, and is forked whenever a worker is needed, in milliseconds (`workers/worker.py`).
"""

from __future__ import annotations

import json
import os
import pickletools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from biotilt.declared import Declaration
from biotilt.errors import RewardError

# A fresh interpreter that neither runs the user's script nor looks into the working directory.
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from biotilt.oracle.workers.worker import nurse; nurse(int(sys.argv[1]))"
)
OWN_MODULES = "_biotilt_"  # rewards of "file.py:function" live in such modules, which nobody else can import
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Freight:
    """A reward on its way to another process, with the modules and the path that unpacking it needs."""

    content: bytes
    modules: tuple[str, ...]
    path: tuple[str, ...]

    def elsewhere(self) -> Freight:
        """Return this for a process of another origin, or machine: it keeps its path and gets the folders it has."""
        known = [folder for folder in self.path if folder not in sys.path and Path(folder).exists()]
        return replace(self, path=(*sys.path, *known))


def pack(reward: Any) -> Freight:
    """Pack a reward: by reference where its module can be imported, by value where not (files, `__main__`).

    It may name by `imports` the modules that it will import when it is first called: workers are born with them.

    Raises `RewardError` when it cannot be packed.
    """
    with _by_value([module for name, module in list(sys.modules.items()) if name.startswith(OWN_MODULES)]):
        try:
            content = cloudpickle.dumps(reward)
        except Exception as error:
            raise RewardError(
                f'reward "{reward.name}" cannot be sent to worker processes ({type(error).__name__}: {error}); make '
                'what it holds when it is first called, or set oracle.backend = "inline"'
            ) from error
    # Every name of a module stands in the pickle as a text of its own; other texts that name one do no harm.
    texts = {argument for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)}
    modules = sorted(name for name in texts if name in sys.modules and not name.startswith(("__main__", OWN_MODULES)))
    modules += Declaration.by(reward).imports
    return Freight(content, tuple(modules), tuple(str(Path(folder).resolve()) for folder in sys.path))


@contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    new = [module for module in modules if module.__name__ not in cloudpickle.list_registry_pickle_by_value()]
    for module in new:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in new:
            cloudpickle.unregister_pickle_by_value(module)


@dataclass
class Child:
    """A worker process and the connection to it; `pid` is its guard's."""

    pid: int
    connection: Connection


class Nursery:
    """Starts and ends worker processes for one reward; several threads may use it.

    They get `memory_limit` MB beyond what the loaded reward takes. All of them end with this process, whatever
    ends it, and with each what it started. `slowest_first`: the longest, in seconds, that the first design of a
    worker took, None when none was scored.
    """

    def __init__(self, freight: Freight, memory_limit: float | None) -> None:
        self._freight = freight
        self._memory_limit = memory_limit
        self._lock = threading.Lock()
        self._control: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self.slowest_first: float | None = None

    def start(self) -> Child:
        """Return a new worker; RewardError when no process can be started."""
        with self._lock:
            try:
                return self._bear()
            except (OSError, EOFError):  # somebody killed the process that bears workers, and they died with it
                self._stop()
            try:
                return self._bear()
            except (OSError, EOFError) as error:
                self._stop()
                raise RewardError(f"the oracle's workers cannot be started ({error}); resume the run") from error

    def _bear(self) -> Child:
        ours, theirs = Pipe()
        try:
            control = self._open()
            control.send("start")
            send_handle(control, theirs.fileno(), None)
            return Child(control.recv(), ours)
        finally:
            theirs.close()

    def end(self, child: Child) -> int | None:
        """Kill a worker, if it is not dead, with all that it started; return its exit status as `waitpid` has it."""
        child.connection.close()
        with self._lock, suppress(OSError, EOFError):
            if self._control is not None:
                self._control.send(child.pid)
                return self._control.recv()
        return None

    def close(self) -> None:
        """End all workers."""
        # The lock may be held by a thread that waits for an answer, which comes soon in any case.
        with self._lock:
            self._closed = True
            self._stop()

    def _open(self) -> Connection:
        if self._closed:
            raise EOFError("the backend is closed")
        if self._control is None:
            ours, theirs = Pipe()
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, str(theirs.fileno()), json.dumps(self._freight.path)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the process that tunes
                env=os.environ | dict.fromkeys(THREADS, "1"),
            )
            theirs.close()
            ours.send((self._freight.content, self._freight.modules, self._memory_limit))
            self._control = ours
        return self._control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()  # it ends its children when it reads the end
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
