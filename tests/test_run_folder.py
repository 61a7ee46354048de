"""The folder of a run: one writer, nothing deleted too early, and every damaged file made again from the others."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

import biotilt
from biotilt import Experiment
from biotilt.errors import BiotiltError, CheckpointError, ConfigError, FolderInUse
from biotilt.files import read_json
from biotilt.folder import LOCK
from biotilt.lock import only_writer
from biotilt.tensors import load_tensors
from biotilt.training import EachRound

ROUNDS = 4


class Stop(BaseException):
    pass


def stopped(keys, folder: Path, rounds: int) -> Path:
    """Leave a run that stopped after some of its four rounds."""

    def report(row):
        if row["round"] == rounds:
            raise Stop

    with pytest.raises(Stop):
        biotilt.tune(Experiment.from_dict(keys, Path()), folder, callbacks=[EachRound(report)])
    return folder


@pytest.fixture
def whole(keys, tmp_path) -> Path:
    """The same run, undisturbed."""
    biotilt.tune(Experiment.from_dict(keys, Path()), tmp_path / "whole")
    return tmp_path / "whole"


def ledger(folder: Path) -> list[tuple]:
    database = sqlite3.connect(folder / "oracle.sqlite")
    try:
        return database.execute(
            "SELECT position, design, score, cached FROM ledger WHERE run = 'tuning' ORDER BY 1"
        ).fetchall()
    finally:
        database.close()


def assert_same_run(folder: Path, whole: Path) -> None:
    assert (folder / "tuned.safetensors").read_bytes() == (whole / "tuned.safetensors").read_bytes()
    histories = [[row | {"seconds": 0} for row in read_json(f / "history.json")] for f in (folder, whole)]
    assert histories[0] == histories[1] and len(histories[0]) == ROUNDS
    assert ledger(folder) == ledger(whole)


# --- one writer, see also test_lock.py ---


def test_every_command_that_writes_into_a_run_is_refused_while_another_does(keys, tmp_path, biotilt_cli):
    folder = stopped(keys, tmp_path / "run", 2)
    finished = tmp_path / "done"
    biotilt.tune(Experiment.from_dict(keys, Path()), finished)
    before = {p: p.read_bytes() for f in (folder, finished) for p in f.iterdir() if p.is_file() and p.name != LOCK}
    with only_writer(folder, "tuning"), only_writer(finished, "judging"):
        for command in (["tune", "--resume", "run"], ["evaluate", "done"]):
            result = biotilt_cli(*command)
            assert result.exit_code == 2 and "is in use: process" in result.stderr
        with pytest.raises(FolderInUse):
            biotilt.tune(Experiment.from_dict(keys, Path()), folder, overwrite=True)
        assert biotilt_cli("sample", "done", "--count", "2").exit_code == 0, "reading is free"
    assert {p: p.read_bytes() for p in before} == before


# --- damaged files ---


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["tuned.safetensors", "history.json"])
@pytest.mark.parametrize("how", [damage, Path.unlink])
def test_a_damaged_result_is_made_again_from_the_checkpoint(keys, whole, tmp_path, biotilt_cli, name, how):
    folder = tmp_path / "run"
    biotilt.tune(Experiment.from_dict(keys, Path()), folder)
    how(folder / name)
    result = biotilt_cli("evaluate", "run")
    assert result.exit_code == 2
    assert "biotilt tune --resume run" in result.stderr and "--overwrite" not in result.stderr
    assert biotilt_cli("tune", "--resume", "run", "--no-evaluate").exit_code == 0
    assert_same_run(folder, whole)


def test_a_damaged_checkpoint_of_a_run(keys, whole, tmp_path):
    folder = stopped(keys, tmp_path / "run", 3)
    damage(folder / "checkpoint.safetensors")
    with pytest.warns(UserWarning, match=r"checkpoint\.safetensors is damaged.*went on from .*, round 2"):
        biotilt.resume(folder)
    assert_same_run(folder, whole)


def test_no_whole_checkpoint(keys, whole, tmp_path):
    """Deleted as advised, the run starts over, and no score is paid for twice."""
    folder = stopped(keys, tmp_path / "run", 3)
    checkpoints = [folder / "checkpoint.safetensors", folder / "checkpoint.before.safetensors"]
    for path in checkpoints:
        damage(path)
    with pytest.raises(CheckpointError, match="no checkpoint is whole: delete it, and the run starts over"):
        biotilt.resume(folder)
    for path in checkpoints:
        path.unlink()
    database = sqlite3.connect(folder / "oracle.sqlite")
    paid = database.execute("SELECT COUNT(*) FROM scores").fetchone()[0]
    database.close()
    assert paid > 16
    biotilt.resume(folder)
    assert_same_run(folder, whole)


def forget(folder: Path, rows: int) -> None:
    """Lose the last rows of the ledger and their scores, as a power cut may."""
    database = sqlite3.connect(folder / "oracle.sqlite")
    with database:
        last = "SELECT design FROM ledger WHERE run = 'tuning' ORDER BY position DESC LIMIT ?"
        database.execute(f"DELETE FROM scores WHERE design IN ({last})", (rows,))
        database.execute(
            "DELETE FROM ledger WHERE run = 'tuning' AND position > (SELECT MAX(position) FROM ledger "
            "WHERE run = 'tuning') - ?", (rows,),
        )  # fmt: skip
    database.close()


def test_a_ledger_that_is_a_little_behind(keys, whole, tmp_path):
    folder = stopped(keys, tmp_path / "run", 3)
    forget(folder, 5)
    with pytest.warns(UserWarning, match=r"holds 19; went on from .*before.*, round 2"):
        biotilt.resume(folder)
    assert_same_run(folder, whole)


def test_a_ledger_that_is_lost(keys, tmp_path):
    folder = stopped(keys, tmp_path / "run", 3)
    (folder / "oracle.sqlite").unlink()
    with pytest.warns(UserWarning, match=r"holds 0; went on from .*checkpoint\.safetensors, round 3"):
        run = biotilt.resume(folder)
    assert [row["calls"] for row in run.rows] == [8, 16, 24, 32], "the calls stay counted"
    positions = [row[0] for row in ledger(folder)]
    assert positions == list(range(24, 32)), "only the last round was asked for again"
    accounts = read_json(folder / "oracle.json")
    assert (accounts["calls"], accounts["retries"]) == (32, 0)
    (folder / "tuned.safetensors").unlink()
    again = biotilt.resume(folder)  # the loss is in the checkpoint now: no warning, and the same count
    assert again.rows[-1]["calls"] == 32


def test_an_unreadable_record_says_how_it_is_written_again(keys, whole, experiment_file, tmp_path, biotilt_cli):
    folder, path = stopped(keys, tmp_path / "run", 3), experiment_file()
    damage(folder / "experiment.json")
    result = biotilt_cli("tune", "--resume", "run")
    assert result.exit_code == 2
    assert "`biotilt tune FILE --folder run`" in result.stderr and "--overwrite" not in result.stderr
    other = biotilt_cli("tune", path, "--folder", "run", "--alpha", "0.9")
    assert other.exit_code == 2 and "of another experiment, by its checkpoint" in other.stderr
    done = biotilt_cli("tune", path, "--folder", "run", "--no-evaluate")
    assert done.exit_code == 0, done.stderr
    assert read_json(folder / "experiment.json")["config"] == read_json(whole / "experiment.json")["config"]
    assert_same_run(folder, whole)


def test_the_record_of_a_finished_run_is_written_again(keys, whole, tmp_path):
    folder = tmp_path / "run"
    biotilt.tune(Experiment.from_dict(keys, Path()), folder)
    damage(folder / "experiment.json")
    biotilt.tune(Experiment.from_dict(keys, Path()), folder)
    assert_same_run(folder, whole)
    assert biotilt.Run.load(folder).experiment.config.alpha == keys["alpha"]


def test_a_record_of_an_older_version_lacks_keys_that_have_defaults(keys, whole, tmp_path):
    folder = stopped(keys, tmp_path / "run", 2)
    record = read_json(folder / "experiment.json")
    del record["config"]["oracle"]["max_unscored"], record["config"]["output"]
    record["config"]["output"] = {"samples": 12}
    (folder / "experiment.json").write_text(json.dumps(record))
    biotilt.tune(Experiment.from_dict(keys, Path()), folder)
    assert_same_run(folder, whole)


# --- before anything is deleted or paid for ---


def test_nothing_is_deleted_before_everything_else_is_checked(keys, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    biotilt.tune(Experiment.from_dict(keys, Path()), folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    foreign = tmp_path / "bookmarks.sqlite"
    database = sqlite3.connect(foreign)
    database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()

    def refused(message: str, **changes) -> None:
        with pytest.raises(BiotiltError, match=message):
            biotilt.tune(Experiment.from_dict(keys | changes, Path()), folder, overwrite=True)
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before

    refused("overlap", objective={"name": "ppo"}, train={"max_calls": 32, "batch": 8, "overlap": True})
    refused("another program's SQLite file", oracle={"cache": str(foreign)})
    refused("device", device="cuda:7")
    with monkeypatch.context() as patch:
        patch.setattr("biotilt.atomic.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
        refused("No space left on device")


ASKED = "def asked(designs):\n    open({log!r}, 'a').write('x')\n    return [1.0 for d in designs]\n"


def test_no_call_is_made_before_the_outputs_are_checked(tmp_path, experiment_file, tiny, biotilt_cli):
    log = tmp_path / "asked"
    (tmp_path / "mine.py").write_text(ASKED.format(log=str(log)))
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / "history.json").mkdir(parents=True)
    path = experiment_file(reward={"kind": "python", "function": "mine.py:asked"}, held_out=None)
    for command, words in (
        (["steer", path, "--out", "designs.pdf"], "designs.pdf: unknown kind of file"),
        (["steer", path, "--out", "file/designs.csv"], "cannot write file/designs.csv: Not a directory"),
        (["steer", path, "--out", "run/history.json/"], "unknown kind of file"),
        (["tune", path, "--folder", "file"], "Not a directory"),
        (["tune", path, "--folder", "run"], "history.json: Is a directory"),
        (["sample", tiny / "generator.safetensors", "--out", "file/d.csv"], "cannot write file/d.csv: Not a directory"),
    ):
        result = biotilt_cli(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
    assert not log.exists() and [p.name for p in (tmp_path / "run").iterdir()] == ["history.json"]


@pytest.mark.parametrize("name", ["designs.csv", "best_of_n.csv", "report.html", "oracle.sqlite-journal"])
def test_nothing_is_deleted_where_not_everything_can_be(keys, tmp_path, name):
    folder = stopped(keys, tmp_path / "run", 2)
    (folder / name).mkdir()
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with pytest.raises(BiotiltError, match=f"{name}: Is a directory"):
        biotilt.tune(Experiment.from_dict(keys, Path()), folder, overwrite=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_judging_asks_nothing_before_its_outputs_are_checked(tmp_path, experiment_file, biotilt_cli):
    log = tmp_path / "asked"
    (tmp_path / "mine.py").write_text(ASKED.format(log=str(log)))
    biotilt.tune(experiment_file(reward={"kind": "python", "function": "mine.py:asked"}), tmp_path / "run")
    log.unlink()
    (tmp_path / "run" / "report.html").mkdir()
    result = biotilt_cli("evaluate", "run")
    assert result.exit_code == 2 and "report.html: Is a directory" in result.stderr
    assert not log.exists()


# --- what is made is saved ---


def test_the_model_is_saved_first_and_no_file_vetoes_another(keys, whole, tmp_path, monkeypatch):
    folder, written = tmp_path / "run", []
    real = biotilt.run.write_json

    def fails_for_history(path, value):
        written.append(path.name)
        if path.name == "history.json":
            assert (folder / "tuned.safetensors").is_file(), "the model is there already"
            raise BiotiltError("cannot write history.json")
        real(path, value)

    for module in ("run", "folder_state"):
        monkeypatch.setattr(f"biotilt.{module}.write_json", fails_for_history)
    with pytest.raises(BiotiltError, match=r"cannot write history\.json"):
        biotilt.tune(Experiment.from_dict(keys, Path()), folder)
    assert written == ["history.json", "oracle.json"] and (folder / "oracle.json").is_file()
    assert biotilt.load_model(folder).sample(2)
    monkeypatch.undo()
    biotilt.resume(folder)
    assert_same_run(folder, whole)


def test_a_reward_that_changes_the_working_folder_moves_nothing(experiment_file, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.py").write_text(
        f"import os\n\ndef f(designs):\n    os.chdir({str(tmp_path / 'elsewhere')!r})\n"
        "    return [float(d.count('G')) for d in designs]\n"
    )
    path = experiment_file(reward={"kind": "python", "function": "mine.py:f"}, oracle={"cache": "scores.sqlite"})
    monkeypatch.chdir(tmp_path)
    run = biotilt.tune(path.name, "run")
    assert run.folder == tmp_path / "run"
    run.evaluate()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "scores.sqlite").is_file()


def test_two_checkpoints_are_kept(keys, tmp_path):
    folder = stopped(keys, tmp_path / "run", 3)
    rounds = {path.name: load_tensors(path)[1]["round"] for path in folder.glob("checkpoint*")}
    assert rounds == {"checkpoint.safetensors": 3, "checkpoint.before.safetensors": 2}


def test_overwrite_deletes_both_checkpoints(keys, tmp_path):
    folder = stopped(keys, tmp_path / "run", 3)
    with pytest.raises(ConfigError, match="another experiment"):
        biotilt.tune(Experiment.from_dict(keys | {"seed": 9}, Path()), folder)
    run = biotilt.tune(Experiment.from_dict(keys | {"seed": 9}, Path()), folder, overwrite=True)
    assert len(run.rows) == ROUNDS
