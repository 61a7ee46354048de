"""The value that a run learned, taken for a sampler: what it is worth, what it costs, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import biotilt
from biotilt import Experiment
from biotilt.cli import app
from biotilt.core import Context, Policy, Roles, Target
from biotilt.errors import CheckpointError, ConfigError
from biotilt.networks import value_network
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite
from biotilt.reuse import value_of_run
from biotilt.tensors import load_tensors
from biotilt.testing import ExactValue, TableScorer, all_states, reveal_soft_values
from biotilt.values import LearnedQ, LearnedV, Reused

ALPHA = 0.7


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Exact(nn.Module):
    """A network that has learned the action values of every state, `off` too low and in units of `spread`."""

    def __init__(self, value: ExactValue, process: AnyOrder, off: float, spread: float):
        super().__init__()
        self.value, self.process, self.off, self.spread = value, process, off, spread

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (self.value.action_value(None, x, self.process.step_of(x)) - self.off) / self.spread


def test_action_values_give_the_soft_value_of_states():
    """Of letters that are the conditionals of one joint law every hidden position says the same."""
    process, reward = AnyOrder(3, 3), normal(27, seed=2)
    base = Policy(process, StateTable.of_joint(normal(27, seed=1).exp(), 3, 3))
    learned = LearnedQ(Exact(ExactValue(base, reward, ALPHA), process, 1.3, 2.0), process, "bootstrapped")
    learned.centre.fill_(1.3)
    learned.spread.fill_(2.0)
    context = Context(Roles.start(base), Target(TableScorer(process, reward), ALPHA), torch.Generator())
    states = all_states(3, 3)
    unfinished = process.hidden(states).any(-1)
    exact = reveal_soft_values(base, reward, ALPHA)[unfinished].float()
    x = states[unfinished]
    found = Reused(learned).value_at(context, context.roles.proposal.at(x, process.step_of(x)))
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-5)


def test_a_value_of_where_a_step_led_is_that_of_the_state_it_led_to():
    process = Finite(4, 3)
    base = Policy(process, Table(4, 3, normal(3, 4, 4, seed=1)))
    learned = LearnedV(value_network(base), process)
    with torch.no_grad():
        for weight in learned.parameters():
            weight.copy_(normal(*weight.shape, seed=4))
    context = Context(Roles.start(base), Target(TableScorer(process, normal(4, seed=2)), ALPHA), torch.Generator())
    x = torch.arange(4)
    for k in (1, 2):
        expected = ALPHA * learned.state(x, k - 1).detach()
        torch.testing.assert_close(Reused(learned).state_value(context, x, k), expected)


def run_of(keys, folder: Path, **changes: object) -> Path:
    biotilt.tune(Experiment.from_dict(keys | changes, Path()), folder)
    return folder


@pytest.mark.parametrize("name", ["vidd", "path_consistency", "ddpp"])
def test_a_run_of_each_kind_guides_a_sampler_without_calls_of_its_own(keys, tmp_path, name):
    folder = run_of(keys, tmp_path / "run", objective={"name": name, "updates": 2})
    experiment = Experiment.from_dict(keys | {"sampler": {"name": "svdd", "children": 3}}, Path())
    stored = load_tensors(folder / "checkpoint.safetensors")[0]
    learned = value_of_run(folder, experiment).learned.state_dict()
    assert learned and all(torch.equal(tensor, stored[f"value/{key}"]) for key, tensor in learned.items())
    found = biotilt.steer(experiment, 4, value=folder)
    again = biotilt.steer(experiment, 4, value=biotilt.Run.load(folder))
    assert found.calls <= 3 * 4 and found.value_of == str(folder)
    assert (found.designs, found.weights) == (again.designs, again.weights)


def test_what_does_not_fit_is_refused(keys, tmp_path):
    folder = run_of(keys, tmp_path / "run")

    def refused(match: str, place: Path = folder, **changes: object) -> None:
        with pytest.raises(ConfigError, match=match):
            biotilt.steer(Experiment.from_dict(keys | changes, Path()), 2, value=place)

    refused("run's alpha, 0.5, and this is 0.25", alpha=0.25)
    refused("reward is another", reward=keys["held_out"])
    refused("generator is another", model=keys["model"] | {"process": {"per_step": 2}})
    refused('sampler "ancestral" asks none', sampler={"name": "ancestral"})
    refused('sampler "smc" asks none', sampler={"name": "smc", "value": "none"})
    other = run_of(keys, tmp_path / "other", objective={"name": "ppo", "updates": 1})
    refused('learned no value of states: its objective "ppo" trains none', other)
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        biotilt.steer(Experiment.from_dict(keys, Path()), 2, value=tmp_path)


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(keys, tmp_path):
    folder, experiment = run_of(keys, tmp_path / "run"), Experiment.from_dict(keys, Path())
    newest, before = folder / "checkpoint.safetensors", folder / "checkpoint.before.safetensors"
    newest.write_bytes(newest.read_bytes()[:500])
    assert value_of_run(folder, experiment).learned.state_dict()
    before.unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        value_of_run(folder, experiment)


def test_the_command_takes_the_value_of_a_run(experiment_file, keys, tmp_path):
    folder = run_of(keys, tmp_path / "run")
    words = ["steer", str(experiment_file()), "--count", "3", "--value", str(folder), "--json"]
    told = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert told["value_of"] == str(folder) and told["calls"] <= 3
