"""Programs that leave their process group, their session and their parent die with the call that started them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from biotilt.rewards.generic.command import Command, CommandFailed

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what escapes a group is found by /proc")

# Each starts processes that write their numbers into files named `pid_*`, and go on for ever.
ESCAPES = {
    "a child that outlives it": """
if os.fork() == 0: stay()
""",
    "a session of its own": """
if os.fork() == 0:
    os.setsid(); stay()
""",
    "a daemon, whose parent and grandparent are gone": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        stay()
    os._exit(0)
""",
    "a daemon with sessions below it": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for _ in range(3):
            if os.fork() == 0:
                os.setsid(); stay()
        stay()
    os._exit(0)
""",
    "one that takes no notice of signals": """
if os.fork() == 0:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
    stay()
""",
}
COUNTS = dict(zip(ESCAPES, (2, 2, 2, 5, 2), strict=True))  # with the program itself
PROGRAM = """
import os, signal, sys, time
def tell():
    open(f"pid_{os.getpid()}", "w").close()
def stay():
    tell(); time.sleep(600); os._exit(0)
tell()
%s
while len([name for name in os.listdir() if name.startswith("pid_")]) < %d: time.sleep(0.01)
%s
print(4)
"""


def command(folder: Path, escape: str, then: str = "", **options) -> Command:
    (folder / "program.py").write_text(PROGRAM % (ESCAPES[escape], COUNTS[escape], then))
    words = [sys.executable, "-S", "program.py", "{designs}"]
    return Command(words, stdout=True, scores_format="txt", folder=str(folder), **options)


def alive(folder: Path) -> list[int]:
    """The programs that still run, a second after they should not."""
    pids = [int(path.name.removeprefix("pid_")) for path in folder.glob("pid_*")]
    assert pids, "none has started"
    until = time.monotonic() + 1
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("escape", ESCAPES)
def test_what_escapes_ends_with_its_program(tmp_path, escape):
    assert command(tmp_path, escape)(["A"]) == [4.0]
    assert alive(tmp_path) == []


@pytest.mark.parametrize("escape", ESCAPES)
def test_what_escapes_ends_when_time_is_up(tmp_path, escape):
    for timeout in (0.5, 2.0, 8.0):  # a busy machine may not have started it by then
        with pytest.raises(CommandFailed, match=f"took longer than {timeout:g} s"):
            command(tmp_path, escape, "time.sleep(600)", timeout=timeout)(["A"])
        if len(list(tmp_path.glob("pid_*"))) >= COUNTS[escape]:
            break
    assert alive(tmp_path) == []


def test_what_escapes_ends_when_its_program_is_killed(tmp_path):
    with pytest.raises(CommandFailed, match="exit code 137"):
        command(tmp_path, "a daemon with sessions below it", "os.kill(os.getpid(), signal.SIGKILL)")(["A"])
    assert alive(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_escapes_ends_with_whoever_asked(tmp_path, number):
    """Ctrl-C, and a worker or a whole run that is killed and can no longer clean up."""
    asking = os.fork()
    if asking == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            command(tmp_path, "a daemon with sessions below it", "time.sleep(600)")(["A"])
        except KeyboardInterrupt:
            os._exit(3)
        finally:
            os._exit(4)
    while len(list(tmp_path.glob("pid_*"))) < 5:
        assert os.waitpid(asking, os.WNOHANG) == (0, 0)
        time.sleep(0.02)
    os.kill(asking, number)
    assert os.waitstatus_to_exitcode(os.waitpid(asking, 0)[1]) == (3 if number == signal.SIGINT else -number)
    assert alive(tmp_path) == []


def test_a_job_that_is_signalled_as_a_whole_leaves_nothing(tmp_path):
    """A batch system signals every process of a job: the one that kills the others must not be the first to go."""
    supervisor = "os.kill(os.getppid(), signal.SIGTERM); time.sleep(0.2)"
    assert command(tmp_path, "a session of its own", supervisor)(["A"]) == [4.0]
    assert alive(tmp_path) == []
