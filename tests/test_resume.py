"""`kill -9`, SIGTERM and Ctrl-C at random moments, then `--resume`: the same as a run left alone."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import biotilt
import fresh_processes
from biotilt.files import read_json
from biotilt.tensors import load_tensors
from biotilt.training import EachRound
from fresh_processes import Fresh

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

ROUNDS = 14
PATIENCE = 60.0
# Slow only in the killed runs: pieces of four designs make a round of eight two commits to the ledger.
REWARD = """
import os, time

def slow(designs):
    time.sleep(float(os.environ.get("SECONDS_A_CALL", "0")))
    return [float(d.count("G")) for d in designs]
"""


@pytest.fixture
def experiment(experiment_file, tmp_path) -> Path:
    (tmp_path / "mine.py").write_text(REWARD)
    return experiment_file(
        reward={"kind": "python", "function": "mine.py:slow"},
        oracle={"batch_size": 4},
        objective={"name": "vidd", "value": "mixed", "updates": 3, "states": 16},
        train={"max_calls": 8 * ROUNDS, "batch": 8, "schedule": "cosine"},
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept") / "undisturbed"


@pytest.fixture
def undisturbed(experiment, kept) -> Path:
    """The experiment left alone: what it makes depends on no folder, so once is enough."""
    if not kept.exists():
        biotilt.tune(experiment, kept)
    return kept


def start(*words: str | Path, seconds_a_call: float = 0.1) -> Fresh:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SECONDS_A_CALL": str(seconds_a_call)}
    return Fresh("-m", "biotilt.cli", "tune", *words, "--no-evaluate", environment=environment)


def wait_until(condition: Callable[[], bool], process: Fresh) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run does not get there"
        time.sleep(0.01)


def rounds_done(folder: Path) -> int:
    """Return the round of the last checkpoint."""
    path = folder / "checkpoint.safetensors"
    return load_tensors(path)[1]["round"] if path.is_file() else 0


def wait_for_round(number: int, folder: Path, process: Fresh) -> None:
    wait_until(lambda: rounds_done(folder) >= number, process)


def ledger(folder: Path) -> list[tuple]:
    """Return what the run asked its oracle, in order."""
    database = sqlite3.connect(folder / "oracle.sqlite", timeout=10)
    try:
        query = "SELECT position, design, score, cached FROM ledger WHERE run = 'tuning' ORDER BY position"
        return database.execute(query).fetchall()
    except sqlite3.OperationalError:  # the table is not there yet
        return []
    finally:
        database.close()


def assert_same_run(folder: Path, undisturbed: Path) -> None:
    tuned = [(f / "tuned.safetensors").read_bytes() for f in (folder, undisturbed)]
    assert tuned[0] == tuned[1]
    assert ledger(folder) == ledger(undisturbed)
    histories = [[row | {"seconds": 0} for row in read_json(f / "history.json")] for f in (folder, undisturbed)]
    assert histories[0] == histories[1]
    assert histories[0][-1]["calls"] == 8 * ROUNDS


def test_killed_twice_and_resumed(experiment, undisturbed, tmp_path):
    folder, moment = tmp_path / "killed", random.Random()
    words: tuple[str | Path, ...] = (experiment, "--folder", folder)
    for at_least in (2, 5):
        process = start(*words)
        wait_for_round(at_least, folder, process)
        time.sleep(moment.uniform(0, 0.25))  # anywhere in a round: reward, ledger, updates, checkpoint
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "tuned.safetensors").exists(), "killed in the middle"
        words = ("--resume", folder)
    done = start(*words, seconds_a_call=0)
    output = done.communicate(timeout=PATIENCE)
    assert done.returncode == 0, output
    assert_same_run(folder, undisturbed)


def test_killed_before_the_first_checkpoint(experiment, undisturbed, tmp_path):
    folder = tmp_path / "killed"
    process = start(experiment, "--folder", folder, seconds_a_call=1.0)
    wait_until(lambda: (folder / "experiment.json").is_file() and len(ledger(folder)) > 0, process)
    process.kill()
    process.wait()
    assert rounds_done(folder) == 0 and len(ledger(folder)) == 4, "half of the first round was paid for"
    biotilt.resume(folder)
    assert_same_run(folder, undisturbed)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_stopped_politely(experiment, undisturbed, tmp_path, stop):
    folder = tmp_path / "a folder"
    # slow enough that a busy machine sends the signal before the run has ended
    process = start(experiment, "--folder", folder, seconds_a_call=0.3)
    wait_for_round(2, folder, process)
    process.send_signal(stop)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    line = re.search(r"interrupted; go on with: biotilt (.*)", stderr)
    assert line is not None, stderr
    assert shlex.split(line[1]) == ["tune", "--resume", str(folder)]
    assert not list(folder.glob(".*.tmp"))
    again = fresh_processes.run("-m", "biotilt.cli", *shlex.split(line[1]), "--no-evaluate")
    assert again.returncode == 0, again.stderr
    assert_same_run(folder, undisturbed)


def test_a_run_can_be_moved_before_it_goes_on(experiment, undisturbed, tmp_path):
    class Stop(BaseException):
        pass

    def report(row):
        if row["round"] == 4:
            raise Stop

    with pytest.raises(Stop):
        biotilt.tune(experiment, tmp_path / "here", callbacks=[EachRound(report)])
    (tmp_path / "here").rename(tmp_path / "there")
    biotilt.resume(tmp_path / "there")
    assert_same_run(tmp_path / "there", undisturbed)


def test_the_same_call_goes_on_where_it_stopped(experiment, undisturbed, tmp_path):
    """Raised out of every round in turn, and called again each time: still the same run."""

    class Stop(BaseException):
        pass

    def report(row):
        raise Stop

    for _ in range(ROUNDS):
        with pytest.raises(Stop):
            biotilt.tune(experiment, tmp_path / "run", callbacks=[EachRound(report)])
    biotilt.tune(experiment, tmp_path / "run", callbacks=[EachRound(report)])
    assert_same_run(tmp_path / "run", undisturbed)
