"""Experiment files: where an error is, what overrides do, and that the starter says the defaults."""

from __future__ import annotations

import pytest

from biotilt.config import Config, MeasureSection, OracleSection, parse_config
from biotilt.constraints import LagrangianConfig
from biotilt.errors import ConfigError
from biotilt.keys import merge, override, read_toml
from biotilt.objectives import PPO, VIDD
from biotilt.samplers import SMC
from biotilt.screens import GPOptions
from biotilt.tasks import TASKS, find_task
from biotilt.training import TrainConfig
from biotilt.values import LearnedValueConfig, MonteCarlo, PosteriorMean, SurrogateConfig

NEEDED = {"alpha": 0.5, "model": {"path": "m"}, "reward": {"kind": "gc"}}


def test_defaults_are_those_of_the_parts():
    config = parse_config(NEEDED)
    assert config.build_objective() == VIDD()
    assert config.build_train() == TrainConfig()
    assert config.output.samples == 640


def test_sections_reach_their_parts():
    config = parse_config(
        NEEDED | {"objective": {"name": "ppo", "clip": 0.3}, "train": {"lr": 0.5, "schedule": "cosine"}}
    )
    assert config.build_objective() == PPO(clip=0.3)
    assert config.build_train() == TrainConfig(lr=0.5, schedule="cosine")


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("posterior_mean", {"draws": 2}, PosteriorMean(draws=2)),
        ("monte_carlo", {"draws": 3}, MonteCarlo(draws=3)),
        ("return", {"lr": 0.1}, LearnedValueConfig(lr=0.1)),
    ],
)
def test_the_value_section_follows_the_kind(kind, options, expected):
    config = parse_config(NEEDED | {"objective": {"value": kind, "teacher": "sampled"}, "value": options})
    assert config.value_options(config.build_objective(), "objective") == expected


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("alpha = 0.5\nalhpa = 1\n[model]\npath = 'm'\n[reward]\nkind = 'gc'\n", 2, 'did you mean "alpha"'),
        ("alpha = 0.5\n[model]\npath = 'm'\n\n[train]\nlr = 1\nbacth = 4\n[reward]\nkind='gc'", 7, '"batch"'),
        ("alpha = 'warm'\n[model]\npath = 'm'\n[reward]\nkind = 'gc'\n", 1, "must be a number, got 'warm'"),
        ("[model]\npath = 'm'\n[reward]\nkind = 'gc'\n", None, "alpha: this key is missing"),
        (
            "alpha = 1\n[model]\npath = 'm'\n[reward]\nkind = 'gc'\n[objective]\n# name\nname = 'vdid'",
            8,
            '"vidd"',
        ),
        ("alpha = 1\n[model]\npath = 'm'\n[reward]\nkind = 'gc'\ntarget.low = 1\n", 6, "reward.target"),
    ],
)  # fmt: skip
def test_an_error_names_file_line_and_key(tmp_path, text, line, words):
    path = tmp_path / "e.toml"
    path.write_text(text)
    data, read = read_toml(path)
    with pytest.raises(ConfigError) as caught:
        parse_config(data, str(path), read)
    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert words in str(caught.value)


def test_overrides_are_toml_or_plain_text():
    data = {"alpha": 1.0, "train": {"lr": 1.0}}
    changed = override(
        data, ["train.lr=5e-4", "task=utr", "design.fixed=GC..", "train.warmup = 3", 'name="a b"', "x=[1, 2]"]
    )
    assert changed["train"] == {"lr": 5e-4, "warmup": 3}
    assert (changed["task"], changed["name"], changed["x"]) == ("utr", "a b", [1, 2])
    assert changed["design"] == {"fixed": "GC.."}
    assert data == {"alpha": 1.0, "train": {"lr": 1.0}}, "the given keys are left alone"


def test_tables_merge_key_by_key_but_another_reward_or_objective_replaces_its_table():
    under = {
        "alpha": 0.3,
        "train": {"lr": 1, "batch": 2},
        "reward": {"kind": "learned", "path": "p"},
        "objective": {"name": "vidd", "mirror": 0.5},
    }
    merged = merge(under, {"train": {"lr": 9}, "reward": {"kind": "gc"}, "objective": {"name": "ppo"}})
    assert merged == {
        "alpha": 0.3,
        "train": {"lr": 9, "batch": 2},
        "reward": {"kind": "gc"},
        "objective": {"name": "ppo"},
    }
    assert merge(under, {"reward": {"path": "q"}})["reward"] == {"kind": "learned", "path": "q"}
    assert merge(under, {"objective": {"beta": 0.1}})["objective"] == {
        "name": "vidd",
        "mirror": 0.5,
        "beta": 0.1,
    }
    assert merge(under, {"alpha": {"x": 1}})["alpha"] == {"x": 1}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_starter_file_states_the_defaults_of_its_task(task, tmp_path):
    path = tmp_path / "starter.toml"
    path.write_text(find_task(task).starter(), encoding="utf-8")
    said, _ = read_toml(path)
    assert said["task"] == task
    defaults = parse_config(find_task(task).defaults())
    started = parse_config(merge(find_task(task).defaults(), said))
    assert started.build_train() == defaults.build_train()
    assert started.is_auto == defaults.is_auto
    assert defaults.is_auto or started.build_objective() == defaults.build_objective()
    assert started.build_sampler() == defaults.build_sampler()
    assert started.value_options(VIDD(), "objective") == defaults.value_options(VIDD(), "objective")
    same = ("name", "seed", "alpha", "device", "model", "reward", "held_out", "design", "oracle", "output")
    assert {key: getattr(started, key) for key in same} == {key: getattr(defaults, key) for key in same}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_starter_file_shows_every_section_and_every_option(task):
    text = find_task(task).starter()
    sections = ("model", "reward", "held_out", "objective", "value", "train", "design", "oracle", "sampler", "screen")
    for section in sections:
        assert f"[{section}]" in text, section
    said = override({}, [])
    for line in text.splitlines():
        key, equals, _ = line.lstrip("# ").partition(" = ")
        if equals and key.isidentifier():
            said[key] = True
    options = {*vars(VIDD()), *vars(TrainConfig()), *vars(SurrogateConfig()), *vars(SMC()), *vars(LagrangianConfig())}
    options |= vars(GPOptions()).keys()
    assert options <= said.keys()
    assert "[[constraints]]" in text and "[lagrangian]" in text and OracleSection.model_fields.keys() <= said.keys()
    assert "[[measures]]" in text and MeasureSection.model_fields.keys() <= {*said, "kind", "options"}
    tables = {*sections, "constraints", "lagrangian", "measures", "reference", "output"}
    assert Config.model_fields.keys() - tables <= said.keys()


def test_the_path_of_a_source_may_stand_beside_it():
    beside = {"source": "esm", "path": "folder", "options": {"length": 9}}
    found = parse_config(NEEDED | {"model": beside}).model
    assert (found.source, found.path, found.options) == ("esm", None, {"path": "folder", "length": 9})
    with pytest.raises(ConfigError, match="give one of path"):
        parse_config(NEEDED | {"model": {"source": "esm", "path": "one", "options": {"path": "another"}}})
