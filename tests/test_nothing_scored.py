"""A run of which no design got a finite score never succeeds quietly: tuning, steering, judging and checking."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from biotilt import Experiment, reward, steer, tune
from biotilt.check import check
from biotilt.errors import ConfigError, NothingScored
from biotilt.rewards import Infeasible, NotScored
from biotilt.wiring import build_trainer


def experiment(score, *, batch=8, max_calls=32, held_out=None, **changes):
    train = {"batch": batch, "max_calls": max_calls, "checkpoint_every": 1}
    objective = {"name": "reward_weighted", "updates": 1}
    judge = None if held_out is None else reward(version="1", per_design=True, name="judge")(held_out)
    made = reward(version="1", per_design=True, name="mine")(score)
    keys = {"task": "utr", "train": train, "objective": objective, "held_out": {"kind": "none"}} | changes
    return Experiment.from_dict(keys, Path(), reward=made, held_out=judge)


def unscored(design):
    return NotScored("no program" if design[0] in "ACG" else "no licence")


def infeasible(design):
    return Infeasible("too long" if design[0] in "ACG" else "too short")


BOTH = {"unscored": unscored, "infeasible": infeasible}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("batch", "max_calls"), [(4, 12), (8, 32), (32, 96)])
def test_tuning_ends_with_the_reasons_whatever_the_batch(tmp_path, kind, batch, max_calls):
    with pytest.raises(NothingScored) as caught:
        tune(experiment(BOTH[kind], batch=batch, max_calls=max_calls), tmp_path / "run")
    # failures are told after 16 calls or a batch, infeasible designs at the end of so small a budget
    calls = min(max_calls, max(16, batch)) if kind == "unscored" else max_calls
    words = {
        "unscored": (f'reward "mine" could score none of {calls} designs: ', "no program ("),
        "infeasible": (f'reward "mine" calls all {calls} designs infeasible (−inf): ', "too long ("),
    }[kind]
    assert all(text in str(caught.value) for text in words), str(caught.value)
    assert not (tmp_path / "run" / "tuned.safetensors").exists()


def test_one_feasible_design_is_enough_to_go_on(tmp_path):
    asked = []

    def rare(design):
        asked.append(design)
        return 1.0 if len(asked) == 20 else -math.inf

    assert tune(experiment(rare), tmp_path / "run").rows[-1]["calls"] == 32


def test_a_judge_of_tuning_that_scores_nothing_ends_it_early(tmp_path):
    started = experiment(lambda design: 1.0, held_out=unscored, batch=16, max_calls=96)
    with pytest.raises(NothingScored, match='reward "judge" could score none of 16 designs: no program'):
        tune(started, tmp_path / "run")


def test_a_constraint_that_calls_every_design_infeasible(tmp_path):
    constraints = [{"kind": "threshold", "at_least": 0.5, "name": "no A", "options": {"at_least": 2.0},
                    "parts": [{"kind": "gc"}]}]  # fmt: skip
    with pytest.raises(NothingScored) as caught:
        tune(experiment(lambda design: 1.0, constraints=constraints, lagrangian={"draws": 8}), tmp_path / "run")
    # 8 designs before each of 4 rounds, and the 8 of the round
    assert str(caught.value).startswith(
        'reward "gc threshold" calls all 64 designs infeasible (−inf): gc < 2 (64 times)'
    )


def test_a_budget_that_pays_for_no_round(tmp_path):
    objective = {"name": "vidd", "value": "monte_carlo", "teacher": "sampled", "updates": 1}
    greedy = experiment(lambda design: 1.0, objective=objective, train={"batch": 8, "max_calls": 8})
    trainer = build_trainer(greedy, None)
    trainer.oracle.max_calls = 2
    with pytest.raises(
        ConfigError, match=r"train\.max_calls does not pay for one round of this objective: \d+ designs are new but"
    ):
        trainer.run()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("sampler", ["importance", "smc", "best_of_n"])
def test_steering_says_why_no_design_has_a_weight(kind, sampler):
    with pytest.raises(NothingScored) as caught:
        steer(experiment(BOTH[kind], sampler={"name": sampler}), 6)
    text = {"unscored": "could score none of ", "infeasible": "calls all "}[kind]
    assert str(caught.value).startswith(f'reward "mine" {text}')
    assert ("no program (" if kind == "unscored" else "too long (") in str(caught.value)


@pytest.mark.parametrize(("kind", "score"), [("unscored", math.nan), ("infeasible", -math.inf)])
@pytest.mark.parametrize("count", [6, 40])
def test_a_judge_of_steered_designs_costs_a_warning_and_no_design(kind, score, count):
    found = steer(experiment(lambda design: 1.0, held_out=BOTH[kind], sampler={"name": "importance"}), count)
    assert len(found.designs) == count and found.rewards == [1.0] * count
    assert found.held_out is not None
    assert [str(value) for value in found.held_out] == [str(score)] * count
    assert len(found.warnings) == 1 and found.warnings[0].startswith('reward "judge" ')
    assert json.dumps(found.document(), allow_nan=False)


def test_check_tells_that_all_designs_of_the_base_are_infeasible():
    found = check(experiment(infeasible))
    assert found["base"]["optimised"]["infeasible"] == 16
    (told,) = [problem for problem in found["problems"] if problem.startswith("optimised: ")]
    # 16, and half as many more to time the reward
    assert told.startswith('optimised: nothing to learn from: reward "mine" calls all 24 designs infeasible (−inf): ')


def test_check_refuses_what_would_end_the_first_round():
    with pytest.raises(NothingScored, match='reward "mine" could score none of 16 designs: no program'):
        check(experiment(unscored))


@pytest.mark.usefixtures("without_page")
def test_what_a_judge_could_not_score_is_asked_again_by_the_next_evaluation(tmp_path):
    broken = [False]

    def judge(design):
        return NotScored("no licence") if broken[0] and design[0] in "AC" else 1.0

    run = tune(experiment(lambda design: 1.0, held_out=judge, batch=8, max_calls=8), tmp_path / "run")
    table = tmp_path / "run" / "designs.csv"
    broken[0] = True
    run.evaluate(samples=8)
    failed = table.read_text()
    broken[0] = False
    run.evaluate(samples=8)
    assert "not_judged" in failed and "not_judged" not in table.read_text()
