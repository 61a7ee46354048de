"""Bad data files, and runs that must not go on: one clear error, and nothing lost or half written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import biotilt
from biotilt import Experiment
from biotilt.errors import BiotiltError, ConfigError
from biotilt.tensors import load_tensors
from biotilt.training import EachRound

# --- data files ---

ROWS = [f"ACGTACGTA{'ACGT'[i % 4]},{i}" for i in range(30)]


def table(*, header="sequence,load", rows=ROWS) -> str:
    return "\n".join([header, *rows]) + "\n"


DATA = {
    "wrong letter": ("d.fasta", ">a\nACGT\n>b\nACXT\n", [], "d.fasta:4:3: 'X' is not a letter of dna"),
    "ambiguous letter": ("d.fasta", ">a\nACNT\n", [], "d.fasta:2:3: 'N' is an ambiguity code"),
    "empty": ("d.fasta", "", [], "d.fasta: the file is empty"),
    "header only": ("d.csv", "sequence,load\n", [], "d.csv: the file is empty"),
    "not FASTA": ("d.fasta", "ACGT\n", [], "d.fasta:1: a sequence before the first header"),
    "ragged": ("d.csv", table(rows=[*ROWS, "ACGTACGTAC"]), [], "d.csv:32: the row has 1 cells"),
    "missing column": ("d.csv", table(), ["--column", "sequnce"], "did you mean \"sequence\""),
    "lengths differ": ("d.csv", table(rows=[*ROWS, "ACG,1"]), [], "d.csv: sequences differ in length"),
    "too few rows": ("d.csv", table(rows=ROWS[:5]), [], "d.csv: 5 rows are too few"),
    "unknown suffix": ("d.xlsx", "PK", [], "d.xlsx: unknown kind of file; known suffixes: .fasta"),
    "unknown alphabet": ("d.csv", table(), ["--alphabet", "dan"], "'dan'; did you mean \"dna\""),
    "unknown network": ("d.csv", table(), ["--network", "cnm"], 'unknown network "cnm"; did you mean "cnn"'),
    "unknown process": ("d.csv", table(), ["--process", "maske"], 'did you mean "masked"'),
    "option of another process": ("d.csv", table(), ["--num-steps", "4"], 'unknown option "num_steps"'),
    "unknown schedule": (
        "d.csv", table(), ["--process", "masked", "--schedule", "cosin"], 'did you mean "cosine"',
    ),
    "negative rate": ("d.csv", table(), ["--lr", "-1"], "lr: must be > 0"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "options", "words"), DATA.values(), ids=list(DATA))
def test_pretrain_refuses(biotilt_cli, tmp_path, name, text, options, words):
    (tmp_path / name).write_text(text)
    command = ["pretrain", name, "--alphabet", "dna", "--out", "m.safetensors", "--steps", "2"]
    result = biotilt_cli(*command, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and words in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


TARGETS = {
    "missing target": (table(), ["--target", "laod"], "no column 'laod'", 'did you mean "load"'),
    "not a number": (table(rows=[*ROWS, "ACGTACGTAC,high"]), [], "d.csv:32", '"high" is no number'),
    "infinite": (table(rows=[*ROWS, "ACGTACGTAC,inf"]), [], "d.csv:32", '"inf" is no number'),
    "only NaN": (table(rows=[r.partition(",")[0] + "," for r in ROWS]), [], "d.csv: 0 of 30 rows", "number"),
    "too few": (table(rows=ROWS[:9]), [], "d.csv: 9 of 9 rows", "20 at least"),
    "constant": (
        table(rows=[r.partition(",")[0] + ",2" for r in ROWS]),
        [],
        "same value, 2",
        "nothing to learn",
    ),
    "shares": (table(), ["--test", "0.9", "--validation", "0.2"], "shares", "below 1"),
}


@pytest.mark.parametrize(("text", "options", "words", "more"), TARGETS.values(), ids=list(TARGETS))
def test_fit_oracle_refuses(biotilt_cli, tmp_path, text, options, words, more):
    (tmp_path / "d.csv").write_text(text)
    command = ["fit-oracle", "d.csv", "--alphabet", "dna", "--out", "o.safetensors", "--epochs", "1"]
    result = biotilt_cli(*command, *(options if "--target" in options else ["--target", "load", *options]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr and more in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_a_missing_file_of_data(biotilt_cli):
    result = biotilt_cli("pretrain", "none.csv", "--alphabet", "dna", "--out", "m.safetensors")
    assert result.exit_code == 2 and "none.csv does not exist" in result.stderr


# --- runs ---


class Stop(BaseException):
    """Stands for a power cut after a round."""


def unfinished(keys, folder: Path, rounds: int = 2) -> Path:
    """Leave a run that stopped after some rounds."""

    def report(row):
        if row["round"] == rounds:
            raise Stop

    with pytest.raises(Stop):
        biotilt.tune(Experiment.from_dict(keys, Path()), folder, callbacks=[EachRound(report)])
    return folder


def test_a_folder_that_is_no_run(biotilt_cli, tmp_path):
    (tmp_path / "empty").mkdir()
    for command in (["tune", "--resume"], ["evaluate"], ["sample"]):
        result = biotilt_cli(*command, "empty")
        assert result.exit_code == 2
        assert "error: empty is not the folder of a run" in result.stderr
    result = biotilt_cli("compare", "empty")
    assert result.exit_code == 2 and "empty/summary.json does not exist" in result.stderr
    assert list((tmp_path / "empty").iterdir()) == []


def test_an_unfinished_run_cannot_be_judged(keys, tmp_path, biotilt_cli):
    unfinished(keys, tmp_path / "run")
    for command in ("evaluate", "sample"):
        result = biotilt_cli(command, "run")
        assert result.exit_code == 2 and "biotilt tune --resume run" in result.stderr


def test_a_finished_run_is_not_tuned_again(experiment_file, biotilt_cli, tmp_path):
    path = experiment_file()
    biotilt.tune(path, tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()}
    for command in (["--resume", "run"], [path, "--folder", "run"]):
        result = biotilt_cli("tune", *command)
        assert result.exit_code == 2
        assert "run holds a finished run" in result.stderr and "--overwrite" in result.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()} == before


def test_another_experiment_does_not_go_on_with_a_run(keys, experiment_file, biotilt_cli, tmp_path):
    folder = unfinished(keys, tmp_path / "run")
    before = (folder / "checkpoint.safetensors").read_bytes()
    result = biotilt_cli("tune", experiment_file(alpha=0.1, seed=3), "--folder", "run")
    assert result.exit_code == 2
    assert "another experiment (different: alpha, seed)" in result.stderr and "--overwrite" in result.stderr
    assert (folder / "checkpoint.safetensors").read_bytes() == before


def test_a_changed_reward_does_not_go_on_with_a_run(keys, tmp_path, biotilt_cli):
    source = tmp_path / "mine.py"
    source.write_text("def f(designs):\n    return [float(d.count('C')) for d in designs]\n")
    unfinished(keys | {"reward": {"kind": "python", "function": f"{source}:f"}}, tmp_path / "run")
    source.write_text("def f(designs):\n    return [float(d.count('T')) for d in designs]\n")
    result = biotilt_cli("tune", "--resume", "run")
    assert result.exit_code == 2 and "whose reward has changed" in result.stderr


def test_an_only_checkpoint_that_is_truncated(keys, tmp_path, biotilt_cli):
    checkpoint = unfinished(keys, tmp_path / "run", rounds=1) / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    result = biotilt_cli("tune", "--resume", "run")
    assert result.exit_code == 2
    assert "run/checkpoint.safetensors is damaged" in result.stderr
    assert "--overwrite" not in result.stderr


def test_a_damaged_score_cache(keys, tmp_path, biotilt_cli):
    cache = unfinished(keys, tmp_path / "run") / "oracle.sqlite"
    cache.write_bytes(b"nothing that SQLite knows" * 400)
    result = biotilt_cli("tune", "--resume", "run")
    assert result.exit_code == 2 and "run/oracle.sqlite is no file of scores" in result.stderr


def test_a_file_where_the_folder_should_be(experiment_file, biotilt_cli, tmp_path):
    (tmp_path / "run").write_text("a file")
    result = biotilt_cli("tune", experiment_file(), "--folder", "run")
    assert result.exit_code == 2 and "run" in result.stderr and "Traceback" not in result.stderr
    result = biotilt_cli("init", "utr", "run/e.toml")
    assert result.exit_code == 2 and "cannot write run/e.toml" in result.stderr
    assert (tmp_path / "run").read_text() == "a file"


def test_options_that_contradict(biotilt_cli, experiment_file):
    path = experiment_file()
    for command, words in (
        (["tune"], "give an experiment file, or --resume"),
        (["tune", path, "--resume", "run"], "one of the two"),
        (["tune", "--resume", "run", "--alpha", "0.1"], "leave the other options out"),
        (["tune", path, "--max-calls", "4"], "train.batch: 8 is larger than train.max_calls, 4"),
    ):
        result = biotilt_cli(*command)
        assert result.exit_code == 2 and words in result.stderr


def test_no_designs_to_judge(experiment_file, biotilt_cli, tmp_path):
    biotilt.tune(experiment_file(), tmp_path / "run")
    result = biotilt_cli("evaluate", "run", "--samples", "0")
    assert result.exit_code == 2 and "at least 2 designs, got 0" in result.stderr
    assert not (tmp_path / "run/summary.json").exists()


def test_bad_patterns_and_outputs_of_sample(biotilt_cli, tiny, tmp_path):
    model = tiny / "generator.safetensors"
    for options, words in (
        (["--fixed", "AC"], "2 positions, but a design has 10"),
        (["--fixed", "AZ........"], "'Z'"),
        (["--out", "designs.pdf"], "designs.pdf: unknown kind of file"),
        (["--out", f"{model}/designs.csv"], "cannot write"),
    ):
        result = biotilt_cli("sample", model, "--count", "2", *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_overwritten_unasked(biotilt_cli, tmp_path):
    (tmp_path / "e.toml").write_text("mine")
    result = biotilt_cli("init", "utr", "e.toml")
    assert result.exit_code == 2 and "e.toml exists" in result.stderr and "--force" in result.stderr
    assert (tmp_path / "e.toml").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB: one checkpoint fits, the next to it does not once the rest is filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.name != "posix" or os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting a small file system needs root on Linux")
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_keeps_the_last_checkpoint(keys, small_disk, tmp_path):
    folder = small_disk / "run"

    def fill(row):
        if row["round"] == 2:
            with (small_disk / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(512))
                    filler.flush()

    keys = keys | {"train": {"max_calls": 64, "batch": 8}}
    quiet = Experiment.from_dict(keys, Path())

    def report(row):
        try:
            fill(row)
        except OSError as error:
            assert error.errno == 28, "the disk is full now"

    with pytest.raises(BiotiltError) as caught:
        biotilt.tune(quiet, folder, callbacks=[EachRound(report)])
    assert "cannot write" in str(caught.value) and str(folder) in str(caught.value)
    _, about = load_tensors(folder / "checkpoint.safetensors")
    assert about["round"] == 1
    assert not list(folder.glob(".*.tmp")), "no half-written file stays"
    (small_disk / "filler").unlink()
    whole = biotilt.tune(Experiment.from_dict(keys, Path()), tmp_path / "whole")
    resumed = biotilt.resume(folder)
    assert resumed.sample(10) == whole.sample(10)


def test_debug_shows_the_traceback_and_json_the_kind(biotilt_cli):
    plain = biotilt_cli("check", "none.toml")
    assert plain.exit_code == 2 and plain.stderr.count("\n") == 1
    as_json = biotilt_cli("check", "none.toml", "--json")
    assert as_json.exit_code == 2
    answer = json.loads(as_json.stdout)
    assert answer["kind"] == "ConfigError" and answer["error"].startswith("none.toml does not exist")
    assert isinstance(biotilt_cli("check", "none.toml", "--debug").exception, ConfigError)
