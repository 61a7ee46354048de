"""A run folder from a stranger: nothing in it is run before somebody has agreed, and nobody can pretend to be me."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

import biotilt
from biotilt import Experiment
from biotilt.config import Config
from biotilt.errors import UntrustedRun
from biotilt.files import read_json
from biotilt.trust import code_of

MARKED = """
import pathlib

pathlib.Path({trace!r}).write_text("was run")

def f(designs):
    return [1.0] * len(designs)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A user of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def trace(tmp_path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def folder(keys, tmp_path, trace, without_page) -> Path:
    """A finished and judged run whose reward leaves a trace when its file is imported; the trace is gone."""
    (tmp_path / "mine.py").write_text(MARKED.format(trace=str(trace)))
    reward = {"kind": "python", "function": "mine.py:f"}
    experiment = Experiment.from_dict(keys | {"reward": reward, "train": {"max_calls": 8, "batch": 8}}, tmp_path)
    biotilt.tune(experiment, tmp_path / "run").evaluate()
    trace.unlink()
    return tmp_path / "run"


def as_a_stranger(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))


def test_my_own_folder_needs_no_word(folder, trace, biotilt_cli):
    result = biotilt_cli("evaluate", "run")
    assert result.exit_code == 0, result.stderr
    assert "run runs the Python function mine.py:f" in result.stderr
    assert trace.exists()


def test_a_strangers_folder_runs_nothing_until_it_is_trusted(folder, trace, tmp_path, monkeypatch, biotilt_cli):
    as_a_stranger(monkeypatch, tmp_path)
    for command in (["evaluate", "run"], ["tune", "--resume", "run"]):
        result = biotilt_cli(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "run bears no sign that you made it on this machine" in result.stderr and "say --trust" in result.stderr
        assert f"it would run the Python function mine.py:f (from {tmp_path})" in result.stderr
    for load in (biotilt.Run.load, biotilt.resume):
        with pytest.raises(UntrustedRun, match="trust=True"):
            load(folder)
    assert not trace.exists()
    assert biotilt_cli("evaluate", "run", "--trust").exit_code == 0
    assert trace.exists()
    assert biotilt.Run.load(folder, trust=True).sample(2)


def test_loading_a_model_and_comparing_run_nothing(folder, trace, tmp_path, monkeypatch, biotilt_cli):
    as_a_stranger(monkeypatch, tmp_path)
    assert biotilt_cli("sample", "run", "--count", "2").exit_code == 0
    assert biotilt_cli("compare", "run").exit_code == 0
    assert len(biotilt.load_model(folder).sample(2)) == 2
    assert not trace.exists()


def test_a_reward_of_ones_own_replaces_the_strangers(folder, trace, tmp_path, monkeypatch):
    as_a_stranger(monkeypatch, tmp_path)
    biotilt.Run.load(folder, reward=lambda designs: [0.0] * len(designs))
    assert not trace.exists()


@pytest.mark.parametrize("key", ["function", "base", "mark"])
def test_a_mark_is_good_for_its_own_content_only(folder, trace, key):
    record = read_json(folder / "experiment.json")
    changes = {"function": "other.py:f", "base": "/somewhere/else", "mark": "0" * 64}
    (record["config"]["reward"] if key == "function" else record)[key] = changes[key]
    (folder / "experiment.json").write_text(json.dumps(record))
    with pytest.raises(UntrustedRun):
        biotilt.Run.load(folder)
    assert not trace.exists()


def test_the_folder_of_an_older_version_has_no_mark(folder, keys, tmp_path):
    harmless = tmp_path / "harmless"
    biotilt.tune(Experiment.from_dict(keys | {"reward": {"kind": "gc", "options": {}}}, tmp_path), harmless)
    for path in (folder, harmless):
        record = read_json(path / "experiment.json")
        del record["mark"]
        (path / "experiment.json").write_text(json.dumps(record))
    with pytest.raises(UntrustedRun):
        biotilt.Run.load(folder)
    assert biotilt.Run.load(harmless).sample(1), "it runs nothing of its own"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_the_secret_is_private_or_not_believed(folder, home):
    key = home / "biotilt" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 32
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    key.chmod(0o644)  # somebody may have read it
    with pytest.raises(UntrustedRun):
        biotilt.Run.load(folder)


def test_a_home_that_cannot_be_written_keeps_no_run_from_starting(keys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    run = biotilt.tune(Experiment.from_dict(keys, Path()), tmp_path / "run")
    with pytest.raises(UntrustedRun):
        biotilt.Run.load(run.folder)
    assert biotilt.Run.load(run.folder, trust=True).rows == run.rows


def test_all_that_can_run_is_named():
    def config(**sections) -> Config:
        return Config.model_validate({"alpha": 1.0, "model": {"path": "m"}, "reward": {"kind": "gc"}} | sections)

    program = {"command": ["./score", "{designs}"], "environment": {"A": "1"}}
    python = {"kind": "python", "function": "a.py:f"}
    assert code_of(config()) == []
    assert code_of(config(reward={"kind": "learned", "path": "o"}, held_out={"kind": "none"})) == []
    assert code_of(config(reward=python)) == ["the Python function a.py:f"]
    assert code_of(config(reward=python), replaced=["reward"]) == []
    assert code_of(config(held_out={"kind": "sum", "parts": [{"kind": "gc"}, python]})) == [
        "the Python function a.py:f"
    ]
    assert code_of(config(constraints=[python | {"at_least": 1.0}])) == ["the Python function a.py:f"]
    assert code_of(config(reward={"kind": "command", "options": program})) == [
        'the program ["./score", "{designs}"] with {"environment": {"A": "1"}}'
    ]
    folding = {"kind": "plddt", "options": {"model": "program", "program": ["fold", "x"]}}
    assert code_of(config(reward=folding)) == ['the program ["fold", "x"]']
    assert code_of(config(reward={"kind": "theirs"})) == ['the reward "theirs" of a plug-in']
    assert code_of(config(oracle={"backend": "ray", "address": "ray://x:1"})) == [
        "what a Ray cluster answers (ray://x:1)"
    ]
    assert "\n" not in code_of(config(reward={"kind": "python", "function": "a.py:f\nall is well"}))[0]
