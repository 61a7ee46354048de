"""What "auto" chooses, rule by rule, and that a run chooses once."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch

import biotilt
from biotilt import auto
from biotilt.auto import RULES, Choice, Facts, choose
from biotilt.check import check
from biotilt.errors import BiotiltError, ConfigError
from biotilt.files import read_json
from biotilt.objectives import OBJECTIVES

UTR = Facts(True, 50, hidden=True, aligned=True, parts=True, several=False, constraints=False, calls=512, batch=64)
MOLECULE = replace(UTR, length=72, aligned=False)

CASES: dict[str, tuple[Facts, dict[str, Any], bool]] = {
    "several_conditions": (replace(MOLECULE, several=True), {"name": "ppo"}, False),
    "a_gradient": (
        replace(UTR, letters=False, hidden=False, aligned=False, parts=False, gradient=True),
        {"name": "adjoint_matching"},
        False,
    ),
    "no_letters": (replace(UTR, letters=False, hidden=False), {"name": "vidd", "value": "return"}, False),
    "nothing_hidden": (replace(UTR, hidden=False), {"name": "ppo"}, False),
    "short": (replace(UTR, length=8), {"name": "vidd", "value": "bootstrapped", "mirror": 1.0}, False),
    "parts_and_a_probe_that_fails": (replace(MOLECULE, unknown=0.95), {"name": "evolve"}, False),
    "parts": (replace(MOLECULE, unknown=0.4, seconds=1e-4), {"name": "evolve"}, True),
    "not_aligned": (replace(MOLECULE, constraints=True), {"name": "ppo"}, False),
    "of_a_structure": (replace(UTR, shaped=True, calls=4096, seconds=1e-4), {"name": "evolve"}, True),
    "probe_fails": (replace(UTR, unknown=0.95, seconds=10.0), {"name": "ppo"}, False),
    "cheap_or_many": (replace(UTR, seconds=1e-4), {"name": "ppo"}, False),
    "few_calls": (replace(UTR, seconds=3.0, unknown=0.3), {"name": "vidd", "value": "surrogate"}, False),
}


def test_every_rule_has_a_case():
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("name", CASES)
def test_each_rule_decides_where_it_should(name):
    facts, objective, screened = CASES[name]
    choice = choose(facts)
    assert next(rule for rule in RULES if RULES[rule].applies(facts)) == name
    assert choice.objective == objective and (choice.screen is not None) == screened
    assert choice.reasons and RULES[name].evidence
    OBJECTIVES.of_table(dict(choice.objective), "objective", "")  # its options are ones that there are


def test_many_calls_are_for_ppo_and_nine_letters_are_not_short():
    assert choose(replace(UTR, calls=1500)).objective == {"name": "ppo"}
    assert choose(replace(UTR, calls=1499)).objective["name"] == "vidd"
    assert choose(replace(UTR, length=9)).objective["value"] == "surrogate"


def test_a_small_budget_is_spent_in_eight_rounds_unless_the_batch_is_given():
    assert choose(replace(UTR, calls=200)).train == {"batch": 25}
    assert choose(replace(UTR, calls=512)).train == choose(replace(UTR, calls=200, batch=None)).train == {}


def test_rounds_are_not_smaller_than_the_first_temperature_needs():
    """100 calls: eight rounds of 12, but six of 16 where half of a round tells alpha."""
    assert choose(replace(UTR, calls=100)).train == {"batch": 12}
    choice = choose(replace(UTR, calls=100, least=16))
    assert choice.train == {"batch": 16} and choice.reasons[-1] == "100 calls are 6 rounds of 16"


TRAIN = {"max_calls": 48, "batch": 16, "trackers": []}


@pytest.mark.parametrize(
    ("task", "calls", "objective"),
    [
        ("utr", 512, "vidd"),
        ("utr", 2048, "ppo"),
        ("molecule", 512, "evolve"),
        ("protein", 512, "vidd"),
        ("rna_fold", 512, "evolve"),
    ],
)
def test_experiments_are_read_as_what_they_are(task, calls, objective):
    experiment = biotilt.Experiment.for_task(task, objective={"name": "auto"}, train={"max_calls": calls})
    assert experiment.config.objective["name"] == objective
    assert (experiment.config.screen is None) == (objective != "evolve")
    assert experiment.chosen[0].startswith(f"auto chose objective {objective}") and len(experiment.chosen) == 2


def test_what_the_experiment_says_stays():
    own = {"name": "gp", "factor": 2.0}
    experiment = biotilt.Experiment.for_task("molecule", objective={"name": "auto"}, screen=own, train=TRAIN)
    assert experiment.config.screen == own and experiment.config.train["batch"] == 16
    assert biotilt.Experiment.for_task("utr").chosen == []
    with pytest.raises(ConfigError, match=r"objective\.updates: auto takes no options"):
        biotilt.Experiment.for_task("utr", objective={"name": "auto", "updates": 3})


def test_where_nobody_says_how_far_to_go_the_scores_of_the_base_tell(tmp_path):
    """A KL of log 100, that of the best of a hundred draws; what is said stays, and only auto fills it in."""
    base = biotilt.Experiment.for_task("utr").config.model.path
    keys: dict[str, Any] = {"model": {"path": base}, "reward": {"kind": "gc"}, "train": {"max_calls": 100}}
    experiment = biotilt.Experiment.from_dict(keys | {"objective": {"name": "auto"}}, tmp_path)
    config = experiment.config
    assert config.alpha is None and config.target_kl == pytest.approx(math.log(100), abs=0.05)
    assert config.train["batch"] == 16 and "neither alpha nor target_kl" in experiment.chosen[-1]
    given = biotilt.Experiment.from_dict(keys | {"objective": {"name": "auto"}, "alpha": 0.3}, tmp_path)
    assert given.config.alpha == 0.3 and given.config.target_kl is None and given.config.train["batch"] == 12
    with pytest.raises(ConfigError, match="alpha"):
        biotilt.Experiment.from_dict(keys | {"objective": {"name": "ppo"}}, tmp_path)


class Cut(biotilt.Callback):
    def on_round(self, row: Any, history: Any) -> None:
        raise OSError("the power was cut")


def test_a_run_chooses_once(tmp_path, monkeypatch):
    """Resumed, moved and loaded after the rules have changed, it is still what it was; a new one is not."""
    quick = RULES["few_calls"].choice.objective | {"updates": 2, "states": 8}
    rules = {"all": replace(RULES["few_calls"], choice=Choice(quick, reasons=("quick",)))}
    monkeypatch.setattr(auto, "RULES", rules)
    experiment = biotilt.Experiment.for_task("utr", objective={"name": "auto"}, train=TRAIN)
    with pytest.raises(BiotiltError, match="power was cut"):
        biotilt.tune(experiment, tmp_path / "run", callbacks=[Cut()])
    monkeypatch.setattr(auto, "RULES", {"all": replace(RULES["cheap_or_many"], applies=lambda facts: True)})
    record = read_json(tmp_path / "run" / "experiment.json")
    assert record["config"]["objective"] == quick and record["chosen"] == experiment.chosen
    shutil.move(tmp_path / "run", tmp_path / "moved")
    run = biotilt.resume(tmp_path / "moved")
    assert len(run.rows) == 3 and run.experiment.config.objective == quick
    assert run.experiment.chosen == biotilt.Run.load(tmp_path / "moved").experiment.chosen == experiment.chosen
    again = biotilt.Experiment.for_task("utr", objective={"name": "auto"}, train=TRAIN)
    assert again.config.objective == {"name": "ppo"}
    with pytest.raises(ConfigError):  # it is another experiment than the one of this folder
        biotilt.tune(again, tmp_path / "moved")


def test_a_look_before_the_run_tells_what_was_chosen_and_what_measuring_changes(monkeypatch):
    """Where a call takes no time that counts it is ppo, whatever the budget; scores by chance teach no process."""
    monkeypatch.setattr(auto, "CHEAP", 1e9)  # seconds: this machine may be busy
    experiment = biotilt.Experiment.for_task("utr", objective={"name": "auto"}, train=TRAIN | {"max_calls": 128})
    found = check(experiment, designs=64)
    assert found["chosen"] == experiment.chosen
    assert any("would choose objective ppo" in problem for problem in found["problems"])
    torch.manual_seed(0)
    noise = biotilt.Experiment.for_task(
        "utr", objective={"name": "auto"}, train=TRAIN, reward=lambda designs: torch.rand(len(designs)).tolist()
    )
    monkeypatch.setattr(auto, "CHEAP", 0.0)
    told = check(noise, designs=256)["problems"]
    assert any("would choose objective ppo, where what was fitted" in problem for problem in told), told
    assert not any("would choose" in problem for problem in check(noise, designs=64)["problems"])  # too few to say


def facts_of_points(process: str, *, differentiable: bool, **options: Any) -> Facts:
    from biotilt.config import parse_config
    from biotilt.core import Policy
    from biotilt.processes import PROCESSES
    from biotilt.rewards import reward
    from biotilt.spaces import Points

    policy = Policy(PROCESSES.of_table({"name": process, "size": 2, **options}), torch.nn.Identity())
    config = parse_config({"model": {"path": "m"}, "reward": {"kind": "gc"}, "alpha": 1.0})
    given = reward(reads="points", differentiable=differentiable)(lambda x: x[:, 0])
    return auto.facts_of(config, biotilt.Model(policy, Points(("x", "y"))), [given])


def test_a_gradient_is_seen_where_reward_and_steps_have_one():
    assert facts_of_points("flow", differentiable=True).gradient
    assert facts_of_points("ddpm", differentiable=True, clip_sample=True).gradient
    assert not facts_of_points("flow", differentiable=False).gradient
    assert not facts_of_points("flow", differentiable=True, eta=0.0).gradient
