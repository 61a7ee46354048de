"""The Python API from an experiment to designs, with every objective, value and process, on tiny models."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

import biotilt
from biotilt import Experiment
from biotilt.errors import ConfigError
from biotilt.oracle import Ledger, Store
from biotilt.spaces import read_designs

SUMMARY_KEYS = {"task", "objective", "alpha", "seed", "calls", "seconds", "versions", "rows"}
ROW_KEYS = {
    "name", "optimised", "held_out", "beyond_measured", "unique", "distance", "kmer3", "loglik_base",
    "kl_policy_base", "kl_base_policy", "calls", "seconds",
}  # fmt: skip


def experiment(keys, **changes) -> Experiment:
    return Experiment.from_dict(keys | changes, Path())


def spent(folder: Path) -> list[str]:
    """Return the designs that cost a call, as the ledger in the run's folder has them."""
    ledger = Ledger(Store(folder / "oracle.sqlite"), "tuning", "count")
    return [row.design for row in ledger.rows() if not row.cached]


def test_five_lines_of_python(experiment_file, tmp_path):
    experiment = biotilt.Experiment.load(experiment_file())
    run = biotilt.tune(experiment, tmp_path / "run")
    designs = run.sample(20, seed=1)
    summary = run.evaluate()
    assert [row["name"] for row in summary["rows"]] == ["base", "best_of_n", "tuned", "harvest"]
    assert len(designs) == 20 and all(set(d) <= set("ACGT") and len(d) == 10 for d in designs)
    for name in ("designs.fasta", "designs.csv", "summary.json", "report.html"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_tuning_raises_the_reward(keys, tmp_path):
    """Base designs have 1 G in 10 letters; a reward that counts them must raise that clearly."""
    strong = {"name": "vidd", "updates": 10, "states": 32, "mirror": 1.0}
    train = {"max_calls": 512, "batch": 32, "lr": 0.01}
    run = biotilt.tune(experiment(keys, objective=strong, train=train, alpha=0.3), tmp_path / "run")
    before = run.experiment.model.sample(300, seed=5)
    after = run.sample(300, seed=5)
    assert sum(d.count("G") for d in before) / 300 < 1.8
    assert sum(d.count("G") for d in after) / 300 > 2 * sum(d.count("G") for d in before) / 300


@pytest.mark.usefixtures("without_page")
def test_summary_is_strict_json_with_the_promised_keys(keys, tmp_path):
    biotilt.tune(experiment(keys, name="thing", seed=4), tmp_path / "run").evaluate()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    summary = json.loads((tmp_path / "run/summary.json").read_text(), parse_constant=refuse)
    assert (
        summary.keys() - SUMMARY_KEYS
        == {
            "options",
            "warnings",
            "attainable",
            "measures",
            "oracle",
            "verdict",
            "checks",
            "reward",
            "held_out",
            "tables",
            "problems",
            "progress",
            "stopped",
        }
        and summary.keys() >= SUMMARY_KEYS
    )
    assert (summary["task"], summary["objective"], summary["alpha"]) == ("thing", "vidd", 0.5)
    assert (summary["seed"], summary["calls"]) == (4, 32)
    assert summary["versions"]["torch"].startswith("2.")
    for row in summary["rows"]:
        others = {"n", "unscored", "infeasible", "gap", "more", "closest", "nearest", "length"}
        assert row.keys() - ROW_KEYS == others and row.keys() >= ROW_KEYS
        assert row["optimised"].keys() == row["held_out"].keys() == {"median", "p5", "p95", "mean"}
    assert [row["calls"] for row in summary["rows"]] == [0, 32, 32, 32]
    progress = summary["progress"]
    assert [level["name"] for level in progress["levels"]] == ["base_p90", "best_of_n", "best_of_n_best"]
    *_, last = progress["points"]
    best = sorted((design.count("G") for design in set(spent(tmp_path / "run"))), reverse=True)[:10]
    assert (last["calls"], last["best"]) == (32, statistics.median(best))
    assert last["network_rows"] > progress["points"][0]["network_rows"] > 0


@pytest.mark.usefixtures("without_page")
def test_best_of_n_is_the_best_of_as_many_designs_as_tuning_had_calls(keys, tmp_path):
    run = biotilt.tune(experiment(keys, output={"samples": 4}), tmp_path / "run")
    base, best, *_ = run.evaluate(samples=8)["rows"]
    assert (base["n"], best["n"], best["calls"]) == (8, 8, 32)
    assert best["optimised"]["p5"] >= base["optimised"]["median"], "8 best of 32 against all of 8"
    assert best["kl_policy_base"] == pytest.approx(math.log(32 / 8))


OBJECTIVES = {
    "posterior_mean": {"name": "vidd", "value": "posterior_mean", "teacher": "sampled"},
    "monte_carlo": {"name": "vidd", "value": "monte_carlo", "teacher": "sampled"},
    "surrogate": {"name": "vidd", "value": "surrogate"},
    "paper": {
        "name": "vidd",
        "value": "posterior_mean",
        "teacher": "sampled",
        "anchor": "rollout",
        "beta": 0.5,
    },
    "bootstrapped closed": {"name": "vidd", "value": "bootstrapped"},
    "bootstrapped sampled": {"name": "vidd", "value": "bootstrapped", "teacher": "sampled"},
    "mixed": {"name": "vidd", "value": "mixed"},
    "return closed": {"name": "vidd", "value": "return"},
    "return sampled": {"name": "vidd", "value": "return", "teacher": "sampled", "refresh": 3},
    "ppo batch": {"name": "ppo", "advantage": "batch"},
    "ppo group": {"name": "ppo", "advantage": "group", "group": 4},
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
@pytest.mark.parametrize("model", ["generator", "masked"])
def test_every_objective_runs_within_its_budget(keys, tiny, tmp_path, objective, model):
    changes = {
        "objective": objective | {"updates": 2, "states": 8},
        "model": {"path": str(tiny / f"{model}.safetensors")},
    }
    run = biotilt.tune(experiment(keys, **changes), tmp_path / "run")
    assert all(math.isfinite(value) for row in run.rows for value in row.values())
    designs = spent(tmp_path / "run")
    assert len(designs) == len(set(designs)) == run.rows[-1]["calls"]
    assert 0 < len(designs) <= 32
    assert [row["round"] for row in run.rows] == list(range(1, len(run.rows) + 1))
    assert run.sample(3) == biotilt.load_model(tmp_path / "run").sample(3)


@pytest.mark.usefixtures("without_page")
def test_the_same_seed_gives_the_same_designs_and_another_seed_others(keys, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        biotilt.tune(experiment(keys, seed=seed), tmp_path / name).evaluate()
    a, b, c = [(tmp_path / name / "designs.csv").read_text() for name in "abc"]
    assert a == b
    assert a != c
    weights = [(tmp_path / name / "tuned.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_a_python_callable_is_a_reward(experiment_file, keys, tmp_path):
    asked = []

    def ends_with_a(designs):
        asked.extend(designs)
        return [1.0 if d.endswith("A") else 0.0 for d in designs]

    run = biotilt.tune(experiment_file(), tmp_path / "run", reward=ends_with_a)
    assert len(set(asked)) == len(asked) == run.rows[-1]["calls"] == 32
    with pytest.raises(ConfigError, match=r"given in Python.*reward="):
        biotilt.Run.load(tmp_path / "run")
    again = biotilt.Run.load(tmp_path / "run", reward=ends_with_a)
    assert again.sample(4) == run.sample(4)
    with pytest.raises(ConfigError, match="give the reward, the model and measures to the Experiment"):
        biotilt.tune(experiment(keys), tmp_path / "other", reward=ends_with_a)


@pytest.mark.usefixtures("without_page")
def test_a_judge_given_in_python_is_never_swapped_for_another(keys, tmp_path):
    def judge(designs):
        return [float(len(d)) for d in designs]

    run = biotilt.tune(Experiment.from_dict(keys, Path(), held_out=judge), tmp_path / "run")
    assert run.rows[-1]["held_out"] == 10.0
    with pytest.raises(ConfigError, match="held_out"):
        biotilt.Run.load(tmp_path / "run")
    judged = biotilt.Run.load(tmp_path / "run", held_out=judge).evaluate()
    assert judged["rows"][0]["held_out"]["median"] == 10.0


def test_a_weighted_sum_in_a_file(experiment_file, tiny):
    parts = [
        {"kind": "python", "function": f"{tiny / 'reward.py'}:count", "weight": 2.0},
        {"kind": "gc", "weight": -10.0},
        {"kind": "forbidden_motifs", "options": {"motifs": ["TT"], "penalty": 3.0}},
    ]
    reward = Experiment.load(experiment_file(reward={"kind": "sum", "parts": parts})).reward
    # GGATTTCAAA: 2 G, GC fraction 0.3, TT twice (overlapping)
    assert reward(["GGATTTCAAA"]) == [pytest.approx(2 * 2 - 10 * 0.3 - 3 * 2)]


def test_weights_of_a_product_are_exponents(experiment_file, tiny):
    parts = [
        {"kind": "python", "function": f"{tiny / 'reward.py'}:count", "weight": 3.0},
        {"kind": "gc"},
    ]
    reward = Experiment.load(experiment_file(reward={"kind": "product", "parts": parts})).reward
    assert reward(["GGATTTCAAA"]) == [pytest.approx(2**3 * 0.3)]


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("fixed", ["..GATC....", {"3-6": "GATC"}])
@pytest.mark.parametrize("model", ["generator", "masked"])
def test_a_fixed_motif_stays_put(experiment_file, tiny, tmp_path, fixed, model):
    path = experiment_file(design={"fixed": fixed}, model={"path": str(tiny / f"{model}.safetensors")}, seed=7)
    run = biotilt.tune(path, tmp_path / "run")
    run.evaluate()
    written = [line.split(",")[1] for line in (tmp_path / "run/designs.csv").read_text().splitlines()[1:]]
    everything = [
        *spent(tmp_path / "run"), *run.sample(30), *written,
        *biotilt.load_model(tmp_path / "run").sample(30), *biotilt.Run.load(tmp_path / "run").sample(30),
    ]  # fmt: skip
    assert len(everything) > 120
    assert {d[2:6] for d in everything} == {"GATC"}
    assert len({d[:2] for d in everything}) > 5, "the rest is free"


def test_a_tuned_model_outlives_its_reward(experiment_file, tmp_path):
    (tmp_path / "mine.py").write_text("def f(designs):\n    return [float(d.count('C')) for d in designs]\n")
    path = experiment_file(reward={"kind": "python", "function": "mine.py:f"}, design={"fixed": "T........."})
    run = biotilt.tune(path, tmp_path / "run")
    (tmp_path / "mine.py").unlink()
    assert biotilt.load_model(tmp_path / "run").sample(5, seed=2) == run.sample(5, seed=2)


def test_overwriting_deletes_what_the_earlier_run_left_and_nothing_else(keys, tmp_path):
    folder = tmp_path / "run"
    biotilt.tune(experiment(keys, alpha=0.4), folder).evaluate()
    (folder / "notes.txt").write_text("mine")
    (folder / "oracle.sqlite-journal").write_bytes(b"left by a kill")
    run = biotilt.tune(experiment(keys, alpha=0.6), folder, overwrite=True)
    assert not (folder / "summary.json").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert len(spent(folder)) == run.rows[-1]["calls"] == 32
    fresh = biotilt.tune(experiment(keys, alpha=0.6), tmp_path / "fresh")
    assert fresh.sample(5) == run.sample(5)


def test_runs_that_share_a_cache_do_not_pay_twice(keys, tmp_path):
    shared = {"oracle": {"cache": str(tmp_path / "cache.sqlite")}}
    first = biotilt.tune(experiment(keys, **shared), tmp_path / "a")
    second = biotilt.tune(experiment(keys, **shared), tmp_path / "b")
    assert first.rows[-1]["calls"] == 32
    assert second.rows[-1]["calls"] == 0, "the same seed asks for the same designs"
    assert second.sample(5) == first.sample(5)


def test_the_record_says_what_was_run(keys, tiny, tmp_path):
    biotilt.tune(experiment(keys, seed=3), tmp_path / "run")
    record = json.loads((tmp_path / "run/experiment.json").read_text())
    assert record["config"]["seed"] == 3
    assert record["config"]["train"] == {"max_calls": 32, "batch": 8}
    assert {Path(f).name for f in record["sha256"]} == {"generator.safetensors", "oracle.safetensors"}
    assert all(len(value) == 64 for value in record["sha256"].values())
    assert record["versions"].keys() >= {"biotilt", "torch", "python"}


def test_the_ready_made_task_builds_with_changes():
    made = Experiment.for_task("utr", alpha=0.2, train={"max_calls": 128})
    assert (made.config.alpha, made.config.build_train().max_calls) == (0.2, 128)
    assert made.held_out is not None and made.held_out.version != made.reward.version
    designs = made.model.sample(4)
    assert [len(d) for d in designs] == [50] * 4
    assert all(0 < score < 12 for score in made.reward(designs))


def test_keys_of_a_model_are_laid_over_those_of_the_task():
    task = Experiment.for_task("utr")
    made = Experiment.for_task("utr", model={"process": {"per_step": 1}})
    assert made.config.model.path == task.config.model.path
    assert made.model.policy.process == replace(task.model.policy.process, per_step=1) != task.model.policy.process


def test_designs_that_cannot_be_scored_are_written_with_the_reason(keys, tmp_path):
    def picky(designs):
        if any("TT" in design for design in designs):
            raise ValueError("TT is not for me")
        return [float(design.count("G")) for design in designs]

    run = biotilt.tune(Experiment.from_dict(keys, Path(), reward=picky), tmp_path / "run")
    records = read_designs(tmp_path / "run" / "failures.csv", run.model.space.written_in)
    ledger = Ledger(Store(tmp_path / "run" / "oracle.sqlite"), "tuning", "picky")
    asked = [row.design for row in ledger.rows() if not row.cached]
    assert sorted(r.design for r in records) == sorted(d for d in asked if "TT" in d) != []
    assert {r.values["reason"] for r in records} == {"ValueError: TT is not for me"}
    assert all(math.isfinite(row["reward"]) for row in run.rows)
