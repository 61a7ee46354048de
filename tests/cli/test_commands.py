"""Every command through Typer's runner: what it prints, what it writes, and that --json is one document."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import biotilt
from biotilt import Experiment
from biotilt.keys import read_toml
from biotilt.model import Model
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.spaces import DNA, read_designs


@pytest.fixture
def run(experiment_file, tmp_path):
    """A finished run that was not judged yet."""
    biotilt.tune(experiment_file(), tmp_path / "run")
    return tmp_path / "run"


def answer(result):
    """Return the one JSON document on stdout; NaN and Infinity are not JSON."""
    assert result.exit_code == 0, result.stderr

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(result.stdout, parse_constant=refuse)


def test_tune_writes_and_tells(biotilt_cli, experiment_file, tmp_path):
    result = biotilt_cli("tune", experiment_file("mine.toml"))
    assert result.exit_code == 0, result.stderr
    assert "Held-out" in result.stdout and "the page: runs/mine/report.html" in result.stdout
    assert "round 4/4" in result.stderr and "reward" in result.stderr and "ETA 0:00" in result.stderr
    for name in ("summary.json", "report.html", "designs.csv", "designs.fasta", "tuned.safetensors"):
        assert (tmp_path / "runs/mine" / name).is_file()


@pytest.mark.usefixtures("without_page")
def test_tune_json_with_options_that_have_names(biotilt_cli, experiment_file):
    options = [
        "--folder",
        "r",
        "--seed",
        "5",
        "--alpha",
        "0.25",
        "--max-calls",
        "16",
        "--set",
        "train.batch=4",
    ]
    summary = answer(biotilt_cli("tune", experiment_file(), *options, "--json"))
    assert (summary["seed"], summary["alpha"], summary["calls"]) == (5, 0.25, 16)
    assert (summary["folder"], summary["report"]) == ("r", "r/report.html")
    assert [row["name"] for row in summary["rows"]] == ["base", "best_of_n", "tuned", "harvest"]


def test_tune_without_judging(biotilt_cli, experiment_file, tmp_path):
    found = answer(biotilt_cli("tune", experiment_file(), "--folder", "r", "--no-evaluate", "--json"))
    assert found["calls"] == 32 and len(found["history"]) == 4
    assert (tmp_path / "r/tuned.safetensors").is_file() and not (tmp_path / "r/summary.json").exists()


def test_tune_overwrites_only_when_told(biotilt_cli, experiment_file, run):
    path = experiment_file(alpha=0.9)
    assert biotilt_cli("tune", path, "--folder", "run", "--no-evaluate").exit_code == 2
    result = biotilt_cli("tune", path, "--folder", "run", "--no-evaluate", "--overwrite")
    assert result.exit_code == 0
    assert biotilt.Run.load(run).experiment.config.alpha == 0.9


def test_evaluate(biotilt_cli, run):
    result = biotilt_cli("evaluate", "run", "--samples", "8")
    assert result.exit_code == 0 and "n = 8" in result.stdout and "run/report.html" in result.stdout
    summary = answer(biotilt_cli("evaluate", "run", "--json"))
    assert [row["n"] for row in summary["rows"]] == [12, 10, 12, 12]
    on_disk = json.loads((run / "summary.json").read_text())
    assert on_disk["rows"] == summary["rows"]


def test_sample_prints_fasta_of_what_the_python_api_draws(biotilt_cli, run):
    result = biotilt_cli("sample", "run", "--count", "3", "--seed", "4")
    lines = result.stdout.splitlines()
    assert lines[::2] == [">design_1", ">design_2", ">design_3"]
    assert lines[1::2] == biotilt.load_model(run).sample(3, seed=4)
    found = answer(biotilt_cli("sample", "run", "--count", "3", "--seed", "4", "--json"))
    assert found == {"designs": lines[1::2], "seed": 4}


@pytest.mark.parametrize("suffix", ["fasta", "csv", "txt"])
def test_sample_writes_files_from_a_model_with_a_pattern(biotilt_cli, tiny, tmp_path, suffix):
    model, out = tiny / "generator.safetensors", tmp_path / f"designs.{suffix}"
    found = answer(biotilt_cli("sample", model, "--out", out, "--fixed", "GA.....T..", "--json"))
    assert found == {"out": str(out), "count": 100, "seed": 0}
    designs = [record.design for record in read_designs(out, DNA)]
    assert len(designs) == 100
    assert {d[:2] + d[7] for d in designs} == {"GAT"}


@pytest.mark.usefixtures("without_page")
def test_compare_averages_over_seeds(biotilt_cli, experiment_file, tmp_path):
    for seed in (0, 1):
        run = biotilt.tune(Experiment.load(experiment_file(), overrides=[f"seed={seed}"]), tmp_path / f"s{seed}")
        run.evaluate()
    result = biotilt_cli("compare", "s0", "s1")
    assert result.exit_code == 0 and "s0" in result.stdout and result.stdout.count("┏") == 3
    found = answer(biotilt_cli("compare", "s0", "s1", "--json"))
    medians = [json.loads((tmp_path / f"s{s}/summary.json").read_text())["rows"][2] for s in (0, 1)]
    medians = [row["held_out"]["median"] for row in medians]
    assert [line["held_out"] for line in found["runs"]] == medians
    (group,) = found["groups"]
    assert group["seeds"] == [0, 1]
    assert group["held_out"]["mean"] == pytest.approx(sum(medians) / 2)
    assert [run["points"][-1]["calls"] for run in found["took"]] == [32, 32] and found["page"] is None
    drawn = answer(biotilt_cli("compare", "s0", "s1", "--page", "both.html", "--json"))
    assert drawn["page"] == "both.html" and "s1" in (tmp_path / "both.html").read_text()
    base = answer(biotilt_cli("compare", "s0", "s1", "--row", "base", "--json"))
    assert [line["kl_policy_base"] for line in base["runs"]] == [0, 0]


@pytest.mark.usefixtures("without_page")
def test_compare_refuses_the_same_run_twice(biotilt_cli, run):
    biotilt.Run.load(run).evaluate()
    result = biotilt_cli("compare", "run", "run")
    assert result.exit_code == 2 and "the same seed, 0" in result.stderr


def test_check_estimates_and_writes_nothing(biotilt_cli, experiment_file, tmp_path):
    path = experiment_file(train={"max_calls": 70, "batch": 8}, alpha=900.0, held_out=None)
    before = set(tmp_path.iterdir())
    found = answer(biotilt_cli("check", path, "--json"))
    assert set(tmp_path.iterdir()) == before
    assert found["estimate"]["calls"] == 64, "8 rounds of 8; the last 6 calls fill no round"
    assert found["estimate"]["evaluation_scores"] == 2 * 12 + 64
    assert found["estimate"]["seconds"] > 0 and found["estimate"]["memory_mb"] > 50
    text = " ".join(found["problems"])
    assert "alpha = 900" in text and "no held_out reward" in text and "the last 6 calls" in text
    result = biotilt_cli("check", path, "--set", "alpha=0.5")
    assert result.exit_code == 0 and "alpha" not in result.stdout and "64 oracle calls" in result.stdout


def test_check_of_more_designs_tells_what_alpha_can_give(biotilt_cli, experiment_file):
    path = experiment_file(alpha=50.0)
    found = answer(biotilt_cli("check", path, "--json", "--designs", "64"))
    given, base = found["attainable"], found["base"]["optimised"]
    assert given["designs"] == 64
    # so large an alpha tilts to first order: the mean rises by variance/α, and all designs count
    assert given["mean"] == pytest.approx(base["mean"] + base["std"] ** 2 / 50, rel=1e-3)
    assert given["counted"] == pytest.approx(64, rel=1e-2)
    assert any("even perfect tuning" in problem for problem in found["problems"])
    text = biotilt_cli("check", path, "--designs", "64").stdout
    assert "at alpha = 50 perfect tuning has a mean reward of" in text and "best of N" in text
    assert "perfect tuning" not in biotilt_cli("check", path).stdout  # 16 tell too little


def test_check_asks_the_reward_for_few_designs_and_reports_failures(biotilt_cli, experiment_file, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def f(design):\n"
        "    open('asked', 'a').write(design + '\\n')\n"
        "    if design[0] == 'A':\n        raise ValueError('no A')\n"
        "    return 1.0\n"
    )
    reward = {"kind": "python", "function": "mine.py:f", "per_design": True}
    path = experiment_file(reward=reward, train={"max_calls": 4096, "batch": 64})
    found = answer(biotilt_cli("check", path, "--json"))
    assert len(set((tmp_path / "asked").read_text().split())) <= 16 + 8
    text = " ".join(found["problems"])
    assert f"{found['base']['optimised']['unscored']} designs could not be scored: ValueError: no A" in text
    assert "the same score" in text
    assert not (tmp_path / "runs").exists()


def test_the_estimate_of_time_is_that_of_the_full_round(experiment_file, monkeypatch):
    """By a clock on which nothing but scoring takes time, 10 ms a design: it can be counted by hand."""
    from biotilt import trial
    from biotilt.check import check

    now, first = [0.0], [0.5]

    def slow(designs):
        now[0] += 0.01 * len(designs) + (first.pop() if first else 0.0)  # the first call warms up
        return [1.0 + len(set(design)) for design in designs]

    monkeypatch.setattr(trial, "clock", lambda: now[0])
    path = experiment_file(held_out=None, train={"max_calls": 640, "batch": 64}, objective={"updates": 1, "states": 4})
    estimate = check(Experiment.load(path, reward=slow))["estimate"]
    assert estimate["seconds"] == pytest.approx(640 * 0.01)


def test_init_writes_a_file_that_works(biotilt_cli, tmp_path):
    found = answer(biotilt_cli("init", "utr", "mine.toml", "--json"))
    assert found == {"file": "mine.toml", "task": "utr"}
    assert read_toml(tmp_path / "mine.toml")[0]["task"] == "utr"
    (tmp_path / "mine.toml").write_text("spoilt")
    assert biotilt_cli("init", "utr", "mine.toml", "--force").exit_code == 0
    small = ["--set", "train.max_calls=8", "--set", "train.batch=8", "--set", "objective.updates=1"]
    result = biotilt_cli("check", "mine.toml", *small)
    assert result.exit_code == 0 and "8 oracle calls" in result.stdout and "utr_mrl" in result.stdout


def test_pretrain_writes_a_generator_and_its_card(biotilt_cli, tiny, tmp_path, sequences):
    options = ["--steps", "6", "--channels", "8", "--blocks", "1", "--process", "masked", "--num-steps", "4"]
    command = [
        "pretrain",
        tiny / "data.csv",
        "--alphabet",
        "dna",
        "--column",
        "sequence",
        "--out",
        "m.safetensors",
    ]
    found = answer(biotilt_cli(*command, *options, "--schedule", "cosine", "--seed", "2", "--json"))
    model = Model.load(tmp_path / "m.safetensors")
    process = model.policy.process
    assert (process.name, process.num_steps, process.schedule) == ("masked", 4, "cosine")
    assert {len(d) for d in model.sample(5)} == {10}
    card = json.loads((tmp_path / "m.json").read_text())
    assert card == {key: found[key] for key in card}
    assert card["data"]["file"] == "data.csv" and len(card["data"]["sha256"]) == 64
    assert card["metrics"]["test_nats"] > 0 and card["versions"]["torch"]
    text = biotilt_cli(*command, *options[:-4], "--per-step", "3")
    assert text.exit_code == 0 and "nats a design" in text.stdout and "step 6/6" in text.stderr
    assert Model.load(tmp_path / "m.safetensors").policy.process.per_step == 3


def test_fit_oracle_writes_a_predictor_and_its_card(biotilt_cli, tiny, tmp_path):
    command = [
        "fit-oracle",
        tiny / "data.csv",
        "--target",
        "load",
        "--alphabet",
        "dna",
        "--out",
        "o.safetensors",
    ]
    options = ["--members", "2", "--epochs", "2", "--units", "load a day", "--test", "0.25"]
    found = answer(biotilt_cli(*command, *options, "--json"))
    reward = LearnedReward.load(tmp_path / "o.safetensors")
    assert (reward.name, reward.units, len(reward.members)) == ("load", "load a day", 2)
    card = json.loads((tmp_path / "o.json").read_text())
    assert card["metrics"]["test_designs"] == 50
    assert -1 <= card["metrics"]["spearman"] <= 1
    values = [float(line.split(",")[1]) for line in (tiny / "data.csv").read_text().splitlines()[1:]]
    assert card["measured_max"] == found["measured_max"] == max(values)
    result = biotilt_cli(*command, *options, "--name", "mine")
    assert result.exit_code == 0 and "Pearson" in result.stdout and "Spearman" in result.stdout
    assert LearnedReward.load(tmp_path / "o.safetensors").name == "mine"


@pytest.mark.usefixtures("without_page")
def test_a_pretrained_generator_and_a_fitted_oracle_can_be_tuned(biotilt_cli, tiny, tmp_path):
    data = tiny / "data.csv"
    small = ["--channels", "8", "--blocks", "1", "--steps", "5"]
    assert biotilt_cli("pretrain", data, "--alphabet", "dna", "--out", "g.safetensors", *small).exit_code == 0
    fit = ["fit-oracle", data, "--target", "load", "--alphabet", "dna", "--epochs", "1", "--members", "1"]
    assert biotilt_cli(*fit, "--out", "o.safetensors").exit_code == 0
    (tmp_path / "e.toml").write_text(
        'alpha = 0.5\n[model]\npath = "g.safetensors"\n[reward]\nkind = "learned"\npath = "o.safetensors"\n'
        "[objective]\nupdates = 1\n[train]\nmax_calls = 8\nbatch = 8\n[output]\nsamples = 8\n"
    )
    summary = answer(biotilt_cli("tune", "e.toml", "--json"))
    assert summary["rows"][2]["held_out"] is None and summary["calls"] == 8
    assert summary["rows"][2]["beyond_measured"] == 0, "the oracle's card knows the largest value measured"


def test_task_list(biotilt_cli):
    assert "utr" in answer(biotilt_cli("task", "list", "--json"))
    assert biotilt_cli("task", "list").stdout.count("utr: 50-nt 5′UTRs") == 1


SMALL_DEMO = [
    "--set", "train.max_calls=32", "--set", "train.batch=16", "--set", "objective.updates=2",
    "--set", "objective.states=16", "--set", "value.imagine=16", "--set", "output.samples=16",
]  # fmt: skip


def test_demo_keeps_a_finished_run_and_goes_on_with_an_unfinished_one(biotilt_cli, tmp_path, request):
    first = biotilt_cli("demo", *SMALL_DEMO)
    assert first.exit_code == 0, first.stderr
    assert "the page: runs/demo/report.html" in first.stdout
    assert "Sequence logo" in (tmp_path / "runs/demo/report.html").read_text(encoding="utf-8")
    request.getfixturevalue("without_page")  # the others are the same
    folder = tmp_path / "runs/demo"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    again = answer(again_result := biotilt_cli("demo", *SMALL_DEMO, "--json"))
    assert "runs/demo holds another run, which is kept; this one goes to runs/demo-2" in again_result.stderr
    assert (again["task"], again["calls"], again["folder"]) == ("utr", 32, "runs/demo-2")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    designs = (tmp_path / "runs/demo-2/designs.csv").read_text()
    (tmp_path / "runs/demo-2/tuned.safetensors").unlink()  # as if it had been stopped before the end
    unfinished = biotilt_cli("demo", *SMALL_DEMO)
    assert unfinished.exit_code == 0 and "runs/demo-2 holds an unfinished run of this; going on" in unfinished.stderr
    assert (tmp_path / "runs/demo-2/designs.csv").read_text() == designs
    assert not (tmp_path / "runs/demo-3").exists()


def test_demo_takes_another_folder_beside_an_unfinished_run_of_something_else(biotilt_cli, experiment_file, tmp_path):
    from biotilt.folder_state import free_folder

    other, mine = Experiment.load(experiment_file(alpha=0.9)), Experiment.load(experiment_file())
    assert free_folder(mine, tmp_path / "d") == (tmp_path / "d", "")
    for name in ("d", "d-2"):
        biotilt.tune(other, tmp_path / name)
    (tmp_path / "d" / "tuned.safetensors").unlink()
    place, why = free_folder(mine, tmp_path / "d")
    assert place == tmp_path / "d-3" and "is kept" in why


@pytest.mark.usefixtures("without_page")
def test_demo_takes_its_options(biotilt_cli):
    found = answer(biotilt_cli("demo", "--folder", "d", "--seed", "3", "--alpha", "0.7", *SMALL_DEMO, "--json"))
    assert (found["seed"], found["alpha"], found["folder"]) == (3, 0.7, "d")


def test_help_is_fast_and_loads_no_torch():
    code = "import sys, biotilt.cli; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    "command",
    ["demo", "init", "check", "tune", "sample", "evaluate", "compare", "pretrain", "fit-oracle", "task list"],
)
def test_every_command_has_json_and_debug(biotilt_cli, command):
    result = biotilt_cli(*command.split(), "--help")
    assert result.exit_code == 0 and "--json" in result.stdout and "--debug" in result.stdout


def test_version(biotilt_cli):
    assert biotilt_cli("--version").stdout == f"{biotilt.__version__}\n"
