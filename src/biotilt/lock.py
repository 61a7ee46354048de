"""One writer a folder: a lock of the operating system, which dies with the process that holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biotilt.atomic import make_folder, reason
from biotilt.errors import BiotiltError, FolderInUse
from biotilt.folder import LOCK
from biotilt.ranks import is_first

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held: set[int] = set()


@contextmanager
def only_writer(folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of `folder`, which is made when it is not there, while the block runs; `doing` says what for.

    Raises FolderInUse at once, with who holds it, when another process or thread does, and BiotiltError when the folder
    cannot be written. The system frees the lock of a process that dies, however it dies.
    """
    path = folder / LOCK
    if not is_first():  # the lock is that of the first process of the run
        yield
        return
    try:
        make_folder(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise BiotiltError(f"cannot write {path}: {reason(error)}; nothing was started") from error
    _held.add(descriptor)
    try:
        _take(descriptor, folder)
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                 "doing": doing}  # fmt: skip
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUse(
            f"{folder} is in use: {_holder(descriptor)}; wait until that ends, or name another folder"
        ) from error
    except OSError as error:  # some network file systems cannot
        warnings.warn(
            f"{folder} cannot be locked ({reason(error)}): see to it that one process alone writes there", stacklevel=3
        )


def _holder(descriptor: int) -> str:
    """Say who holds the lock; what a holder of a moment ago wrote is better than nothing."""
    try:
        about: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {about['pid']} on {about['host']} has been {about['doing']} there since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process writes there"


def _forget_in_child() -> None:
    """Close the lock in a process that a reward forks: else the lock would outlive the run."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
