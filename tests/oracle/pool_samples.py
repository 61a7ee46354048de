"""Rewards that hang, die, raise and eat memory by the first letter of a design. Workers import this: no torch here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from biotilt.errors import ConfigError


class Faulty:
    """Score = length + 10 · (number of A), unless the design starts with a letter of `FAULTS`."""

    name, version, differentiable = "faulty", "1", False

    def __init__(self, batched: bool = False, seconds: float = 0.0, folder: Path | None = None):
        self.batched, self.seconds, self.folder = batched, seconds, folder

    def __call__(self, designs: list[str]) -> list[float]:
        return [self.one(design) for design in designs]

    def one(self, design: str) -> float:
        if self.folder is not None:  # a file a question counts, across processes, how often a design was asked
            with (self.folder / design).open("a") as file:
                file.write(f"{os.getpid()}\n")
        time.sleep(self.seconds)
        if design[0] in FAULTS:
            return FAULTS[design[0]](self, design)
        return expected(design)

    def asked(self, design: str) -> int:
        assert self.folder is not None
        return len((self.folder / design).read_text().splitlines())


class Misled(Faulty):
    """Says that its configuration cannot work."""

    def one(self, design: str) -> float:
        raise ConfigError("no docking box")


class Long(Faulty):
    """Returns one score too many."""

    def __call__(self, designs: list[str]) -> list[float]:
        return [1.0] * (len(designs) + 1)


class Noise(Faulty):
    """A random number of NumPy's global generator, unless the design is K."""

    def one(self, design: str) -> float:
        import numpy

        return die(self, design) if design == "K" else float(numpy.random.rand())  # noqa: NPY002


class Loaded(Faulty):
    """Whether the module of a name is imported already."""

    def one(self, design: str) -> float:
        return float(design in sys.modules)


class Reasoned(Faulty):
    """Says why there is no score."""

    def one(self, design: str) -> float:
        return NoRing("nan")


class NoRing(float):
    reason = "no ring"


class Loud(Faulty):
    """Prints when it is loaded, and whenever it is asked."""

    def __setstate__(self, state):
        print("loaded", flush=True)
        self.__dict__.update(state)

    def one(self, design: str) -> float:
        print("asked", flush=True)
        os.write(1, b"of a descriptor\n")
        return expected(design)


class Unloadable(Faulty):
    def __reduce__(self):
        return (int, ("no number",))


class Deadly(Faulty):
    def __reduce__(self):
        return (os._exit, (5,))


def expected(design: str) -> float:
    return len(design) + 10.0 * design.count("A")


def hang(reward, design):
    time.sleep(1000)


def refuse(reward, design):
    raise ValueError(f"odd valence of {design}")


def lose_connection(reward, design):
    """Fail as often as the digit says, then answer."""
    if reward.asked(design) <= int(design[1]):
        raise ConnectionError("the server is busy")
    return expected(design)


def die(reward, design):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(reward, design):
    if reward.asked(design) == 1:
        os._exit(7)
    return expected(design)


def leave(reward, design):
    raise SystemExit(3)


def eat(reward, design):
    return float(len(bytearray(400_000_000)))


def spawn(reward, design):
    """Hang in a program, as docking does, and tell its process number."""
    program = subprocess.Popen(["sleep", "1000"])
    (reward.folder / "program").write_text(f"{program.pid}\n")
    program.wait()


def leave_daemon(reward, design):
    """Start a program that leaves session and parent, and tell its process number."""
    code = f"import os; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); {_DAEMON}"
    subprocess.run([sys.executable, "-S", "-c", code, str(reward.folder / "program")], check=True)
    return expected(design)


def hang_with_daemon(reward, design):
    leave_daemon(reward, design)
    time.sleep(1000)


_DAEMON = "import sys, time; open(sys.argv[1], 'w').write(f'{os.getpid()}\\n'); time.sleep(1000)"


def fork(reward, design):
    """Answer in a child too, which comes back from here as its parent does, and says another score."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return expected(design) if child else -1.0


def fork_and_fail(reward, design):
    child = os.fork()
    if child:
        return 1000.0 + os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    raise ValueError("a child")


def leave_a_child(reward, design):
    """Die, while a child that holds all descriptors of this process sleeps on."""
    if os.fork() == 0:
        time.sleep(1000)
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {
    "F": fork,
    "E": fork_and_fail,
    "Y": leave_a_child,
    "H": hang,
    "V": refuse,
    "L": lose_connection,
    "K": die,
    "O": die_once,
    "X": leave,
    "M": eat,
    "P": spawn,
    "B": leave_daemon,
    "D": hang_with_daemon,
    "N": lambda reward, design: float("nan"),
    "I": lambda reward, design: float("-inf"),
}
