"""A run in Python: what it says of itself, its tables, how it draws itself, and how it ends early."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest

import biotilt
from biotilt import Callback, Experiment, Run, Stop
from biotilt.errors import BiotiltError, ConfigError
from biotilt.files import read_json
from biotilt.training import EachRound
from biotilt.training.trackers.jsonl import read_lines


@pytest.fixture
def build(keys):
    def build(**train) -> Experiment:
        return Experiment.from_dict(keys | {"train": keys["train"] | train}, Path())

    return build


@pytest.fixture
def run(build, tmp_path) -> Run:
    return biotilt.tune(build(trackers=["jsonl"]), tmp_path / "run")


class AfterTwo(Callback):
    def on_round(self, row, history):
        return Stop("two <are> enough") if len(history) == 2 else None


def test_five_lines_before_and_after_it_was_judged(run):
    first = repr(run).splitlines()
    assert len(first) == 5
    assert first[0] == "Run run: vidd toward count, α = 0.5"
    assert re.fullmatch(r"  32 oracle calls in 4 rounds, [\d.]+ s", first[1])
    best = max(run.rows, key=lambda row: row["reward"])
    assert f"(round {best['round']}, at first {run.rows[0]['reward']:.4g}" in first[2] and "not judged" in first[2]
    assert str(run.folder) in first[3] and "run.evaluate()" in first[4]
    summary = run.evaluate()
    second = repr(run).splitlines()
    medians = [row["held_out"]["median"] for row in summary["rows"]]
    assert len(second) == 5 and second[:2] == first[:2] and second[3] == first[3]
    assert second[2].startswith("  " + summary["verdict"]["headline"])
    assert f"base {medians[0]:.4g}" in second[2] and f"tuned {medians[2]:.4g}" in second[2]
    assert "run.panel" in second[4]


def test_tables_are_those_of_the_folder(run):
    pytest.importorskip("pandas")
    told = [{key: value for key, value in row.items() if value == value} for row in run.history.to_dict("records")]
    assert told == run.rows  # a figure that a round does not have is NaN in the table
    assert list(run.history["calls"]) == [8, 16, 24, 32]
    scored = run.scored
    assert list(scored["score"]) == [design.count("G") for design in scored["design"]] and len(scored) == 32
    assert list(scored["position"]) == list(range(32)) and not scored["reason"].any()
    summary = run.evaluate()
    with (run.folder / "designs.csv").open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert list(run.designs["sequence"]) == [row["sequence"] for row in written]
    assert list(run.designs["optimised"]) == [row["sequence"].count("G") for row in written]
    assert list(run.designs["flags"]) == [row["flags"] for row in written]
    panel = run.panel
    assert list(panel.index) == [row["name"] for row in summary["rows"]]
    assert list(panel["optimised.median"]) == [row["optimised"]["median"] for row in summary["rows"]]
    loaded = Run.load(run.folder)
    assert loaded.panel.equals(panel) and loaded.history.equals(run.history)


def test_what_is_not_there_yet_is_said(run, monkeypatch):
    for table in ("designs", "panel"):
        with pytest.raises(BiotiltError, match=r"not been judged yet: call run\.evaluate\(\)"):
            getattr(run, table)
    monkeypatch.setitem(sys.modules, "pandas", None)
    for table in ("history", "scored", "designs", "panel"):
        with pytest.raises(ConfigError, match=r'pip install "pandas>=2\.2", or biotilt with its extra "notebook"'):
            getattr(run, table)


def test_it_draws_itself(run):
    curves = run._repr_html_()
    assert curves.count("<svg") == 2 and "<table" not in curves and "α = 0.5" in curves
    summary = run.evaluate()
    drawn = run._repr_html_()
    assert drawn.count("<svg") == 4, "two curves, and the scores by two oracles"
    cells = re.findall(r"<td>(.*?)</td>", drawn)
    assert cells[0].startswith(f"{summary['rows'][0]['optimised']['median']:.3f}"[:4])
    assert [name in drawn for name in ("Base", "Best of N", "Tuned", "Harvest")] == [True] * 4
    assert "<script" not in drawn and "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", drawn)


def test_a_callback_ends_a_run_and_its_page_says_why(build, tmp_path):
    folder = tmp_path / "run"
    run = biotilt.tune(build(), folder, callbacks=[AfterTwo()])
    assert (run.stopped, len(run.rows)) == ("two <are> enough", 2)
    assert "16 oracle calls in 2 rounds" in repr(run) and "ended early: two <are> enough" in repr(run)
    assert "ended early: two &lt;are&gt; enough" in run._repr_html_()
    rows = read_json(folder / "history.json")
    assert [row.get("stopped") for row in rows] == [None, "two <are> enough"]
    loaded = Run.load(folder)
    assert (loaded.stopped, loaded.rows) == (run.stopped, run.rows)
    assert loaded.evaluate()["stopped"] == read_json(folder / "summary.json")["stopped"] == "two <are> enough"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Tuning ended early, after 2 rounds (two &lt;are&gt; enough)." in page
    with pytest.raises(ConfigError, match="finished run"):
        biotilt.tune(build(), folder)


def test_a_run_that_spends_its_budget_has_no_reason(run):
    assert run.stopped == "" and run.evaluate()["stopped"] is None
    assert "ended early" not in (run.folder / "report.html").read_text(encoding="utf-8")
    assert all("stopped" not in row for row in read_json(run.folder / "history.json"))


def test_an_early_stop_from_a_file_is_the_same_after_a_kill(experiment_file, tmp_path):
    """The limit of a nanosecond ends it after one round, whether killed right after the rule spoke or not."""
    train = {"max_calls": 32, "batch": 8, "stop": {"seconds": 1e-9, "plateau": 3, "hacking": True}}
    file = experiment_file(train=train)

    class Killed(BaseException):
        pass

    def kill(row):
        raise Killed

    whole = biotilt.tune(file, tmp_path / "whole")
    with pytest.raises(Killed):
        biotilt.tune(file, tmp_path / "killed", callbacks=[EachRound(kill)])
    again = biotilt.resume(tmp_path / "killed")
    assert whole.stopped.startswith("time: ") and again.stopped.startswith("time: ")
    assert [len(r.rows) for r in (whole, again)] == [1, 1] and again.rows[-1]["calls"] == 8
    tuned = [(r.folder / "tuned.safetensors").read_bytes() for r in (whole, again)]
    assert tuned[0] == tuned[1]


def test_the_lines_of_a_tracker_are_the_history(run):
    assert read_lines(run.folder / "history.jsonl") == run.rows
    assert not (run.folder / "tensorboard").exists()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"trackers": ["tensorbord"]}, r'train\.trackers\.0\.name: unknown tracker "tensorbord"; did you mean "tensor'),
        (
            {"trackers": ["jsonl", {"name": "wandb", "projet": "x"}]},
            r"train\.trackers\.1\.projet: unknown key; did you",
        ),
        ({"stop": {"plateu": 3}}, r'train\.stop\.plateu: unknown key; did you mean "plateau"'),
        ({"stop": {"plateau": 0}}, r"train\.stop\.plateau: must be ≥ 1"),
        ({"stop": 5}, r"train\.stop: must be a table"),
    ],
)
def test_keys_are_checked_when_an_experiment_is_built(build, train, message):
    with pytest.raises(ConfigError, match=message):
        build(**train)


def test_hacking_needs_a_judge_that_speaks_the_same_unit(keys):
    stop = {"train": keys["train"] | {"stop": {"hacking": True}}}
    Experiment.from_dict(keys | stop, Path())
    for changes in ({"held_out": None}, {"reward": keys["reward"] | {"units": "kcal/mol"}}):
        content = {key: value for key, value in (keys | stop | changes).items() if value is not None}
        with pytest.raises(ConfigError, match=r"train\.stop\.hacking: needs a \[held_out\] reward in the same units"):
            Experiment.from_dict(content, Path())


def test_a_missing_package_of_a_tracker_is_said_before_anything_happens(build, tmp_path, monkeypatch):
    monkeypatch.setattr("biotilt.training.trackers.base.find_spec", lambda package: None)
    for begin in (lambda e: biotilt.tune(e, tmp_path / "run"), lambda e: __import__("biotilt.check").check.check(e)):
        with pytest.raises(ConfigError, match="pip install trackio"):
            begin(build(trackers=["trackio"]))
    assert not (tmp_path / "run").exists()


def test_overwriting_forgets_what_trackers_kept(run, build, tmp_path):
    biotilt.tune(build(trackers=[]), tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "history.jsonl").exists()


def test_progress_is_shown_when_asked_for(build, tmp_path, capsys):
    biotilt.tune(build(), tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    biotilt.tune(build(), tmp_path / "loud", progress=True)
    assert "round 4/4  reward" in capsys.readouterr().err
