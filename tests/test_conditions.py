"""Networks that take a condition: from wrap and files to a tuned run, in Python, TOML and on the command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import biotilt
from biotilt.assemble import sampler_and_value
from biotilt.cli import app
from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.models.conditions import Conditions
from biotilt.networks import CNN, CNNConfig
from biotilt.oracle import Store
from biotilt.processes import AnyOrder
from biotilt.samplers import SAMPLERS
from biotilt.spaces import as_space
from biotilt.tensors import load_tensors
from biotilt.training.callbacks import Callback

LINES = """
import torch, biotilt
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters = nn.Embedding(3, 4)  # liver, k562, and none of them

    def forward(self, tokens, c):
        return self.letters(c).unsqueeze(1).expand(-1, tokens.shape[1], -1)

def load():
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        net.letters.weight.copy_(torch.tensor([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 0]]))
    return biotilt.wrap(net, space="dna", length=6, process="any_order", conditions=["liver", "k562"], unconditional=2)

def share_of_g(designs):
    return [design.count("G") / len(design) for design in designs]
"""

EXPERIMENT = """
alpha = 0.05
[model]
factory = "mine.py:load"
condition = {condition}
guidance = {guidance}
[reward]
kind = "python"
function = "mine.py:share_of_g"
[objective]
name = "{objective}"
[train]
max_calls = 96
batch = 32
[output]
samples = 32
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "mine.py").write_text(LINES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def experiment(folder: Path, condition: str, guidance: float = 0.0, objective: str = "ppo") -> biotilt.Experiment:
    text = EXPERIMENT.format(condition=condition, guidance=guidance, objective=objective)
    # what another process makes of the network is tried in tests/test_own_network.py, and takes seconds
    return biotilt.Experiment.from_dict(tomllib.loads(text), folder, "own.toml", text, proven=True)


def share(designs: list[str], letter: str) -> float:
    return sum(design.count(letter) for design in designs) / sum(map(len, designs))


def law_of_a_letter(model: Model) -> Tensor:
    process = model.policy.process
    x = process.noise(1, torch.Generator().manual_seed(0))
    return model.policy.kernel(x, 0).x0[0, 0].exp()


def test_the_network_is_told_the_condition(folder):
    # letters are A, C, G, T; liver is told 3 for A, k562 3 for C
    for name, place in (("liver", 0), ("k562", 1)):
        model = experiment(folder, f'"{name}"').model
        logits = torch.zeros(4)
        logits[place] = 3.0
        assert torch.allclose(law_of_a_letter(model), logits.softmax(0), atol=1e-6)
        guided = model.with_condition(name, guidance=0.5)
        assert torch.allclose(law_of_a_letter(guided), (1.5 * logits).softmax(0), atol=1e-6)
        assert torch.allclose(law_of_a_letter(model.with_condition(None)), torch.full((4,), 0.25), atol=1e-6)


@pytest.mark.parametrize(
    ("condition", "guidance", "message"),
    [
        ('"livr"', 0.0, r'model\.condition: .*no condition "livr".*did you mean "liver"'),
        ("3", 0.0, r'model\.condition: .*no condition "3"'),
        ('["liver", "liver"]', 0.0, r"model\.condition: a condition is named twice"),
        ('{ liver = 1, k562 = -1 }', 0.0, r"model\.condition: the shares"),
        ('"liver"', -1.0, r"guidance.*≥ 0|guidance.*must be"),
        ("[]", 0.0, r"model\.condition: name at least one"),
    ],
)  # fmt: skip
def test_a_condition_is_checked_before_any_call(folder, condition, guidance, message):
    with pytest.raises(ConfigError, match=message):
        experiment(folder, condition, guidance)


def test_guidance_asks_for_what_it_needs(folder):
    with pytest.raises(ConfigError, match="name one"):
        biotilt.Experiment.from_dict(
            {"alpha": 1, "model": {"factory": "mine.py:load", "guidance": 1.0}, "reward": {"kind": "gc"}}, folder
        )
    with pytest.raises(ConfigError, match="unconditional"):
        wrapped(unconditional=None).with_condition("a", guidance=1.0)
    with pytest.raises(ConfigError, match="takes no condition"):
        biotilt.wrap(Plain(), space="dna", length=3).with_condition("a")
    with pytest.raises(ConfigError, match="needs a condition"):
        wrapped(unconditional=None).sample(1)


class Plain(nn.Module):
    def forward(self, tokens):
        return torch.zeros(*tokens.shape, 5)


class Numbers(nn.Module):
    """Logits that the condition alone decides."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, tokens: Tensor, told: Tensor) -> Tensor:
        return (self.scale * told.reshape(len(told), -1)[:, :4]).unsqueeze(1).expand(-1, tokens.shape[1], -1)


def wrapped(**options) -> Model:
    given = {"conditions": ["a", "b"], "call": lambda net, x, t, c: net(x, c.unsqueeze(-1).expand(-1, 4).float())}
    return biotilt.wrap(Numbers(), space="dna", length=3, **(given | options))


def test_conditions_may_be_tensors_or_any_numbers():
    backbones = {"1ycr": torch.tensor([2.0, 0, 0, 0]), "2abc": torch.tensor([0, 0, 0, 5.0])}
    model = wrapped(conditions=backbones, unconditional=torch.zeros(4), call=lambda net, x, t, c: net(x, c))
    for name, backbone in backbones.items():
        assert torch.allclose(law_of_a_letter(model.with_condition(name)), backbone.softmax(0), atol=1e-6)
    numbers = wrapped(
        conditions="numbers", call=lambda net, x, t, c: net(x, c.unsqueeze(-1) * torch.tensor([1.0, 0, 0, 0]))
    )
    expected = torch.tensor([0.7, 0, 0, 0]).softmax(0)
    assert torch.allclose(law_of_a_letter(numbers.with_condition(0.7)), expected, atol=1e-6)
    with pytest.raises(ConfigError, match='told numbers, and "warm" is none'):
        numbers.with_condition("warm")


@pytest.mark.parametrize(
    ("given", "unconditional", "message"),
    [
        (["a", "a"], None, "different labels"),
        ("liver", None, "different labels"),
        ([], None, "different labels"),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, None, "has the shape"),
        ({"a": torch.zeros(2)}, 0.0, 'unconditional" has the shape'),
        ({"a": object()}, None, "no tensor"),
        (["a\tb"], None, "one line"),
    ],
)
def test_conditions_that_cannot_be(given, unconditional, message):
    with pytest.raises(ConfigError, match=message):
        Conditions.of(given, unconditional)


def ours(classes: int = 2) -> Model:
    torch.manual_seed(0)
    net = CNN(CNNConfig(4, 6, 8, 1, 3, conditions=classes))
    nn.init.normal_(net.condition.weight, std=2.0)
    names = [f"tissue {place}" for place in range(classes)]
    return Model(
        Policy(AnyOrder(6, 4), net.eval()),
        as_space("dna"),
        conditions=Conditions.of(names, unconditional=classes),
    )


@pytest.mark.parametrize("condition", ["tissue 1", {"tissue 1": 0.25, "tissue 0": 0.75}])
def test_a_file_keeps_what_its_network_is_told(tmp_path, condition):
    model = ours().with_condition(condition, guidance=0.5)
    model.save(tmp_path / "model.safetensors")
    loaded = Model.load(tmp_path / "model.safetensors")
    assert loaded.told == model.told
    assert loaded.policy.process == model.policy.process
    assert loaded.sample(8) == model.sample(8)
    assert loaded.conditions_of(loaded.draw(8)) == model.conditions_of(model.draw(8))
    tensors, about = load_tensors(tmp_path / "model.safetensors")
    assert about["conditions"] == ["tissue 0", "tissue 1"]
    assert not [name for name in tensors if name.startswith("net.")]  # the network is the one it was
    other = loaded.with_condition("tissue 0")
    assert other.sample(8) == ours().with_condition("tissue 0").sample(8)


def test_a_held_pattern_goes_with_a_condition():
    for condition in ("tissue 1", ["tissue 1", "tissue 0"]):
        model = ours().with_condition(condition)
        held = model.with_fixed(model.fixed("GC...."))
        assert all(design.startswith("GC") for design in held.sample(6))
        assert held.told == model.told


def test_shares_of_conditions():
    model = ours(3).with_condition({"tissue 2": 3, "tissue 0": 1})
    told = model.conditions_of(model.draw(2000))
    assert set(told) == {"tissue 2", "tissue 0"}
    assert told.count("tissue 2") / 2000 == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("condition", ['"k562"', '["liver", "k562"]'])
def test_a_run_is_resumed_bit_for_bit_and_loaded_with_its_condition(folder, condition):
    whole = biotilt.tune(experiment(folder, condition, 0.5), "whole")

    class Interrupted(Callback):
        def on_round(self, row, history):
            if row["round"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        biotilt.tune(experiment(folder, condition, 0.5), "parts", callbacks=[Interrupted()])
    parts = biotilt.resume("parts")
    assert parts.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    for ours, theirs in zip(whole.model.policy.net.parameters(), parts.model.policy.net.parameters()):
        assert torch.equal(ours, theirs)
    loaded = biotilt.load_model("parts")
    assert loaded.told == whole.model.told
    assert loaded.sample(8) == whole.model.sample(8)
    assert Path("parts/tuned.safetensors").is_file()


def test_the_command_line_draws_with_a_condition(folder):
    ours().save(folder / "model.safetensors")
    run = CliRunner().invoke

    def drawn(*words: str) -> dict:
        result = run(app, ["sample", "model.safetensors", "--count", "50", "--json", *words])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    one = drawn("--condition", "tissue 1", "--guidance", "2")
    assert one["designs"] == ours().with_condition("tissue 1", guidance=2.0).sample(50)
    assert set(one["conditions"]) == {"tissue 1"}
    several = drawn("--condition", "tissue 1", "--condition", "tissue 0")
    assert set(several["conditions"]) == {"tissue 0", "tissue 1"}
    assert "conditions" not in drawn()
    assert run(app, ["sample", "model.safetensors", "--condition", "tissue 1", "--out", "d.csv"]).exit_code == 0
    assert (folder / "d.csv").read_text().splitlines()[0].endswith("condition")
    wrong = run(app, ["sample", "model.safetensors", "--guidance", "2"])
    assert wrong.exit_code == 2


def wanted(designs: list[str], conditions: list[str]) -> list[float]:
    """The share of G where the liver is asked for, of T elsewhere."""
    letters = {"liver": "G", "k562": "T"}
    return [design.count(letters[c]) / len(design) for design, c in zip(designs, conditions)]


@pytest.mark.slow
def test_a_reward_may_read_the_condition(folder):
    text = tomllib.loads(EXPERIMENT.format(condition='["liver", "k562"]', guidance=0.0, objective="ppo"))
    del text["reward"]
    experiment = biotilt.Experiment.from_dict(text, folder, reward=wanted, proven=True)
    run = biotilt.tune(experiment, "run")
    scored = run.scored
    assert (~scored["cached"]).sum() == run.history["calls"].iloc[-1]
    assert set(scored["condition"]) == {"liver", "k562"}
    assert all(len(design) == 6 for design in scored["design"])
    table = run.evaluate(samples=32) and (folder / "run/designs.csv").read_text().splitlines()
    names = table[0].split(",")
    rows = [dict(zip(names, line.split(","))) for line in table[1:]]
    assert {row["condition"] for row in rows} == {"liver", "k562"}
    for row in rows:  # the table says what the reward says of this design under this condition
        design = row.get("sequence", row.get("design", ""))
        assert float(row["optimised"]) == pytest.approx(wanted([design], [row["condition"]])[0], abs=1e-6)


def test_scores_are_kept_by_condition_only_where_the_reward_reads_it(folder):
    asked = []

    def reading(designs, conditions):
        asked.extend(zip(map(str, designs), conditions))
        return [float(len(c)) for c in conditions]

    def blind(designs):
        asked.extend(designs)
        return [1.0 for _ in designs]

    model = ours().with_condition(["tissue 1", "tissue 0"])
    same = model.space.encode(["ACGTAC", "ACGTAC"])
    x = model.policy.process.mark.write(same, torch.tensor([0, 1]))
    for reward, calls in ((reading, 2), (blind, 1)):
        asked.clear()
        keys = {"alpha": 1.0, "objective": {"name": "ppo"}, "model": {"path": "unused"}}
        experiment = biotilt.Experiment.from_dict(keys, folder, model=model, reward=reward, proven=True)
        oracle = experiment.oracles.of(experiment.reward, Store(None), "run")
        oracle(x)
        assert oracle.calls == calls
    assert asked == ["ACGTAC"]


def test_a_reward_that_reads_conditions_needs_one(folder):
    keys = {"alpha": 1.0, "objective": {"name": "ppo"}, "model": {"path": "unused"}}
    with pytest.raises(ConfigError, match="reads the conditions"):
        biotilt.Experiment.from_dict(keys, folder, model=ours(), reward=wanted, proven=True)


def test_several_conditions_are_refused_where_designs_are_weighed(folder):
    keys = {"alpha": 1.0, "objective": {"name": "ppo"}, "sampler": {"name": "smc"}, "reward": {"kind": "gc"}}
    model = ours().with_condition(["tissue 1", "tissue 0"])
    experiment = biotilt.Experiment.from_dict(keys, folder, model=model, proven=True)
    with pytest.raises(ConfigError, match=r"smc weighs designs against each other.*name one condition"):
        sampler_and_value(experiment)
    for objective in ({"name": "sdpo"}, {"name": "ppo", "advantage": "group"}):
        with pytest.raises(ConfigError, match="name one condition"):
            biotilt.Experiment.from_dict(keys | {"objective": objective}, folder, model=model, proven=True)


@pytest.mark.parametrize("name", SAMPLERS)
def test_steering_takes_one_condition_at_a_time(name):
    """Every sampler either refuses several before a design is scored, or is told one and draws for it."""
    asked: list[str] = []

    def counted(designs):
        asked.extend(designs)
        return [float(design.count("G")) for design in designs]

    keys = {"alpha": 1.0, "objective": {"name": "ppo"}, "sampler": {"name": name}, "model": {"path": "unused"}}
    both = ours().with_condition(["tissue 1", "tissue 0"])
    experiment = biotilt.Experiment.from_dict(keys, Path(), model=both, reward=counted, proven=True)
    with pytest.raises(ConfigError, match=rf"{name} weighs designs against each other.*name one condition"):
        biotilt.steer(experiment, 4)
    assert not asked


def test_a_steered_design_knows_its_condition():
    keys = {"alpha": 1.0, "sampler": {"name": "smc"}, "model": {"path": "unused"}, "reward": {"kind": "gc"}}
    model = ours().with_condition("tissue 1")
    found = biotilt.steer(biotilt.Experiment.from_dict(keys, Path(), model=model, proven=True), 4)
    assert [design.condition for design in found.designs] == ["tissue 1"] * 4


def test_the_command_line_refuses_to_steer_under_several(folder):
    ours().save(folder / "model.safetensors")
    (folder / "e.toml").write_text(
        'alpha = 1.0\n[model]\npath = "model.safetensors"\ncondition = ["tissue 1", "tissue 0"]\n'
        '[reward]\nkind = "gc"\n[objective]\nname = "ppo"\n'
    )
    result = CliRunner().invoke(app, ["steer", "e.toml", "--count", "4"])
    assert result.exit_code == 2
