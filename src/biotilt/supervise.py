"""Run a program and kill all that it started when it ends, or when whoever asked for it is gone.

A script of its own, started by `rewards/generic/command.py` with a pipe as its input: the end of that pipe, which also
comes when the asking process is killed, ends the program. Only what starts fast is imported. Workers use the same
functions (`oracle/workers/worker.py`).

On Linux nothing escapes by starting a session of its own or by outliving its parent: orphans are adopted by the
supervising process, and all that descends from it is killed. Elsewhere the process group of the program is killed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection

CANNOT_START = 127  # as of a shell
PATIENCE = 2.0  # seconds until processes that do not die, in a device driver say, are left behind
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends (Linux)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when the one that bore it dies, also while it computes (Linux)."""
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(0)


def kill_descendants(spare: Collection[int] = ()) -> None:
    """Kill all that descends from this process, but for the children `spare` and theirs; return when it is gone."""
    until = time.monotonic() + PATIENCE
    while (found := _descendants(spare)) and time.monotonic() < until:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
        for pid in found:
            with contextlib.suppress(OSError):  # what its own parent has still to wait for
                os.waitpid(pid, os.WNOHANG)


def _descendants(spare: Collection[int]) -> list[int]:
    """Return the process numbers of all that descends from this process; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    # by hand, since pathlib takes longer to import than all the rest
    for name in os.listdir("/proc") if sys.platform == "linux" else ():  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                children.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
    found = [child for child in children.get(os.getpid(), []) if child not in spare]
    for pid in found:
        found += children.get(pid, [])
    return found


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # there is none but on Linux
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main(words: list[str]) -> int:
    """Run a program, the first of `words`; return its exit code, 128 + n when signal n ended it."""
    adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # meant for the whole job: whoever asked ends too, and the pipe with it
        signal.signal(number, lambda *_: None)
    try:
        program = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"cannot start {words[0]}: {error.strerror}", file=sys.stderr)
        return CANNOT_START

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGKILL)
        kill_descendants()

    def watch() -> None:
        sys.stdin.buffer.read()
        kill()

    threading.Thread(target=watch, daemon=True).start()
    code = program.wait()
    kill()  # what it started, which would go on in a folder that is removed
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    result = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(result)  # the thread that reads could hold up an orderly exit
