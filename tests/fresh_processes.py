"""Commands in processes of their own that need not import torch first: that takes seconds, and is the same for all.

They are forked from a server that has imported what `PRELOADED` names and done nothing else. So they share no state
with the test, can be killed, and find code and files by their own path and working folder, as a new interpreter would.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PRELOADED = ["torch._dynamo", "peft", "matplotlib.backends.backend_svg", "biotilt.cli", "biotilt.run", "biotilt.check"]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(PRELOADED)


class Fresh:
    """`python WORDS…`, where the words are `-m MODULE …`, `-c CODE …` or a script and its arguments."""

    def __init__(self, *words: str | Path, cwd: Path | None = None, environment: Mapping[str, str] = os.environ):
        self.words = tuple(map(str, words))
        self._output = tempfile.TemporaryDirectory(prefix="fresh-")
        self._files = [Path(self._output.name) / name for name in ("out", "error")]
        for file in self._files:
            file.touch()
        where = Path.cwd() if cwd is None else cwd
        self.process = _CONTEXT.Process(
            target=_become, args=(self.words, where, dict(environment), self._files), daemon=True
        )
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was written to stdout and stderr."""
        self.wait(timeout)
        out, error = (file.read_text(encoding="utf-8", errors="replace") for file in self._files)
        return out, error

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode


def run(
    *words: str | Path, cwd: Path | None = None, environment: Mapping[str, str] = os.environ, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run to the end, as `subprocess.run` does."""
    process = Fresh(*words, cwd=cwd, environment=environment)
    out, error = process.communicate(timeout)
    return subprocess.CompletedProcess(process.words, process.wait(), out, error)


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    """Stand for `biotilt.models.checks.run_python`."""
    places = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
    return run(*words, environment=os.environ | {"PYTHONPATH": places})


def _become(words: tuple[str, ...], cwd: Path, environment: dict[str, str], files: list[Path]) -> None:
    """Be the interpreter that was asked for."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    stays = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    ahead = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    if words[0] == "-m":
        sys.argv = list(words[1:])
        sys.path[:] = [str(cwd), *ahead, *stays]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path[:] = ["", *ahead, *stays]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(words)
        sys.path[:] = [str(Path(words[0]).absolute().parent), *ahead, *stays]
        runpy.run_path(words[0], run_name="__main__")
