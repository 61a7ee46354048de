"""A network of the user's own, from a folder outside the repository, through every command."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import biotilt
from biotilt.assemble import sampler_and_value
from biotilt.core import Roles
from biotilt.errors import ConfigError, UntrustedRun
from biotilt.models import checks
from biotilt.models.origin import FactoryOrigin
from biotilt.tensors import load_tensors
from fresh_processes import Fresh

LINES = '''
import torch, biotilt
from torch import nn

class Net(nn.Module):
    """A masked language model whose head is its embedding, half of it frozen, with dropout."""
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(300, 32)
        self.mix = nn.Conv1d(32, 32, 3, padding=1)
        self.up = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 32))
        self.head = nn.Linear(32, 300, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.2)
        self.embed.weight.requires_grad_(False)
        self.mix.requires_grad_(False)

    def forward(self, tokens):
        h = self.embed(tokens)
        h = h + torch.relu(self.mix(h.transpose(1, 2)).transpose(1, 2))
        return self.head(h + self.up(h))

def load():
    torch.manual_seed(0)
    ids = {"T": 7, "A": 250, "C": 31, "G": 299}
    return biotilt.wrap(Net(), space="dna", length=12, process="any_order", ids=ids, mask_id=4)

def share_of_g(designs):
    return [design.count("G") / len(design) for design in designs]
'''

EXPERIMENT = """
alpha = 0.02
[model]
factory = "mine.py:load"
[reward]
kind = "python"
function = "mine.py:share_of_g"
[value]
lr = 0.003
[train]
max_calls = 192
batch = 32
[output]
samples = 32
"""


FROM_FILE = """
from pathlib import Path
from biotilt.options import PathText

def load_from(seed: PathText, note: str = ""):
    Path(seed).read_text()
    return load()
"""


def test_a_file_among_the_options_of_a_factory_starts_at_the_folder_of_the_experiment(folder, monkeypatch, tmp_path):
    (folder / "from_file.py").write_text(LINES + FROM_FILE)
    (folder / "seed.txt").write_text("0")
    options = 'factory = "from_file.py:load_from"\noptions = { seed = "seed.txt", note = "seed.txt" }'
    (folder / "own.toml").write_text(EXPERIMENT.replace('factory = "mine.py:load"', options))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    origin = biotilt.Experiment.load(folder / "own.toml").model.origin
    assert isinstance(origin, FactoryOrigin)
    assert origin.options == {"seed": str(folder / "seed.txt"), "note": "seed.txt"}, "a note is no file"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(LINES)
    (tmp_path / "own.toml").write_text(EXPERIMENT)
    return tmp_path


def command(folder: Path, *words: str) -> Fresh:
    environment = os.environ | {"PYTHONPATH": str(Path(biotilt.__file__).parents[1])}
    return Fresh("-m", "biotilt.cli", *words, cwd=folder, environment=environment)


def run(folder: Path, *words: str) -> str:
    process = command(folder, *words)
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out


@pytest.mark.slow
def test_from_check_to_evaluate(folder):
    checked = json.loads(run(folder, "check", "own.toml", "--json"))
    tuning = command(folder, "tune", "own.toml", "--folder", "run")
    while not (folder / "run/checkpoint.safetensors").is_file() and tuning.poll() is None:
        time.sleep(0.05)
    tuning.send_signal(signal.SIGKILL)
    tuning.communicate()
    run(folder, "tune", "--resume", "run")
    designs = json.loads(run(folder, "sample", "run", "--count", "64", "--json"))["designs"]
    before = checked["base"]["optimised"]["mean"]
    after = sum(design.count("G") for design in designs) / (64 * 12)
    assert after > before + 0.25
    run(folder, "steer", "own.toml", "--count", "4", "--proposal", "run", "--out", "steered.csv", "--no-page")
    run(folder, "evaluate", "run")
    assert (folder / "run/report.html").is_file()


def test_only_what_can_be_trained_is_stored_and_frozen_weights_stay(folder, monkeypatch):
    monkeypatch.chdir(folder)
    experiment = biotilt.Experiment.load("own.toml", overrides=["train.max_calls=32"])
    tuned = biotilt.tune(experiment, "run").model
    base = experiment.model.policy.net
    stored, about = load_tensors(folder / "run/tuned.safetensors")
    own = {name for name, p in base.named_parameters() if p.requires_grad}
    assert stored.keys() == own == {f"net.up.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias")}
    assert about["origin"]["factory"] == f"{folder / 'mine.py'}:load"
    for name, parameter in tuned.policy.net.named_parameters():
        changed = not torch.equal(parameter, base.get_parameter(name))
        assert changed == (name in own), name
    saved, _ = load_tensors(folder / "run/checkpoint.safetensors")
    weights = {key.partition("/")[2] for key in saved if key.startswith(("policy/", "proposal/", "average/"))}
    assert weights == own


def test_a_strangers_file_runs_nothing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    model = biotilt.Experiment.load("own.toml").model
    model.save(folder / "model.safetensors")
    with pytest.raises(UntrustedRun, match=r"mine\.py:load.*factory=.*--trust"):
        biotilt.load_model("model.safetensors")
    for loaded in (
        biotilt.load_model("model.safetensors", trust=True),
        biotilt.load_model("model.safetensors", factory=lambda: model),
    ):
        assert loaded.sample(3) == model.sample(3)


def small(**changes) -> biotilt.Model:
    return biotilt.wrap(Net(**changes), space="dna", length=4, process="any_order")


class Net(nn.Module):
    def __init__(self, rows: int = 5, outputs: int = 4, chance: bool = False, batch: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(rows, 8), nn.Linear(8, outputs)
        self.chance, self.batch = chance, batch

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens.long())
        if self.chance:
            h = nn.functional.dropout(h, 0.5, training=True)
        return self.out(h - h.mean(0) if self.batch else h)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 4}, "cannot read a state.*is the mask a token that it knows"),
        ({"outputs": 5}, r"reads \(4, 4, 4\).*returns \(4, 4, 5\)"),
        ({"chance": True}, "two answers to one question: dropout"),
        ({"batch": True}, "batch statistics act"),
        ({}, r"Foreign is not one of biotilt's networks.*factory="),
    ],
)
def test_what_would_go_wrong_later_is_refused_first(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes).check()


def test_a_factory_that_draws_other_weights_each_time_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "mine.py").write_text(LINES.replace("torch.manual_seed(0)", "torch.seed()"))
    with pytest.raises(ConfigError, match=r"not those that this was tuned with|not the same"):
        biotilt.Experiment.load("own.toml")


def test_an_interpreter_of_its_own_builds_the_network_again(folder, monkeypatch, built_again_by_an_interpreter):
    asked = []

    def run_python(*words):
        asked.append(built_again_by_an_interpreter(*words))
        return asked[-1]

    monkeypatch.chdir(folder)
    monkeypatch.setattr(checks, "run_python", run_python)
    model = biotilt.Experiment.load("own.toml").model
    (done,) = asked
    assert done.args[0] == sys.executable and done.returncode == 0
    # the number is of the network with all that is trained moved by 0.01
    assert float(done.stdout) != pytest.approx(checks.answer(model.policy), rel=1e-3)
    with torch.no_grad():
        for name in ("net.up.0.weight", "net.up.0.bias", "net.up.3.weight", "net.up.3.bias"):
            model.policy.net.get_parameter(name).add_(0.01)
    assert float(done.stdout) == pytest.approx(checks.answer(model.policy), rel=1e-4)


def test_roles_of_a_wrapped_network_share_its_frozen_half(folder, monkeypatch):
    monkeypatch.chdir(folder)
    base = biotilt.Experiment.load("own.toml").model.policy
    roles = Roles.start(base)
    for role in (roles.policy, roles.proposal, roles.base):
        ours, theirs = (net.get_parameter("net.embed.weight") for net in (role.net, base.net))
        assert ours.data_ptr() == theirs.data_ptr()


def test_what_differentiates_in_the_states_is_refused_before_any_call(folder, monkeypatch):
    monkeypatch.chdir(folder)
    asked: list[str] = []

    class Score:
        name, version, differentiable = "score", "1", True

        def __call__(self, designs):
            asked.extend(designs)
            return [0.0 for _ in designs]

        def score_one_hot(self, x):
            return x.sum((1, 2))

    with pytest.raises(ConfigError, match=r"backprop differentiates the network in its states, and this one reads"):
        biotilt.Experiment.load("own.toml", overrides=["objective.name=backprop"], reward=Score())
    assert not asked
    sampler_and_value(biotilt.Experiment.load("own.toml", overrides=["sampler.name=guidance"], reward=Score()))


class Stepped(nn.Module):
    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        return x


def test_a_timestep_may_count_to_a_thousand_so_it_is_not_taken_for_the_time():
    with pytest.raises(ConfigError, match=r"takes \(x, timestep\), and it is not clear.*call=lambda"):
        biotilt.wrap(Stepped(), space="dna", length=4)
