"""A package that registers parts by entry points, as a stranger would write it: found, listed, used, and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from biotilt import Experiment, steer
from biotilt.assemble import objective_and_value, sampler_and_value
from biotilt.core import Parts, Policy, check_parts
from biotilt.errors import CheckpointError, ConfigError
from biotilt.measures import task_measures
from biotilt.model import Model
from biotilt.networks import CNN, NETWORKS, CNNConfig
from biotilt.objectives import PathConsistency
from biotilt.plugins import REGISTRIES
from biotilt.processes import AnyOrder
from biotilt.rewards import build
from biotilt.samplers import SAMPLERS, SMC
from biotilt.spaces import DNA, Letters, build_space
from biotilt.tasks import TASKS, find_task
from biotilt.trust import code_of

PARTS = '''"""Parts of another package."""
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from biotilt.evaluation.kinds import MeasureKind
from biotilt.evaluation.measure import Measure
from biotilt.core import Guessing, StateValue
from biotilt.options import Count, Length, PathText, Symbols, Width
from biotilt.rewards import FromParts
from biotilt.samplers import Ancestral
from biotilt.spaces import Tokens
from biotilt.tasks import Task


class Twice(Ancestral):
    """Draws twice as many designs."""

    name: ClassVar[str] = "twice"

    def draw(self, context, count):
        return super().draw(context, 2 * count)


@dataclass(frozen=True)
class Worst(StateValue):
    """The worst of some guesses."""

    guesses: Count = 2

    name: ClassVar[str] = "worst"
    needs: ClassVar = (Guessing,)
    calls = property(lambda self: self.guesses)

    def designs(self, context, here):
        return torch.stack([here.kernel.guess(context.generator) for _ in range(self.guesses)])

    def of_rewards(self, context, rewards):
        return rewards.amin(0)


@dataclass(frozen=True)
class Upside(Tokens):
    """Designs read from the end."""

    vocabulary: tuple[str, ...] = ("A", "B")
    kind: ClassVar[str] = "upside"
    Options = None

    def encode(self, designs):
        return super().encode([design[::-1] for design in designs])

    def decode(self, states):
        return [design[::-1] for design in super().decode(states)]

    def spec(self):
        return {"kind": "upside", "vocabulary": list(self.vocabulary)}


@dataclass
class CountA:
    """The number of A in a design."""

    factor: float = 1.0

    name: ClassVar[str] = "count_a"
    version: ClassVar[str] = "1"
    differentiable: ClassVar[bool] = False

    def __call__(self, designs):
        return [self.factor * d.count("A") for d in designs]


class Purines(Task):
    """Four letters, mostly A and G."""

    name = "purines"
    folder = Path(__file__).parent

    def measures(self, config):
        return [Measure("a", "A", "Mean number of A.", lambda designs: "".join(designs).count("A") / len(designs))]


@dataclass(frozen=True)
class PurineShare(MeasureKind):
    """Share of A and G."""

    factor: float = 1.0
    about: PathText = ""

    name: ClassVar[str] = "purine_share"

    def measure(self):
        def share(designs):
            return self.factor * sum(d.count("A") + d.count("G") for d in designs) / sum(map(len, designs))

        meaning = Path(self.about).read_text() if self.about else "Share of A and G."
        return Measure("purine_share", "Purines", meaning, share)


class Worse(FromParts):
    """The worst of its parts, times their weights."""

    name = "worse"
    version = "1"
    differentiable = False

    def __init__(self, parts, weights=()):
        self.parts, self.weights = parts, weights

    def __call__(self, designs):
        columns = [[w * score for score in part(designs)] for part, w in zip(self.parts, self.weights)]
        return [min(scores) for scores in zip(*columns)]


@dataclass(frozen=True)
class PlainOptions:
    letters: Symbols
    length: Length
    time: bool = False
    width: Width = 8


class Plain(nn.Module):
    """Two layers over everything."""

    name = "plain"
    Options = PlainOptions

    def __init__(self, config):
        super().__init__()
        self.config, size = config, config.length * config.letters
        self.layers = nn.Sequential(nn.Embedding(config.letters + 1, config.width), nn.Flatten(),
                                    nn.Linear(config.length * config.width, size))

    def forward(self, x, t):
        return self.layers(x.long()).view(len(x), self.config.length, self.config.letters)
'''
REGISTERED = """[biotilt.measures]
purine_share = strange_parts:PurineShare
[biotilt.tasks]
purines = strange_parts:Purines
[biotilt.spaces]
upside = strange_parts:Upside
[biotilt.values]
worst = strange_parts:Worst
[biotilt.samplers]
twice = strange_parts:Twice
[biotilt.rewards]
count_a = strange_parts:CountA
worse = strange_parts:Worse
[biotilt.networks]
plain = strange_parts:Plain
"""


def install(folder: Path, entry_points: str, package: str = "strange-parts") -> None:
    """Lay a package and its metadata into a folder, as pip would."""
    (folder / "strange_parts.py").write_text(PARTS, encoding="utf-8")
    about = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def biotilt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "biotilt.cli", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=folder)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package for this process, and forget it afterwards."""
    install(tmp_path, REGISTERED)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_points", None)
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    yield tmp_path
    sys.modules.pop("strange_parts", None)


def test_plug_ins_are_listed(tmp_path):
    install(tmp_path, REGISTERED)
    listed = json.loads(biotilt(tmp_path, "list", "--json").stdout)
    assert listed["samplers"]["twice"] == "Parts of another package."
    assert listed["networks"]["plain"] == "Two layers over everything."
    assert listed["measures"]["purine_share"] == "Share of A and G."
    assert listed["rewards"]["count_a"] == "The number of A in a design."


def test_a_sampler_and_a_reward_are_used(installed):
    (installed / "e.toml").write_text(
        'task = "utr"\n[reward]\nkind = "count_a"\noptions = { factor = 2.0 }\n[held_out]\nkind = "none"\n'
        '[sampler]\nname = "twice"\n',
        encoding="utf-8",
    )
    found = steer(Experiment.load(installed / "e.toml"), 3).document()
    assert len(found["designs"]) == 6
    assert found["rewards"] == [2.0 * design.count("A") for design in found["designs"]]


def test_a_network_is_built_stored_and_loaded_where_its_package_is(installed):
    net = NETWORKS.of_table({"name": "plain", "letters": 4, "length": 3})
    model = Model(Policy(AnyOrder(3, 4), net), Letters(DNA))
    model.save(installed / "m.safetensors")
    assert Model.load(installed / "m.safetensors").sample(4) == model.sample(4)
    (installed / "strange_parts-1.0.dist-info/entry_points.txt").write_text("", encoding="utf-8")
    del NETWORKS["plain"]  # as in a process that has not loaded it
    with pytest.raises(CheckpointError, match='unknown network "plain"; valid: cnn, '):
        Model.load(installed / "m.safetensors")


def test_a_reward_is_made_of_parts(installed):
    keys = {"task": "utr", "held_out": {"kind": "none"}, "reward": {"kind": "worse"}}
    keys["reward"]["parts"] = [{"kind": "count_a", "weight": 2.0}, {"kind": "gc", "options": {"low": 1.0, "high": 1.0}}]
    reward = Experiment.from_dict(keys, installed).reward
    assert reward(["AC", "GGCC", "CC"]) == [min(2.0, reward_gc) for reward_gc in (-0.5, 0.0, 0.0)]
    with pytest.raises(ConfigError, match=r"reward\.parts: a worse needs parts"):
        Experiment.from_dict(keys | {"reward": {"kind": "worse"}}, installed)
    with pytest.raises(ConfigError, match='"worse" is built from more than options'):
        build("worse", {})


def test_a_task_is_a_folder_of_files(installed):
    Model(Policy(AnyOrder(4, 4), CNN(CNNConfig(4, 4))), Letters(DNA)).save(installed / "generator.safetensors")
    keys = 'alpha = 0.3\n[model]\npath = "@TASK@/generator.safetensors"\n[reward]\nkind = "count_a"\n'
    (installed / "task.toml").write_text(keys, encoding="utf-8")
    experiment = Experiment.for_task("purines", train={"max_calls": 64})
    assert experiment.config.alpha == 0.3 and experiment.reward(["AAGA"]) == [3.0]
    assert {m.key: m(["AAGA", "ACGT"]) for m in task_measures(experiment.config)} == {"a": 2.0}
    assert 'task = "purines"' in find_task("purines").starter()
    assert TASKS.summaries()["purines"] == "Four letters, mostly A and G."
    with pytest.raises(ConfigError, match='task: unknown task "purine"; did you mean "purines"'):
        Experiment.for_task("purine")


def test_a_measure_is_named_in_a_file_and_is_code_of_somebody_else(installed):
    keys = {"task": "utr", "measures": [{"kind": "purine_share", "options": {"factor": 2.0}, "header": "R"}]}
    experiment = Experiment.from_dict(keys, installed)
    (own,) = experiment.measures
    assert (own.header, own(["AGCT", "AA"])) == ("R", 2 * 4 / 6)
    assert code_of(experiment.config) == ['the measure "purine_share" of a plug-in']
    (installed / "about.txt").write_text("What it is.", encoding="utf-8")
    section = {"kind": "purine_share", "options": {"about": "about.txt"}}
    told = Experiment.from_dict({"task": "utr"}, installed, measures=[section])
    assert told.measures[0].meaning == "What it is.", "paths start at the folder of the experiment"
    with pytest.raises(ConfigError, match=r"measures\.0\.options\.facter: unknown"):
        Experiment.from_dict(keys | {"measures": [{"kind": "purine_share", "options": {"facter": 1}}]}, installed)


def test_a_space_is_stored_with_its_generator(installed):
    upside = build_space({"kind": "upside", "vocabulary": ["G", "CC"]})
    Model(Policy(AnyOrder(3, 2), CNN(CNNConfig(2, 3))), upside).save(installed / "m.safetensors")
    space = Model.load(installed / "m.safetensors").space
    assert space == upside and space.decode(torch.tensor([[0, 0, 1]])) == ["CCGG"]


def test_a_value_has_options_and_goes_with_every_algorithm_that_takes_its_kind(installed):
    keys = {"task": "utr", "held_out": {"kind": "none"}, "value": {"guesses": 3}}
    objective = {"name": "vidd", "value": "worst", "teacher": "sampled"}
    _, value = objective_and_value(Experiment.from_dict(keys | {"objective": objective}, installed))
    assert (type(value).__name__, value.guesses) == ("Worst", 3)
    steered = Experiment.from_dict(keys | {"sampler": {"name": "smc", "value": "worst"}}, installed)
    assert sampler_and_value(steered)[1] == value
    with pytest.raises(ConfigError, match=r"values that are a function of the state.* values that do: state$"):
        check_parts(PathConsistency(), Parts(AnyOrder(3, 4), value, known_values=REGISTRIES["values"].values()))
    with pytest.raises(ConfigError, match=r"value\.guesses: must be ≥ 1"):
        Experiment.from_dict(keys | {"objective": objective, "value": {"guesses": 0}}, installed)


@pytest.mark.parametrize(
    ("entry_points", "message"),
    [
        ("smc = strange_parts:Twice", "that name is taken"),
        ("thrice = strange_parts:Twice", 'calls itself "twice"'),
        ("twice = strange_parts:Nothing", "cannot be loaded"),
        ("twice = strange_parts", "must be a class"),
    ],
)
def test_a_faulty_plug_in_is_named(installed, entry_points, message):
    points = installed / "strange_parts-1.0.dist-info/entry_points.txt"
    points.write_text(f"[biotilt.samplers]\n{entry_points}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        SAMPLERS.summaries()
    assert "strange-parts" in str(caught.value)


def test_a_faulty_plug_in_harms_only_who_names_it(installed):
    points = "[biotilt.samplers]\nbroken = no_such_package:A\n[biotilt.rewards]\ncount_a = strange_parts:CountA\n"
    (installed / "strange_parts-1.0.dist-info/entry_points.txt").write_text(points, encoding="utf-8")
    keys = {"task": "utr", "reward": {"kind": "count_a"}, "held_out": {"kind": "none"}}
    assert Experiment.from_dict(keys, installed).config.build_sampler() == SMC()
    with pytest.raises(ConfigError, match=r"no_such_package:A of strange-parts cannot be loaded .ModuleNotFoundError"):
        Experiment.from_dict(keys | {"sampler": {"name": "broken"}}, installed)


def test_two_packages_that_take_one_name_are_both_named(installed):
    install(installed, REGISTERED, "other-parts")
    with pytest.raises(ConfigError, match='both register "twice" among the samplers; uninstall one') as caught:
        SAMPLERS.summaries()
    assert "strange-parts" in str(caught.value) and "other-parts" in str(caught.value)
