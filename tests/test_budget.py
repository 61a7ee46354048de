"""A run that is given more budget goes on with it, and says why where it cannot."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import biotilt
from biotilt.cli import app
from biotilt.errors import CallbackError, ConfigError

TIME_SAID = "time: 12 s are spent, and the limit is 10 s"
SMALL = {"objective": {"name": "ppo", "updates": 1}}


def share_of_g(designs):
    return [design.count("G") / len(design) for design in designs]


def experiment_of(**train):
    return biotilt.Experiment.for_task("utr", **SMALL, train={"max_calls": 16, "batch": 8, "trackers": ()} | train)


class CutAt(biotilt.Callback):
    def __init__(self, number):
        self.number = number

    def on_round(self, row, history):
        if row["round"] == self.number:
            raise OSError("the power was cut")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return biotilt.tune(experiment_of(), folder)


def test_a_finished_run_goes_on_with_more_calls(finished, tmp_path):
    run = biotilt.tune(experiment_of(), tmp_path / "run")
    before, weights = run.rows, (run.folder / "tuned.safetensors").read_bytes()
    (run.folder / "summary.json").write_text("{}")
    more = biotilt.resume(run.folder, max_calls=32)
    assert [row["calls"] for row in more.rows] == [8, 16, 24, 32]
    assert more.rows[:2] == before
    assert (run.folder / "tuned.16.safetensors").read_bytes() == weights
    assert (run.folder / "tuned.safetensors").read_bytes() != weights
    assert not (run.folder / "summary.json").exists()  # it told of the model before
    loaded = biotilt.Run.load(run.folder)
    assert loaded.experiment.config.build_train().max_calls == 32
    assert sum(not cached for cached in loaded.scored["cached"]) == 32


def test_more_budget_survives_an_interruption_bit_for_bit(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        biotilt.tune(experiment_of(), folder)
    biotilt.resume(whole, max_calls=32)
    with pytest.raises(CallbackError, match="cut"):
        biotilt.resume(cut, max_calls=32, callbacks=[CutAt(3)])
    biotilt.resume(cut)  # the new budget is the run's own
    assert (cut / "tuned.safetensors").read_bytes() == (whole / "tuned.safetensors").read_bytes()


def test_an_interrupted_run_may_be_given_more_too(tmp_path):
    with pytest.raises(CallbackError):
        biotilt.tune(experiment_of(), tmp_path, callbacks=[CutAt(1)])
    run = biotilt.resume(tmp_path, max_calls=24)
    assert [row["calls"] for row in run.rows] == [8, 16, 24]


def test_an_interrupted_run_is_not_given_less_time_than_it_has_taken(tmp_path):
    with pytest.raises(CallbackError):
        biotilt.tune(experiment_of(), tmp_path, callbacks=[CutAt(1)])
    before = (tmp_path / "experiment.json").read_bytes()
    with pytest.raises(ConfigError, match=r"has taken .* and its limit is .* more with --max-seconds"):
        biotilt.resume(tmp_path, max_seconds=1e-6)
    assert (tmp_path / "experiment.json").read_bytes() == before
    assert [row["calls"] for row in biotilt.resume(tmp_path, max_seconds=1e6).rows] == [8, 16]


def test_a_run_that_its_time_ended_goes_on_with_more_time(tmp_path):
    limited = experiment_of(max_calls=24, stop={"seconds": 1e-6})
    run = biotilt.tune(limited, tmp_path / "run")
    assert len(run.rows) == 1
    assert run.stopped.startswith("time")
    with pytest.raises(ConfigError, match="more with --max-seconds"):
        biotilt.resume(run.folder, max_calls=32)
    run = biotilt.resume(run.folder, max_seconds=1e6)
    assert len(run.rows) == 3
    assert not run.stopped


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"max_calls": 8}, "max_calls: 8 is less than the 16"),
        ({"max_calls": 20}, "20 pay for no further round of 8"),
        ({"max_seconds": 1e6}, "16 pay for no further round of 8; give it more with --max-calls"),
        ({"max_calls": 64, "max_seconds": 1e-6}, "and its limit is .* give it more with --max-seconds"),
    ],
)
def test_a_budget_that_is_no_larger_is_refused_and_nothing_is_touched(finished, budget, message):
    files = {path.name: path.read_bytes() for path in finished.folder.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match=message):
        biotilt.resume(finished.folder, **budget)
    assert {path.name: path.read_bytes() for path in finished.folder.iterdir() if path.is_file()} == files


def test_what_a_callback_ended_is_not_reopened(tmp_path):
    class Enough(biotilt.Callback):
        def on_round(self, row, history):
            return biotilt.Stop("good enough")

    run = biotilt.tune(experiment_of(), tmp_path, callbacks=[Enough()])
    with pytest.raises(ConfigError, match=r"good enough.*which more budget does not change"):
        biotilt.resume(run.folder, max_calls=64)


def test_a_run_without_a_limit_of_time_can_be_given_one(tmp_path):
    biotilt.tune(experiment_of(), tmp_path)
    run = biotilt.resume(tmp_path, max_calls=24, max_seconds=1e6)
    assert [row["calls"] for row in run.rows] == [8, 16, 24]
    assert biotilt.Run.load(tmp_path).experiment.config.build_train().stop.seconds == 1e6


@pytest.mark.parametrize("stop", [biotilt.Stop("time: to go home"), biotilt.Stop(TIME_SAID)])
def test_a_callback_whose_reason_speaks_of_time_is_not_the_limit_of_time(stop, tmp_path):
    class Home(biotilt.Callback):
        def on_round(self, row, history):
            return stop

    run = biotilt.tune(experiment_of(stop={"seconds": 1e6}), tmp_path, callbacks=[Home()])
    with pytest.raises(ConfigError, match="which more budget does not change"):
        biotilt.resume(run.folder, max_calls=64, max_seconds=2e6)


def test_a_run_of_before_the_kind_of_stop_was_written_is_known_by_what_it_says(tmp_path):
    run = biotilt.tune(experiment_of(max_calls=24, stop={"seconds": 1e-6}), tmp_path / "run")
    history = run.folder / "history.json"
    rows = json.loads(history.read_text())
    assert rows[-1].pop("out_of_time") is True
    history.write_text(json.dumps(rows))
    assert len(biotilt.resume(run.folder, max_seconds=1e6).rows) == 3


def test_the_command_gives_a_run_more(tmp_path):
    run = biotilt.tune(experiment_of(), tmp_path / "run")
    words = ["tune", "--resume", str(run.folder), "--max-calls", "24", "--no-evaluate", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["calls"] == 24
