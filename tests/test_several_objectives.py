"""From the experiment file to the page: parts of a reward, constraints, workers, and what they leave behind."""

from __future__ import annotations

import json

import pytest

import biotilt
from biotilt import Experiment
from biotilt.errors import ConfigError
from biotilt.wiring import build_trainer

TWO = {
    "kind": "sum",
    "parts": [{"kind": "gc", "weight": 2.0}, {"kind": "forbidden_motifs", "options": {"motifs": ["AA"]}}],
}


def keys_of(keys, **changes):
    return {k: v for k, v in keys.items() if k not in ("held_out", *changes)} | changes


def test_the_front_of_two_parts_is_on_the_page(keys, tmp_path):
    run = biotilt.tune(Experiment.from_dict(keys_of(keys, reward=TWO), tmp_path), tmp_path / "run")
    front = run.evaluate()["front"]
    assert front == json.loads((tmp_path / "run/summary.json").read_text())["front"]
    assert set(front["rows"]) == {"base", "best_of_n", "tuned", "harvest"}
    assert "Several objectives" in (tmp_path / "run/report.html").read_text()


def test_one_objective_has_no_front(keys, tmp_path):
    run = biotilt.tune(Experiment.from_dict(keys_of(keys), tmp_path), tmp_path / "run")
    assert "front" not in run.evaluate()
    assert "Several objectives" not in (tmp_path / "run/report.html").read_text()


@pytest.mark.usefixtures("without_page")
def test_constraints_are_followed_recorded_and_part_of_the_experiment(keys, tmp_path):
    bound = {"kind": "gc", "at_least": 0.9, "name": "strong"}
    changed = keys_of(keys, constraints=[bound], lagrangian={"draws": 8})
    run = biotilt.tune(Experiment.from_dict(changed, tmp_path), tmp_path / "run")
    last = run.rows[-1]
    assert last["violation/strong_at_least"] > 0 and last["multiplier/strong_at_least"] > 0
    assert set(run.evaluate()["front"]["objectives"]) == {"count", "strong"}
    (tmp_path / "run/tuned.safetensors").unlink()  # as if it had not finished
    other = keys_of(keys, constraints=[bound | {"at_least": 0.5}], lagrangian={"draws": 8})
    with pytest.raises(ConfigError, match=r"another experiment \(different: constraints\)"):
        biotilt.tune(Experiment.from_dict(other, tmp_path), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraints": [{"kind": "gc"}]}, "needs a bound"),
        (
            {"constraints": [{"kind": "gc", "at_least": 0.5, "at_mots": 1}]},
            r'at_mots: unknown key; did you mean "at_most"',
        ),
        ({"lagrangian": {"drawz": 3}}, r'lagrangian.drawz: unknown key; did you mean "draws"'),
        ({"oracle": {"time_limit": 3.0}}, r'an option of "pool" and "ray"'),
        ({"oracle": {"backend": "pol"}}, r'unknown backend "pol"; did you mean "pool"'),
        ({"reward": {"kind": "threshold", "parts": []}}, "threshold needs one part, and has 0"),
        ({"train": {"overlap": True}, "objective": {"name": "ppo"}}, None),
    ],
)
def test_what_cannot_work_is_said_before_any_compute(keys, tmp_path, changes, message):
    if message is None:
        with pytest.raises(ConfigError, match=r"train\.overlap"):
            build_trainer(Experiment.from_dict(keys_of(keys, **changes), tmp_path), None)
        return
    with pytest.raises(ConfigError, match=message):
        Experiment.from_dict(keys_of(keys, **changes), tmp_path)


def test_a_pool_that_overlaps_scores_as_one_process_does(keys, tmp_path):
    """The same designs in the same order get the same scores; the accounts say who did it."""
    plain = biotilt.tune(Experiment.from_dict(keys_of(keys), tmp_path), tmp_path / "plain")
    pool = {"backend": "pool", "workers": 2, "time_limit": 60.0}
    workers = biotilt.tune(Experiment.from_dict(keys_of(keys, oracle=pool), tmp_path), tmp_path / "pool")
    assert workers.sample(20) == plain.sample(20)
    accounts = json.loads((tmp_path / "pool/oracle.json").read_text())
    assert (accounts["workers"], accounts["calls"], accounts["failures"], accounts["reasons"]) == (2, 32, 0, [])
    assert json.loads((tmp_path / "plain/oracle.json").read_text())["workers"] == 1
    both = keys_of(keys, oracle=pool, train=keys["train"] | {"overlap": True})
    overlapped = biotilt.tune(Experiment.from_dict(both, tmp_path), tmp_path / "overlap")
    assert overlapped.rows[0]["update"] == 0 and overlapped.rows[-1]["update"] == plain.rows[-1]["update"]
