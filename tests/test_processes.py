"""Several processes of one run: the same weights as of one, one oracle, one writer; and one of them killed."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import biotilt
from biotilt.tensors import load_tensors

PROGRAM = Path(__file__).parent / "team_program.py"
BIOTILT = [sys.executable, "-m", "biotilt.cli"]


def started(count: int, command: list[str], **more: str) -> list[subprocess.Popen[str]]:
    """Start a command in so many processes, as launchers do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} | more
    return [
        subprocess.Popen(
            command, env=common | {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip


def done(processes: list[subprocess.Popen[str]], patience: float = 600) -> list[tuple[str, str]]:
    said = [process.communicate(timeout=patience) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def test_objectives_and_samplers_do_the_same_in_two_processes(tmp_path):
    """In float64, with chains that are an odd number: up to the rounding of sums, which no draw notices."""
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        done(started(count, [sys.executable, str(PROGRAM), str(folder)]))
        found.append(load_tensors(folder / "found.safetensors")[0])
    assert found[0].keys() == found[1].keys()
    for name, alone in found[0].items():
        torch.testing.assert_close(found[1][name], alone, rtol=1e-6, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


REWARD = """
import os, time

def slow(designs):
    with open(os.environ["ASKED"], "a") as file:
        file.writelines(f"{os.getpid()} {design}\\n" for design in designs)
    time.sleep(float(os.environ.get("SECONDS_A_CALL", "0")))
    return [float(d.count("G")) for d in designs]
"""


@pytest.fixture
def experiment(experiment_file, tmp_path) -> Path:
    (tmp_path / "mine.py").write_text(REWARD)
    return experiment_file(
        reward={"kind": "python", "function": "mine.py:slow"},
        objective={"name": "ppo", "updates": 3, "states": 16},
        train={"max_calls": 32, "batch": 8},
        output={"samples": 4},
    )


def rows(folder: Path) -> list[tuple]:
    with sqlite3.connect(folder / "oracle.sqlite") as database:
        return database.execute("SELECT design, score FROM ledger WHERE run = 'tuning' ORDER BY position").fetchall()


def test_one_oracle_one_writer_and_a_process_that_is_killed(experiment, tmp_path, monkeypatch):
    alone, folder, asked = tmp_path / "alone", tmp_path / "run", tmp_path / "asked"
    monkeypatch.setenv("ASKED", str(tmp_path / "asked_alone"))
    biotilt.tune(experiment, alone)
    command = [*BIOTILT, "tune", str(experiment), "--folder", str(folder)]
    first, second = started(2, command, ASKED=str(asked), SECONDS_A_CALL="0.5")
    until = time.monotonic() + 600
    while not (folder / "checkpoint.safetensors").is_file():
        assert first.poll() is None and second.poll() is None, (first.communicate(), second.communicate())
        assert time.monotonic() < until
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    said = first.communicate(timeout=600)
    assert first.returncode == 2 and "another process of this run has ended" in said[1], said
    assert not (folder / "tuned.safetensors").exists()

    out, others = done(started(2, [*BIOTILT, "tune", "--resume", str(folder)], ASKED=str(asked)))
    assert "the page:" in out[0] and "judging" in out[1], out
    assert others == ("", "")
    assert rows(folder) == rows(alone)
    each = [line.split()[0] for line in asked.read_text().splitlines()]
    assert len(set(each)) == 2, "one process before the kill, and one after it"
    tuned, expected = (load_tensors(f / "tuned.safetensors")[0] for f in (folder, alone))
    for name, weight in expected.items():
        torch.testing.assert_close(tuned[name], weight, rtol=1e-4, atol=1e-6)
    assert (folder / "summary.json").is_file() and (folder / "report.html").is_file()
    assert not list(folder.glob(".biotilt-*"))
