"""A density known up to its constant: log Z and moments from an untrained base, against closed forms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from biotilt import Experiment, Model, load_model
from biotilt.config import checked_keys
from biotilt.core import Policy
from biotilt.digits import pretty
from biotilt.errors import ConfigError, UntrustedRun
from biotilt.models.reference import Reference, log_density
from biotilt.models.sources import MODELS
from biotilt.steering import Steered, steer
from biotilt.testing import Mixture
from biotilt.trust import code_of
from biotilt.wiring import build_trainer

LOG_MASS = math.log(3.0)
GAUSSIAN = Mixture(torch.ones(1), torch.tensor([[1.2, -0.9]]), torch.tensor([[[0.6, 0.2], [0.2, 0.35]]]))
SKEWED = Mixture(
    torch.tensor([0.7, 0.3]), torch.tensor([[1.0, -0.3], [-1.1, 0.6]]),
    torch.tensor([[[0.5, 0.1], [0.1, 0.7]], [[0.4, 0.0], [0.0, 0.3]]]),
)  # fmt: skip
MINE = """
import math, numpy as np, torch

LOG_MASS = math.log(3.0)

def log_rho(x):
    '''3 N(m, C), m = (1.2, -0.9), C = [[0.6, 0.2], [0.2, 0.35]]'''
    away = x - x.new_tensor([1.2, -0.9])
    precision = torch.linalg.inv(x.new_tensor([[0.6, 0.2], [0.2, 0.35]]))
    return LOG_MASS - (away @ precision * away).sum(-1) / 2 - math.log(2 * math.pi) - math.log(0.6 * 0.35 - 0.04) / 2

def in_numpy(x):
    return np.asarray(-(x**2).sum(-1), dtype=np.float64) if isinstance(x, np.ndarray) else x.numpy()

def scalar(x):
    return 0.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def keys(**more: object) -> dict[str, object]:
    options = {"size": 2, "scale": 1.3, "steps": 12, "width": 32, "depth": 2}
    return {
        "alpha": 1.0, "model": {"source": "reference", "options": options},
        "reward": {"kind": "log_density", "function": "mine.py:log_rho"}, "sampler": {"name": "importance"},
        "objective": {"name": "trajectory_balance"},
    } | more  # fmt: skip


def of_mixture(x: torch.Tensor) -> torch.Tensor:
    precision = SKEWED.covariances.inverse().to(x)
    away = x.unsqueeze(1) - SKEWED.means.to(x)
    each = -torch.einsum("bjd,jde,bje->bj", away, precision, away) / 2 - SKEWED.covariances.logdet().to(x) / 2
    return (each - math.log(2 * math.pi) + SKEWED.weights.log().to(x)).logsumexp(-1) + LOG_MASS


def tuned(experiment: Experiment) -> tuple[Model, list[dict[str, float]]]:
    trainer = build_trainer(experiment, None)
    net = trainer.run()
    return replace(experiment.model, policy=Policy(experiment.model.policy.process, net)), trainer.history


def check_answer(found: Steered, target: Mixture) -> None:
    """log Z, the mean and the covariance lie within four standard errors of the closed form."""
    assert found.log_z is not None and found.log_z_error is not None
    assert abs(found.log_z - LOG_MASS) < 4 * found.log_z_error
    points, weights = np.stack(found.designs), np.array(found.weights)
    mean, covariance = (part.numpy() for part in target.moments())
    away = points - mean
    outer = away[:, :, None] * away[:, None, :]
    for each, exact in ((points, mean), (outer, covariance)):
        estimate = np.tensordot(weights, each, 1)
        error = np.sqrt(np.tensordot(weights**2, (each - estimate) ** 2, 1))
        assert (np.abs(estimate - exact) < 4 * error).all()


CASES = {  # objective, and the learning rate of the policy
    "vidd": (
        {
            "name": "vidd", "value": "return", "updates": 40, "refresh": 40, "mirror": 0.3, "states": 256,
            "buffer": 512
        },
        0.003,
    ),
    "adjoint_matching": ({"name": "adjoint_matching", "updates": 20, "states": 256}, 0.01),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_gaussian_by_its_closed_form(name, folder):
    """Affine all through: after a few rounds the error of log Z is a fraction of the untrained base's."""
    objective, lr = CASES[name]
    train, value = {"max_calls": 3072, "batch": 256, "lr": lr}, {"lr": 0.01, "width": 64, "depth": 2}
    experiment = Experiment.from_dict(keys(objective=objective, value=value, train=train), folder)
    before = steer(experiment, 1000)
    model, _ = tuned(experiment)
    after = steer(experiment, 1000, proposal=model)
    for found in (before, after):
        check_answer(found, GAUSSIAN)
    assert before.log_z_error is not None and after.log_z_error is not None
    assert after.log_z_error < before.log_z_error / 1.7
    assert after.metrics["ess"] > before.metrics["ess"]


def test_a_skewed_mixture_by_trajectory_balance(folder):
    """Two modes of different weight and width; half of the chains are the base's, so that neither is lost."""
    objective = {"name": "trajectory_balance", "form": "learned", "beta": 0.5, "updates": 20, "chains": 64}
    train = {"max_calls": 3072, "batch": 256, "lr": 0.01}
    model = Reference(size=2, scale=1.3, steps=16, width=32, depth=2).build()
    made = keys(objective=objective, train=train, value={"lr": 0.1})
    experiment = Experiment.from_dict(made, folder, model=model, reward=log_density(model, of_mixture))
    before = steer(experiment, 1000)
    proposal, history = tuned(experiment)
    after = steer(experiment, 1000, proposal=proposal)
    for found in (before, after):
        check_answer(found, SKEWED)
    assert before.log_z_error is not None and after.log_z_error is not None
    assert after.log_z_error < before.log_z_error / 1.5
    assert abs(history[-1]["log_z"] - LOG_MASS) < 0.25  # learned: low by the KL that is left
    # one mode alone has log Z = log(3 · 0.7), which the error bar tells apart
    assert abs(math.log(3 * 0.7) - LOG_MASS) > 4 * after.log_z_error


def test_from_the_command_line(folder, biotilt_cli):
    (folder / "e.toml").write_text(
        'alpha = 1.0\n[model]\nsource = "reference"\noptions = { size = 2, scale = 1.3, steps = 6, width = 16 }\n'
        '[reward]\nkind = "log_density"\nfunction = "mine.py:log_rho"\n[sampler]\nname = "importance"\n'
        '[objective]\nname = "trajectory_balance"\nupdates = 5\n[train]\nmax_calls = 64\nbatch = 32\n'
    )
    run = folder / "run"

    def command(*words: object) -> str:
        result = biotilt_cli(*words)
        assert result.exit_code == 0, result.output + result.stderr
        return result.stdout

    command("tune", folder / "e.toml", "--folder", run)
    stored = load_model(run)
    assert np.stack(stored.sample(4, seed=1)).shape == (4, 2)
    base = Experiment.load(folder / "e.toml").model
    moved = [not torch.equal(a, b) for a, b in zip(stored.policy.net.parameters(), base.policy.net.parameters())]
    assert all(moved) and len(moved) == 8
    words = ("steer", folder / "e.toml", "--count", "50", "--proposal", run)
    told = json.loads(command(*words, "--json"))
    assert 0 < told["log_z_error"] < 1 and abs(told["log_z"] - LOG_MASS) < 5 * told["log_z_error"]
    assert f"log Z = {pretty(told['log_z'])} ± {told['log_z_error']:.2g}" in command(*words)


def test_the_reward_is_log_rho_over_the_base_by_hand(folder):
    model = Reference(size=2, scale=2.0).build()
    experiment = Experiment.from_dict(keys(), folder, model=model)
    found = experiment.reward([np.array([1.0, -3.0], dtype=np.float32)])
    log_rho = LOG_MASS + GAUSSIAN.log_prob(torch.tensor([[1.0, -3.0]])).item() - 0.0
    log_base = -(1 + 9) / (2 * 4) - 2 * math.log(2.0) - math.log(2 * math.pi)
    assert found[0] == pytest.approx(log_rho - log_base, rel=1e-5)
    assert experiment.reward.differentiable and experiment.reward.reads == "points"  # type: ignore[attr-defined]
    other = log_density(Reference(size=2, scale=2.1).build(), of_mixture)
    assert other.version != log_density(model, of_mixture).version


def test_held_coordinates_are_conditioned_on(folder):
    """Z is then ∫ρ over the free ones: of x1 = 0.5, here the marginal density of x1 times 3."""
    experiment = Experiment.from_dict(keys(design={"fixed": {"x1": "0.5"}}), folder)
    found = steer(experiment, 2000)
    marginal = -((0.5 - 1.2) ** 2) / (2 * 0.6) - math.log(2 * math.pi * 0.6) / 2
    assert found.log_z is not None and found.log_z_error is not None
    assert abs(found.log_z - LOG_MASS - marginal) < 4 * found.log_z_error < 0.2


def test_a_function_of_arrays_is_a_reward_without_gradients(folder):
    made = keys(reward={"kind": "log_density", "function": "mine.py:in_numpy"})
    experiment = Experiment.from_dict(made, folder)
    assert not experiment.reward.differentiable
    point = np.array([0.5, 1.5], dtype=np.float32)
    log_base = -2.5 / (2 * 1.3**2) - 2 * math.log(1.3) - math.log(2 * math.pi)
    assert experiment.reward([point])[0] == pytest.approx(-2.5 - log_base, rel=1e-5)
    made["objective"] = {"name": "adjoint_matching"}
    with pytest.raises(ConfigError, match="adjoint_matching differentiates the reward"):
        Experiment.from_dict(made, folder)


def test_what_cannot_be_is_refused(folder):
    with pytest.raises(ConfigError, match=r"reward: log_density: the function must .* return \(B,\)"):
        Experiment.from_dict(keys(reward={"kind": "log_density", "function": "mine.py:scalar"}), folder)
    with pytest.raises(ConfigError, match=r"reward\.function: this key is missing"):
        Experiment.from_dict(keys(reward={"kind": "log_density"}), folder)
    with pytest.raises(ConfigError, match=r'reward: a log_density is weighed .*source = "reference", not .*any_order'):
        Experiment.for_task("utr", reward={"kind": "log_density", "function": str(folder / "mine.py:log_rho")})
    trained = Reference(size=2).build()
    torch.nn.init.ones_(list(trained.policy.net.parameters())[-1])
    with pytest.raises(ConfigError, match="this network has been trained"):
        Experiment.from_dict(keys(), folder, model=trained)
    with pytest.raises(ConfigError, match=r'model\.source: unknown model "referense"; did you mean "reference"'):
        Experiment.from_dict(keys(model={"source": "referense", "options": {"size": 2}}), folder)
    with pytest.raises(ConfigError, match=r"model.options.size: "):
        Experiment.from_dict(keys(model={"source": "reference", "options": {"size": 0}}), folder)
    with pytest.raises(ConfigError, match=r"one of path, .* factory, .* and source"):
        Experiment.from_dict(keys(model={"source": "reference", "factory": "mine.py:load"}), folder)
    with pytest.raises(ConfigError, match=r"model\.options\.path"):
        Experiment.from_dict(keys(model={"source": "reference", "path": "x", "options": {"size": 2}}), folder)


class Elsewhere(Reference):
    """A source as a plug-in would bring it."""

    name = "elsewhere"

    def build(self) -> Model:
        built = super().build()
        assert built.origin is not None
        return replace(built, origin=replace(built.origin, source=self.name))


def test_a_source_of_a_plug_in_is_stored_by_name_and_needs_trust(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS._parts, "elsewhere", Elsewhere)
    path = tmp_path / "m.safetensors"
    model = Elsewhere(size=2, steps=5, width=8).build()
    torch.nn.init.constant_(list(model.policy.net.parameters())[-1], 0.5)
    model.save(path)
    with pytest.raises(UntrustedRun, match='its network is built by "elsewhere"'):
        Model.load(path)
    again = Model.load(path, trust=True)
    np.testing.assert_array_equal(np.stack(model.sample(3)), np.stack(again.sample(3)))
    assert code_of(checked_keys(keys(model={"source": "elsewhere"}))) == [
        'the model "elsewhere" of a plug-in', "the Python function mine.py:log_rho"
    ]  # fmt: skip
    assert code_of(checked_keys(keys())) == ["the Python function mine.py:log_rho"]


def test_the_network_is_the_same_every_time_and_leaves_random_numbers_alone():
    torch.manual_seed(5)
    first = Reference(size=3).build()
    drawn = torch.rand(1)
    torch.manual_seed(6)
    second = Reference(size=3).build()
    assert all(torch.equal(a, b) for a, b in zip(first.policy.net.parameters(), second.policy.net.parameters()))
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, biotilt_cli):
    page = (Path(__file__).parents[1] / "docs/densities.md").read_text(encoding="utf-8")
    for language, name in (("python", "mine.py"), ("toml", "mine.toml")):
        (tmp_path / name).write_text(page.partition(f"```{language}\n")[2].partition("```")[0])
    monkeypatch.chdir(tmp_path)
    for line in page.partition("```sh\n")[2].partition("```")[0].splitlines():
        result = biotilt_cli(*line.split()[1:])
        assert result.exit_code == 0, result.output + result.stderr
    log_z, error = (float(word) for word in result.stdout.partition("log Z = ")[2].split("\n")[0].split(" ± "))
    assert abs(log_z - math.log(3)) < 4 * error + 0.001 and error < 0.02
