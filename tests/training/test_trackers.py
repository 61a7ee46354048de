"""Trackers: what each sends where. Weights & Biases, MLflow and Trackio are stand-ins with the documented interface."""

from __future__ import annotations

import json
import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from biotilt.errors import ConfigError
from biotilt.training import TRACKERS, Ended, RunInfo
from biotilt.training.trackers import JsonLines, MLflow, TensorBoard, Trackio, WeightsAndBiases
from biotilt.training.trackers.jsonl import read_lines

ROWS = [{"round": n, "calls": 16 * n, "reward": n / 2, "kl": math.nan} for n in (1, 2, 3, 4)]
SENT = [{key: value for key, value in row.items() if key != "kl"} for row in ROWS]
SETTINGS = {"alpha": 0.5, "train": {"lr": 0.1, "batch": 16}}


def info(folder, done: int = 0) -> RunInfo:
    return RunInfo("utr", "vidd", 4, 64, folder, SETTINGS, ROWS[:done])


def run(tracker, folder, rounds, ended: Ended, done: int = 0) -> None:
    tracker.on_start(info(folder, done))
    for number in rounds:
        tracker.on_round(dict(ROWS[number - 1]), ROWS[:number])
    tracker.on_end(ended)


def twice(make, folder) -> None:
    """Killed after round 3, whose checkpoint was that of round 2; then to the end, where it is stopped."""
    run(make(), folder, (1, 2, 3), Ended("interrupted"))
    run(make(), folder, (3, 4), Ended("stopped", "plateau: no rise"), done=2)


def test_lines_of_json_are_those_of_a_run_left_alone(tmp_path):
    twice(JsonLines, tmp_path)
    assert read_lines(tmp_path / "history.jsonl") == SENT
    assert [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()] == SENT


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    run(JsonLines(), tmp_path, (1, 2), Ended("interrupted"))
    whole = (tmp_path / "history.jsonl").read_bytes()
    (tmp_path / "history.jsonl").write_bytes(whole[:-10])
    assert read_lines(tmp_path / "history.jsonl") == SENT[:1]


def test_tensorboard_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    twice(TensorBoard, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["reward"]
    assert [(e.step, e.value) for e in events.Scalars("reward")] == [(16, 0.5), (32, 1.0), (48, 1.5), (64, 2.0)]


def stand_in(monkeypatch, name: str, **parts: Any) -> None:
    module = ModuleType(name)
    vars(module).update(parts)
    monkeypatch.setitem(sys.modules, name, module)


def test_weights_and_biases(tmp_path, monkeypatch):
    told: list[Any] = []

    class Run:
        summary: dict[str, Any] = {}  # noqa: RUF012

        def log(self, figures, step):
            told.append((step, figures))

        def finish(self, exit_code):
            told.append(("finish", exit_code, dict(self.summary)))

    def init(**given):
        told.append(given)
        return Run()

    stand_in(monkeypatch, "wandb", init=init)
    twice(lambda: WeightsAndBiases(project="mine", group="a"), tmp_path)
    first, *logged, end, again, third, fourth, finished = told
    assert (first["project"], first["entity"], first["group"], first["name"]) == ("mine", None, "a", "utr")
    assert (first["dir"], first["config"], first["resume"]) == (str(tmp_path), SETTINGS, "allow")
    assert len(first["id"]) == 12 and again["id"] == first["id"], "a resumed run goes on under its name"
    assert logged == [(16, SENT[0]), (32, SENT[1]), (48, SENT[2])] and [third, fourth] == [(48, SENT[2]), (64, SENT[3])]
    assert end == ("finish", 1, {}) and finished == ("finish", 0, {"stopped": "plateau: no rise"})


def test_mlflow(tmp_path, monkeypatch):
    told: list[Any] = []

    class MlflowClient:
        def __init__(self, tracking_uri):
            told.append(("client", tracking_uri))

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            told.append(("experiment", name))
            return "7"

        def create_run(self, experiment_id, run_name):
            told.append(("run", experiment_id, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

        def update_run(self, run_id, status):
            told.append(("update", run_id, status))

        def log_param(self, run_id, key, value):
            told.append(("param", run_id, key, value))

        def log_metric(self, run_id, key, value, step):
            told.append((run_id, key, value, step))

        def set_tag(self, run_id, key, value):
            told.append(("tag", run_id, key, value))

        def set_terminated(self, run_id, status):
            told.append(("end", run_id, status))

    stand_in(monkeypatch, "mlflow", MlflowClient=MlflowClient)
    twice(lambda: MLflow(experiment="mine", uri="http://here"), tmp_path)
    assert told[:6] == [
        ("client", "http://here"),
        ("experiment", "mine"),
        ("run", "7", "utr"),
        ("param", "abc", "alpha", "0.5"),
        ("param", "abc", "train.lr", "0.1"),
        ("param", "abc", "train.batch", "16"),
    ]
    rewards = [entry for entry in told if entry[1] == "reward"]
    assert rewards == [("abc", "reward", n / 2, 16 * n) for n in (1, 2, 3, 3, 4)]
    killed = told.index(("end", "abc", "KILLED"))
    assert told[killed + 1 : killed + 3] == [("client", "http://here"), ("update", "abc", "RUNNING")]
    assert told[-2:] == [("tag", "abc", "stopped", "plateau: no rise"), ("end", "abc", "FINISHED")]
    assert not [entry for entry in told if "kl" in entry], "what is not finite is not sent"


def test_trackio(tmp_path, monkeypatch):
    told: list[Any] = []

    def init(**given):
        told.append(given)
        return SimpleNamespace(
            log=lambda figures, step: told.append((step, figures)), finish=lambda: told.append("finish")
        )

    stand_in(monkeypatch, "trackio", init=init)
    twice(lambda: Trackio(space="me/here"), tmp_path)
    first, again = told[0], told[5]
    assert first == again and first["name"].startswith("utr-") and first["resume"] == "allow"
    assert (first["project"], first["space_id"], first["config"]) == ("biotilt", "me/here", SETTINGS)
    assert told[1:5] == [(16, SENT[0]), (32, SENT[1]), (48, SENT[2]), "finish"]
    assert told[6:] == [(48, SENT[2]), (64, SENT[3]), "finish"]


def test_one_that_fails_on_the_way_is_left_out_with_a_warning(tmp_path):
    class Broken(JsonLines):
        calls = 0

        def log(self, figures):
            self.calls += 1
            raise ConnectionError("no network")

    tracker = Broken()
    tracker.on_start(info(tmp_path))
    with pytest.warns(UserWarning, match=r"tracker jsonl failed \(ConnectionError: no network\)"):
        tracker.on_round(ROWS[0], ROWS[:1])
    tracker.on_round(ROWS[1], ROWS[:2])
    assert tracker.calls == 1


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_package_is_said_with_what_to_type(name, monkeypatch):
    monkeypatch.setattr("biotilt.training.trackers.base.find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf'train\.trackers: "{name}" needs the package {name}.*pip install {name}$'):
        TRACKERS[name]().require()
    TRACKERS["jsonl"]().require()
