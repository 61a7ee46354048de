"""The other end: the process that bears workers (`nurse`), and what a worker does. Imports stay few, for a fast start.

Between the two stands a guard, a fork that does nothing but wait: it adopts what the worker's programs leave behind,
and when the worker ends, for whatever reason, it kills all that it started and ends in the same way.

A worker answers (request, designs) with messages (request, kind, content):

    loaded  None        the reward is there (once, at the start, as request 0)
    failed  text        it could not be loaded (instead)
    scored  (index, Outcome)   of one of the designs
    singly  None        the batch raised; its designs are scored one by one from here on
    over    None        all are scored
    leaves  None        this worker ends itself, since its memory was short
    stop    (name, text)   an error of biotilt, which ends the run
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from biotilt.declared import Declaration
from biotilt.errors import BiotiltError, one_line
from biotilt.oracle.workers.scoring import OneByOne, ask
from biotilt.supervise import adopt_orphans, end_with_parent, kill_descendants


def nurse(descriptor: int) -> None:
    """Fork workers on demand until the other end is closed; then end them all. Runs in an interpreter of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.dup2(2, 1)  # what a module prints while it is imported is no answer of a command
    adopt_orphans()  # of guards that somebody killed
    control = Connection(descriptor)
    content, modules, memory_limit = control.recv()
    for name in modules:
        with suppress(Exception):  # the worker meets the same error when it loads the reward, and can tell it
            importlib.import_module(name)
    guards: set[int] = set()
    with suppress(EOFError, OSError):
        while True:
            request = control.recv()
            if request == "start":
                handle = recv_handle(control)
                guard = os.fork()
                if guard == 0:
                    control.close()
                    _be_guard(Connection(handle), content, memory_limit)
                os.close(handle)
                guards.add(guard)
                control.send(guard)
            elif request in guards:
                guards.remove(request)
                control.send(_end(request, guards))
            else:
                control.send(None)  # one that was lost with an earlier process like this
    for guard in guards:
        with suppress(OSError):
            os.kill(guard, signal.SIGTERM)
    while guards:
        _end(guards.pop(), guards)
    os._exit(0)  # taking torch apart would take a second


def _end(guard: int, others: set[int]) -> int:
    """End a worker and what it started; return its exit status, which stays its own if it was dying already."""
    with suppress(OSError):
        os.kill(guard, signal.SIGTERM)
    status = os.waitpid(guard, 0)[1]
    kill_descendants(spare=others)  # there are some only when the guard was killed
    return status


def _be_guard(connection: Connection, content: bytes, memory_limit: float | None) -> None:
    """Bear a worker, wait for its end or for SIGTERM, kill all that it started, and end as it did."""
    adopt_orphans()
    end_with_parent(signal.SIGTERM)
    worker = os.fork()
    if worker == 0:
        _be_worker(connection, content, memory_limit)
    connection.close()
    with suppress(OSError):
        os.setpgid(worker, worker)
    signal.signal(signal.SIGTERM, lambda *_: _kill(worker))
    while True:
        ended, status = os.wait()  # what was adopted comes here too
        if ended == worker:
            break
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _kill_group(worker)
    kill_descendants()
    _end_as(status)


def _kill(worker: int) -> None:
    _kill_group(worker)  # there only after `setpgid`
    with suppress(OSError):
        os.kill(worker, signal.SIGKILL)


def _kill_group(worker: int) -> None:
    with suppress(OSError):
        os.killpg(worker, signal.SIGKILL)


def _end_as(status: int) -> None:
    """End this process with the exit status of another."""
    if os.WIFSIGNALED(status):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the other has written its own
        with suppress(OSError):  # SIGKILL cannot be set
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _be_worker(connection: Connection, content: bytes, memory_limit: float | None) -> None:
    """Serve until the other end is closed, then exit without the clean-up that belongs to the forked process."""
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        end_with_parent(signal.SIGKILL)
        os.register_at_fork(after_in_child=connection.close)  # what the reward forks can neither answer nor hold it
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
        connection.send((0, "failed", f"{type(error).__name__}: {one_line(error, 500)}"))
        return
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # workers share the cores among themselves
    _limit_memory(memory_limit)
    connection.send((0, "loaded", None))
    while True:
        request, designs = connection.recv()
        for kind, content in _answers(reward, declared, designs, memory_limit):
            connection.send((request, kind, content))
            if kind == "leaves":
                return


def _answers(
    reward: Any, declared: Declaration, designs: list[Any], memory_limit: float | None
) -> Iterator[tuple[str, Any]]:
    """Score a chunk: yield the kinds and the contents of the messages, of which the last says how it ended."""
    try:
        for answer in ask(reward, declared, designs, memory_limit):
            if isinstance(answer, OneByOne):
                yield "singly", None
                continue
            yield "scored", answer
            if answer[1].out_of_memory:
                yield "leaves", None
    except BiotiltError as error:
        yield "stop", (type(error).__name__, str(error))
    else:
        yield "over", None


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
