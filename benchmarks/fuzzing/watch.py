"""Runs cases in a child process under limits of time and memory, and says what came of each."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import biotilt
from biotilt.errors import BiotiltError

OURS = Path(biotilt.__file__).parent
BATCH = 25  # cases that one child runs; what a case leaves behind in memory reaches no further
MEMORY = 3 << 30  # bytes of address space on top of what the parent has
FILE = 1 << 30  # bytes of the largest file
BUSY = 4  # on a busy machine a case may take so many times its limit by the clock, if it computes for less than that


@dataclass(frozen=True)
class Found:
    """What came of a case: "fine", "ours" (a message of one line), "lines" (of several), "not_ours" or "hang"."""

    case: str
    kind: str
    place: str = ""
    message: str = ""
    seconds: float = 0.0


class Refused(Exception):
    """A command said no; the text is all that it said. Or, `not_ours`, it did something that it must never do."""

    def __init__(self, message: str, place: str = "", not_ours: bool = False) -> None:
        super().__init__(message)
        self.place, self.not_ours = place, not_ours


Door = Callable[[random.Random, Any, Path], None]


def judge(case: str, door: Door, kit: Any, folder: Path, show: bool = False) -> Found:
    """Run one case in `folder`, and say what came of it; `show` prints the traceback."""
    started = time.perf_counter()
    kind, place, message = "fine", "", ""
    try:
        door(random.Random(case), kit, folder)
    except BaseException as error:
        if show:
            traceback.print_exc()
        place, message = _place(error), str_of(error)
        is_ours = isinstance(error, BiotiltError) or (isinstance(error, Refused) and not error.not_ours)
        kind = ("ours" if len(message.splitlines()) == 1 else "lines") if is_ours else "not_ours"
    return Found(case, kind, place, message[:300], time.perf_counter() - started)


def str_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"(its __str__ raises {type(second).__name__})"


def _place(error: BaseException) -> str:
    """Return "file:line Type" of the innermost line of biotilt that an exception went through."""
    if isinstance(error, Refused) and error.place:
        return error.place
    inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(OURS))]
    where = f"{Path(inside[-1].filename).relative_to(OURS)}:{inside[-1].lineno}" if inside else "outside biotilt"
    return f"{where} {type(error).__name__}"


def place_of(error: BaseException) -> str:
    return _place(error)


def run(cases: Iterator[str], doors: dict[str, Door], kit: Any, scratch: Path, limit: float) -> Iterator[Found]:
    """Run cases ("door:seed") one after the other; a child that hangs or dies is replaced.

    A case hangs when it computes for more than `limit` seconds, or takes more than `BUSY` times that by the clock.
    """
    child = None
    for number, case in enumerate(cases):
        if child is None or number % BATCH == 0:
            if child is not None:
                child.close()
            child = _Child(doors, kit, scratch)
        found = child.ask(case, limit)
        if found.kind == "hang" or found.place.startswith("died"):
            child = None
        yield found
    if child is not None:
        child.close()


class _Child:
    def __init__(self, doors: dict[str, Door], kit: Any, scratch: Path) -> None:
        asked, self._asked = os.pipe()
        self._answers, answers = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._asked)
            os.close(self._answers)
            _serve(asked, answers, doors, kit, scratch)
            os._exit(0)
        os.close(asked)
        os.close(answers)

    def ask(self, case: str, limit: float) -> Found:
        started, computed = time.perf_counter(), _processor_seconds(self.pid)
        os.write(self._asked, case.encode() + b"\n")
        while not select.select([self._answers], [], [], 0.25)[0]:
            seconds = time.perf_counter() - started
            if _processor_seconds(self.pid) - computed > limit or seconds > BUSY * limit:
                where = _where(self)
                return Found(case, "hang", where, f"still at work after {limit:g} s", seconds)
        answer = b""
        while not answer.endswith(b"\n"):
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                status = os.waitpid(self.pid, 0)[1]
                self._close_pipes()
                seconds = time.perf_counter() - started
                signal_number = status & 127
                return Found(case, "not_ours", f"died of signal {signal_number}", f"status {status}", seconds)
            answer += piece
        return Found(**json.loads(answer))

    def close(self) -> None:
        self._close_pipes()
        os.waitpid(self.pid, 0)

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._close_pipes()

    def _close_pipes(self) -> None:
        os.close(self._asked)
        os.close(self._answers)


def _where(child: _Child) -> str:
    """Ask a child that hangs where it is, as Python sees it, and kill it."""
    os.kill(child.pid, signal.SIGALRM)
    place = "unknown"
    if select.select([child._answers], [], [], 3)[0]:
        answer = os.read(child._answers, 1 << 16)
        place = json.loads(answer)["place"] if answer.endswith(b"\n") else place
    child.kill()
    return place


def _processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _serve(asked: int, answers: int, doors: dict[str, Door], kit: Any, scratch: Path) -> None:
    """Answer cases until there are no more; never returns to the caller's code."""
    os.setpgid(0, 0)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    case = ""

    def tell(number: int, frame: Any) -> None:
        inside = [f for f in traceback.extract_stack(frame) if f.filename.startswith(str(OURS))]
        place = f"{Path(inside[-1].filename).relative_to(OURS)}:{inside[-1].lineno}" if inside else "outside biotilt"
        os.write(answers, json.dumps({"place": f"{place} hang"}).encode() + b"\n")

    signal.signal(signal.SIGALRM, tell)
    with os.fdopen(asked, encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            case = line.strip()
            found = in_folder(case, doors, kit, scratch / f"{os.getpid()}-{number}")
            os.write(answers, json.dumps(asdict(found)).encode() + b"\n")


def in_folder(case: str, doors: dict[str, Door], kit: Any, folder: Path, show: bool = False) -> Found:
    """Run a case in a new folder, which is the working directory while it runs and is gone afterwards."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    try:
        return judge(case, doors[case.partition(":")[0]], kit, folder, show)
    finally:
        os.chdir(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)
