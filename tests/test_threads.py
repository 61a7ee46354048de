"""Threads of the processor: as many as are said, else as are free; and a run that goes on has those it began with."""

from __future__ import annotations

import json

import psutil
import pytest
import torch

from biotilt import Callback, ConfigError, Experiment, resume, tune
from biotilt.errors import CallbackError
from biotilt.threads import at_work, free_threads

FAST = {"objective": {"name": "ppo", "updates": 1}, "train": {"max_calls": 16, "batch": 8, "trackers": []}}


def count(designs):
    return [float(design.count("G")) for design in designs]


class Seen(Callback):
    """Notes how many threads there are; stops the run by an error after the first round, where it is to be cut."""

    def __init__(self, cut: bool = False):
        self.cut, self.threads = cut, []

    def on_round(self, row, history):
        self.threads.append(torch.get_num_threads())
        if self.cut:
            raise OSError("the power was cut")


@pytest.mark.parametrize(("busy", "found"), [(0, 4), (40, 3), (90, 1), (100, 1)])
def test_free_threads_are_those_of_cores_that_others_leave(monkeypatch, busy, found):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 5)
    monkeypatch.setattr(psutil, "cpu_percent", lambda seconds: float(busy))
    with at_work(4):
        assert free_threads() == found
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        assert free_threads() == 4
    assert torch.get_num_threads() == 1  # as the tests have it


def test_a_run_goes_on_with_the_threads_it_began_with(tmp_path):
    with at_work(2), pytest.raises(CallbackError):
        tune(Experiment.for_task("utr", reward=count, **FAST), tmp_path / "run", callbacks=[Seen(cut=True)])
    seen = Seen()
    resume(tmp_path / "run", reward=count, callbacks=[seen])
    assert seen.threads == [2] and torch.get_num_threads() == 1


def test_threads_that_are_said_are_taken_and_are_no_part_of_what_a_run_is(tmp_path):
    first, second = Seen(cut=True), Seen()
    with pytest.raises(CallbackError):
        tune(Experiment.for_task("utr", reward=count, threads=3, **FAST), tmp_path / "run", callbacks=[first])
    tune(Experiment.for_task("utr", reward=count, threads=2, **FAST), tmp_path / "run", callbacks=[second])
    assert (first.threads, second.threads) == ([3], [2]) and torch.get_num_threads() == 1


def test_a_number_of_threads_that_nobody_can_mean_is_not_taken(tmp_path):
    with pytest.raises(ConfigError, match="threads: must be ≥ 1, got 0"):
        Experiment.for_task("utr", threads=0)
    with pytest.raises(CallbackError):
        tune(Experiment.for_task("utr", reward=count, **FAST), tmp_path / "run", callbacks=[Seen(cut=True)])
    path = tmp_path / "run/experiment.json"
    record = json.loads(path.read_text())
    record["versions"]["threads"] = "1000000000"
    path.write_text(json.dumps(record))
    seen = Seen()
    resume(tmp_path / "run", reward=count, callbacks=[seen])
    assert seen.threads == [1]


def test_a_command_says_that_it_takes_fewer(monkeypatch, capsys):
    from biotilt.cli.console import take_threads

    monkeypatch.setattr("biotilt.threads.free_threads", lambda: 1)
    with at_work(2):
        take_threads()
        assert torch.get_num_threads() == 1
        assert capsys.readouterr().err == (
            "computing with 1 of 2 threads: other programs are busy; OMP_NUM_THREADS=2 takes all\n"
        )
        take_threads(2)
        assert torch.get_num_threads() == 2 and capsys.readouterr().err == ""
