"""The other end: the process that bears workers (`nurse`), and what a worker does. Imports stay few, for a fast start.

A worker answers a list of designs with messages (kind, content):

    loaded  None        the reward is there (once, at the start)
    failed  text        it could not be loaded (instead)
    scored  Outcome     of the next design
    singly  None        the batch raised; its designs are scored one by one from here on
    over    None        all are scored
    leaves  None        this worker ends itself, since its memory was short
    stop    (name, text)   an error of biotilt, which ends the run
"""

from __future__ import annotations

import ctypes
import importlib
import os
import random
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from biotilt.errors import BiotiltError
from biotilt.oracle.scoring import Declaration, OneByOne, ask

PR_SET_PDEATHSIG = 1


def nurse(descriptor: int) -> None:
    """Fork workers on demand until the other end is closed; then kill them all. Runs in an interpreter of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = Connection(descriptor)
    content, modules, memory_limit = control.recv()
    for name in modules:
        with suppress(Exception):  # the worker meets the same error when it loads the reward, and can tell it
            importlib.import_module(name)
    children: set[int] = set()
    with suppress(EOFError, OSError):
        while True:
            request = control.recv()
            if request == "start":
                handle = recv_handle(control)
                child = os.fork()
                if child == 0:
                    control.close()
                    _be_worker(Connection(handle), content, memory_limit)
                os.close(handle)
                with suppress(OSError):
                    os.setpgid(child, child)
                children.add(child)
                control.send(child)
            elif request in children:
                children.remove(request)
                control.send(_end(request))
            else:
                control.send(None)  # one that was lost with an earlier process like this
    for child in children:
        _kill(child)
    os._exit(0)  # taking torch apart would take a second


def _end(child: int) -> int:
    """Kill a worker and what it started; return its exit status, which stays its own if it was dying already."""
    _kill(child)
    return os.waitpid(child, 0)[1]


def _kill(child: int) -> None:
    for kill in (os.killpg, os.kill):  # the group is there only after `setpgid`
        with suppress(OSError):
            kill(child, signal.SIGKILL)


def _be_worker(connection: Connection, content: bytes, memory_limit: float | None) -> None:
    """Serve until the other end is closed, then exit without the clean-up that belongs to the forked process."""
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        _end_with_parent()
        _new_random_numbers()
        _serve(connection, content, memory_limit)
    except (EOFError, OSError):
        pass
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(0)


def _serve(connection: Connection, content: bytes, memory_limit: float | None) -> None:
    import cloudpickle

    try:
        reward = cloudpickle.loads(content)
        declared = Declaration.by(reward)
    except (Exception, SystemExit) as error:
        connection.send(("failed", f"{type(error).__name__}: {error}"))
        return
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # workers share the cores among themselves
    _limit_memory(memory_limit)
    connection.send(("loaded", None))
    while True:
        if not _answer(connection, reward, declared, connection.recv(), memory_limit):
            return


def _answer(
    connection: Connection, reward: Any, declared: Declaration, designs: list[str], memory_limit: float | None
) -> bool:
    """Score a chunk; return whether this worker is good for another one."""
    try:
        for outcome in ask(reward, declared, designs, memory_limit):
            if isinstance(outcome, OneByOne):
                connection.send(("singly", None))
                continue
            connection.send(("scored", outcome))
            if outcome.out_of_memory:
                connection.send(("leaves", None))
                return False
    except BiotiltError as error:
        connection.send(("stop", (type(error).__name__, str(error))))
        return True
    connection.send(("over", None))
    return True


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that bore it dies, also while it computes (Linux)."""
    parent = os.getppid()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _new_random_numbers() -> None:
    """Seed the global generators anew: forks of one process would all draw the same noise."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def _limit_memory(megabytes: float | None) -> None:
    """Limit what this process may allocate beyond what it holds, so that allocating more raises MemoryError.

    RLIMIT_DATA counts the private memory that can be written to. RLIMIT_AS would count libraries and the address
    space that torch and CUDA reserve, which is gigabytes more than they use.
    """
    if megabytes is None:
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])  # "data": heap and stack
    limit = pages * resource.getpagesize() + int(megabytes * 1e6)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
