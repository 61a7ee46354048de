"""Bad experiments, models and rewards: one clear error that names what was wrong, and nothing written."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

import biotilt
from biotilt import Experiment
from biotilt.errors import CheckpointError, ConfigError, RewardError

GOOD = "alpha = 0.5\n[model]\npath = 'm'\n[reward]\nkind = 'gc'\n"

TEXTS = {
    "unknown key": ("alhpa = 1\n" + GOOD, ":1: alhpa: unknown key", 'did you mean "alpha"'),
    "unknown section": (GOOD + "[trian]\nlr = 1\n", ":6: trian: unknown key", 'did you mean "train"'),
    "unknown key of a section": (GOOD + "[train]\nbacth = 1\n", ":7: train.bacth", 'did you mean "batch"'),
    "malformed": ("alpha = \n", "not valid TOML", "line 1"),
    "malformed below": (GOOD + "[train\n", "not valid TOML", "line 6"),
    "empty": ("\n \n", "is empty", "biotilt init"),
    "no alpha": (GOOD.partition("\n")[2], "alpha", "missing"),
    "no reward": ("alpha = 1\n[model]\npath = 'm'\n", "reward", "missing"),
    "unknown task": ("task = 'utrr'\n", ":1: task: unknown task", 'did you mean "utr"'),
    "task that is a number": ("task = 5\n", "unknown task", "utr"),
}


@pytest.mark.parametrize(("text", "words", "more"), TEXTS.values(), ids=list(TEXTS))
def test_experiment_files_that_cannot_be_read(tmp_path, text, words, more):
    path = tmp_path / "e.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Experiment.load(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value) and more in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


NAN, INF = float("nan"), float("inf")
CHANGES = {
    "alpha is text": ({"alpha": "warm"}, "alpha:", "must be a number, got 'warm'"),
    "alpha 0": ({"alpha": 0}, "alpha:", "must be > 0, got 0"),
    "alpha negative": ({"alpha": -0.5}, "alpha:", "-0.5"),
    "alpha NaN": ({"alpha": NAN}, "alpha:", "nan"),
    "alpha infinite": ({"alpha": INF}, "alpha:", "finite"),
    "seed negative": ({"seed": -1}, "seed:", "-1"),
    "no samples": ({"output": {"samples": 0}}, "output.samples", "2"),
    "unknown objective": ({"objective": {"name": "vdid"}}, "objective.name", 'did you mean "vidd"'),
    "objective is a list": ({"objective": {"name": ["vidd"]}}, "objective.name", "vidd"),
    "option of another objective": ({"objective": {"name": "ppo", "beta": 1.0}}, "objective.beta", "clip"),
    "unknown value": ({"objective": {"value": "retrun"}}, "objective.value", 'did you mean "return"'),
    "unknown value of a sampler": ({"sampler": {"value": "monte_calro"}}, "sampler.value", 'mean "monte_carlo"'),
    "no value, where one is needed": ({"sampler": {"name": "svdd", "value": "none"}}, "sampler.value", '"none"'),
    "a value that makes no rows": ({"objective": {"value": "state"}}, "vidd works with values that turn", "surrogate"),
    "key of no value": ({"value": {"draw": 3}}, "value.draw: unknown key", 'mean "draws"'),
    "panel of no task": ({"panel": "enhancr"}, 'panel: unknown task "enhancr"', '"enhancer"'),
    "option NaN": ({"objective": {"name": "ppo", "clip": NAN}}, "objective.clip", "finite"),
    "option out of range": ({"objective": {"beta": 1.5}}, "objective.beta: must be ≤ 1", "1.5"),
    "no updates": ({"objective": {"updates": 0}}, "objective.updates", "≥ 1"),
    "letters need a learned value": ({"objective": {"value": "posterior_mean"}}, "closed_form", "sampled"),
    "value rate negative": ({"value": {"lr": -1.0}}, "value.lr", "-1.0"),
    "no draws": (
        {"objective": {"value": "monte_carlo", "teacher": "sampled"}, "value": {"draws": 0}},
        "value.draws",
        "≥ 1",
    ),
    "option of no value": ({"value": {"target_rat": 0.1}}, "value.target_rat", "target_rate"),
    "batch above the budget": ({"train": {"batch": 64, "max_calls": 32}}, "train.batch: 64", "train.max_calls, 32"),
    "batch is a fraction": ({"train": {"batch": 1.5}}, "train.batch", "must be a whole number"),
    "rate infinite": ({"train": {"lr": INF}}, "train.lr", "finite"),
    "ema 1": ({"train": {"ema": 1.0}}, "train.ema", "must be < 1"),
    "unknown schedule": ({"train": {"schedule": "linaer"}}, "schedule", "linear"),
    "unknown reward": ({"reward": {"kind": "gcc"}}, "reward.kind", 'did you mean "gc"'),
    "option of a reward": (
        {"reward": {"kind": "gc", "options": {"lo": 1}}},
        ":6: reward.options.lo: unknown key",
        'did you mean "low"',
    ),
    "sum of nothing": ({"reward": {"kind": "sum"}}, "reward.parts", "sum"),
    "unknown key of a part": (
        {"reward": {"kind": "sum", "parts": [{"kind": "gc", "wieght": 1}]}},
        "reward.parts.0.wieght",
        'did you mean "weight"',
    ),
    "weight NaN": ({"reward": {"kind": "sum", "parts": [{"kind": "gc", "weight": NAN}]}}, "weight", "finite"),
    "python without function": ({"reward": {"kind": "python"}}, "reward.function", "missing"),
    "learned without path": ({"reward": {"kind": "learned"}}, "reward.path", "fit-oracle"),
    "options of a function": (
        {"reward": {"kind": "python", "function": "r.py:f", "options": {"a": 1}}},
        ":7: reward.options: this key means nothing",
        'kind "python"',
    ),
    "path of a built-in reward": ({"reward": {"kind": "gc", "path": "x"}}, "reward.path: this key", 'kind "gc"'),
    "function of a built-in judge": (
        {"held_out": {"kind": "gc", "function": "r.py:f"}},
        "held_out.function: this key",
        'kind "gc"',
    ),
    "per_design of a sum": (
        {"reward": {"kind": "sum", "per_design": True, "parts": [{"kind": "gc"}]}},
        "reward.per_design: this key",
        'kind "sum"',
    ),
    "parts of a learned reward": (
        {"reward": {"kind": "sum", "parts": [{"kind": "learned", "path": "x", "parts": [{"kind": "gc"}]}]}},
        "reward.parts.0.parts: this key",
        'kind "learned"',
    ),
    "column of one score": ({"reward": {"kind": "gc", "column": "a"}}, "reward.column", "one score"),
    "weight of no part": (
        {"reward": {"kind": "gc", "weight": 2.0}},
        "reward.weight: only the parts",
        "leave this key out",
    ),
    "weight of the part of a threshold": (
        {"reward": {"kind": "threshold", "options": {"at_least": 0.1}, "parts": [{"kind": "gc", "weight": 2.0}]}},
        "reward.parts: a weight means nothing",
        'kind "threshold"',
    ),
    "multipliers of nothing": ({"lagrangian": {"draws": 8}}, "lagrangian: there are no [[", "constraints"),
    "limit without workers": (
        {"oracle": {"time_limit": 5.0}},
        'oracle.time_limit means nothing to the backend "inline"',
        '"pool" and "ray"',
    ),
    "option of no backend": (
        {"oracle": {"backend": "pool", "options": {"worker": 5}}},
        'oracle.worker means nothing to the backend "pool"',
        'did you mean "workers"',
    ),
    "fixed too short": ({"design": {"fixed": "GG.."}}, "4 positions", "10"),
    "fixed wrong letter": ({"design": {"fixed": "GG...Q...."}}, "'Q'", "A, C, G, T"),
    "everything fixed": ({"design": {"fixed": "ACGTACGTAC"}}, "every position", "held"),
    "fixed outside": ({"design": {"fixed": {"9-12": "ACGT"}}}, '"9-12"', "1 to 10"),
    "fixed is a number": ({"design": {"fixed": 3}}, "design.fixed", "3"),
}


@pytest.mark.parametrize(("changes", "words", "more"), CHANGES.values(), ids=list(CHANGES))
def test_experiments_that_cannot_work(experiment_file, biotilt_cli, tmp_path, changes, words, more):
    path = experiment_file(**changes)
    with pytest.raises(ConfigError) as caught:
        Experiment.load(path)
    assert words in str(caught.value) and more in str(caught.value)
    result = biotilt_cli("tune", path, "--folder", "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {caught.value}\n"
    assert list(tmp_path.iterdir()) == [path], "a refused experiment leaves no folder"


def test_options_of_a_file_are_refused(keys):
    model = keys["model"] | {"options": {"per_step": 1}}
    with pytest.raises(ConfigError, match=r"model: .*options are for a factory or a source.*process = "):
        Experiment.from_dict(keys | {"model": model}, Path())


def test_a_file_of_sequences_means_nothing_to_points(tmp_path):
    points = {
        "alpha": 1.0, "model": {"source": "reference", "options": {"size": 2}},
        "reward": {"kind": "log_density", "function": "f.py:f"}, "reference": {"sequences": "real.fasta"},
        "objective": {"name": "trajectory_balance"},
    }  # fmt: skip
    (tmp_path / "f.py").write_text("def f(x):\n    return -(x**2).sum(-1)\n")
    with pytest.raises(ConfigError, match=r"reference\.sequences: designs of this model are not made of letters"):
        Experiment.from_dict(points, tmp_path)


@pytest.mark.parametrize(
    ("process", "words", "more"),
    [
        ({"name": "maskd"}, 'unknown process "maskd"', 'did you mean "masked"'),
        ({"per_stp": 2}, 'model.process: process "any_order": unknown option "per_stp"', 'did you mean "per_step"'),
        ({"per_step": 0}, "per_step must be ≥ 1", "0"),
        ({"per_step": "two"}, '"any_order": per_step must be a whole number', "'two'"),
        ({"name": 3}, 'unknown process "3"', "masked"),
    ],
)
def test_processes_that_cannot_work(keys, process, words, more):
    model = keys["model"] | {"process": process}
    with pytest.raises(ConfigError) as caught:
        Experiment.from_dict(keys | {"model": model}, Path())
    assert words in str(caught.value) and more in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("train.lr", "write key=value"),
        ("=3", "write key=value"),
        ("alpha.x=3", '"alpha" is a value, not a table'),
        ("train.bacth=3", 'did you mean "batch"'),
        ("alpha=nan", "alpha"),
    ],
)
def test_bad_overrides(biotilt_cli, experiment_file, tmp_path, assignment, words):
    result = biotilt_cli("tune", experiment_file(), "--folder", "run", "--set", assignment)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_device(biotilt_cli, experiment_file, tmp_path):
    for device in ("cuda:99", "gpu"):
        result = biotilt_cli("tune", experiment_file(device=device), "--folder", "run")
        assert result.exit_code == 2
        assert f'device: cannot use "{device}"' in result.stderr and '"cpu" always works' in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_device_to_learn_on(biotilt_cli, tmp_path):
    (tmp_path / "data.csv").write_text("sequence,load\nACGT,1\n")
    fit = ("fit-oracle", tmp_path / "data.csv", "--target", "load")
    for command in (fit, ("pretrain", tmp_path / "data.csv")):
        result = biotilt_cli(*command, "--alphabet", "dna", "--out", tmp_path / "x.safetensors", "--device", "cuda:99")
        assert result.exit_code == 2 and 'device: cannot use "cuda:99"' in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


# --- files of models ---


def damaged(kind: str, tiny: Path, folder: Path) -> Path:
    """Write a file that is no good generator."""
    path = folder / "model.safetensors"
    whole = (tiny / "generator.safetensors").read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "torch pickle":
        torch.save({"w": torch.zeros(2)}, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps({"w": 1}))
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "oracle":
        path.write_bytes((tiny / "oracle.safetensors").read_bytes())
    elif kind == "folder":
        path.mkdir()
    return path


DAMAGES = {
    "truncated": "damaged or not a safetensors file",
    "torch pickle": "is a pickle",
    "plain pickle": "is a pickle",
    "text": "damaged or not a safetensors file",
    "empty": "damaged or not a safetensors file",
    "oracle": 'holds a "learned_reward", not a generator',
    "folder": "it holds no .safetensors file",
    "missing": "does not exist",
}


@pytest.mark.parametrize(("kind", "words"), DAMAGES.items(), ids=list(DAMAGES))
def test_damaged_generators(keys, tiny, tmp_path, kind, words):
    path = damaged(kind, tiny, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        Experiment.from_dict(keys | {"model": {"path": str(path)}}, Path())
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_a_generator_where_an_oracle_is_expected(keys, tiny):
    path = tiny / "generator.safetensors"
    with pytest.raises(CheckpointError, match='holds a "generator", not a learned reward') as caught:
        Experiment.from_dict(keys | {"reward": {"kind": "learned", "path": str(path)}}, Path())
    assert str(path) in str(caught.value)


# --- rewards ---

REWARD_FILES = {
    "no file": (None, "no file", "mine.py"),
    "no function": ("def scor(designs):\n    return designs\n", 'no function "score"', 'did you mean "scor"'),
    "syntax error": ("x = 1\ndef score(designs)\n    return 1\n", "mine.py, line 2", "SyntaxError"),
    "raises on import": ("import os\nos.nothing\n", "mine.py, line 2", "AttributeError"),
    "not a function": ("score = 3\n", "cannot be called", "int"),
    "a class": ("class score:\n    pass\n", "it is a class", "score"),
}


@pytest.mark.parametrize(("source", "words", "more"), REWARD_FILES.values(), ids=list(REWARD_FILES))
def test_reward_files_that_cannot_be_loaded(experiment_file, tmp_path, source, words, more):
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    path = experiment_file(reward={"kind": "python", "function": "mine.py:score"})
    with pytest.raises(RewardError) as caught:
        Experiment.load(path)
    assert words in str(caught.value) and more in str(caught.value)
    assert 'reward "mine.py:score"' in str(caught.value)


def raising(designs):
    raise ValueError("the docking program is not installed")


BAD_REWARDS = {
    "only NaN": (lambda designs: [NAN] * len(designs), "could score none of", "returned NaN"),
    "wrong length": (
        lambda designs: [1.0] * (len(designs) + 1),
        "returned 9 scores for 8 designs",
        "expected 8",
    ),
    "one number": (lambda designs: 1.0, "returned float for 8 designs", "per_design=True"),
    "always raises": (raising, "could score none of", "ValueError: the docking program is not installed"),
    "text": (lambda designs: ["good"] * len(designs), "could score none of", "'good', not a number"),
    "infinite": (lambda designs: [INF] * len(designs), "could score none of", "+inf"),
}


@pytest.mark.parametrize(("function", "words", "more"), BAD_REWARDS.values(), ids=list(BAD_REWARDS))
def test_rewards_that_can_score_nothing_stop_the_run(keys, tmp_path, function, words, more):
    train = {"max_calls": 600, "batch": 8}
    experiment = Experiment.from_dict(keys | {"train": train}, Path(), reward=function)
    with pytest.raises(RewardError) as caught:
        biotilt.tune(experiment, tmp_path / "run")
    assert words in str(caught.value) and more in str(caught.value)
    assert not (tmp_path / "run/tuned.safetensors").exists()


@pytest.mark.usefixtures("without_page")
def test_a_design_that_cannot_be_scored_is_reported_and_the_run_goes_on(keys, tmp_path):
    from biotilt.oracle import Ledger, Store

    def fussy(designs):
        if any(d.startswith("A") for d in designs):
            raise ValueError("no designs with A, please")
        return [float(d.count("G")) for d in designs]

    run = biotilt.tune(Experiment.from_dict(keys, Path(), reward=fussy), tmp_path / "run")
    assert run.rows[-1]["calls"] == 32
    assert all(value == value for row in run.rows for value in row.values()), "no NaN in the figures"
    failed = [r for r in Ledger(Store(tmp_path / "run/oracle.sqlite"), "tuning", "fussy").rows() if r.reason]
    assert failed and all(r.design.startswith("A") and "no designs with A" in r.reason for r in failed)
    summary = run.evaluate()
    assert summary["rows"][0]["unscored"] > 0, "and the table says how many"


def test_a_reward_of_other_designs(keys, tiny, tmp_path):
    """A predictor of 10 letters cannot judge the 50 of another generator: every design says so."""
    model = {"path": Experiment.for_task("utr").config.model.path}
    learned = {"kind": "learned", "path": str(tiny / "oracle.safetensors")}
    changes = {"model": model, "reward": learned, "train": {"batch": 16, "max_calls": 16}}
    with pytest.raises(RewardError, match=r"could score none.*reads 10 letters, got 50"):
        biotilt.tune(Experiment.from_dict(keys | changes, Path()), tmp_path / "run")
