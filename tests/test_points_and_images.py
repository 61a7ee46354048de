"""Points and images from the command line to the page, and points against the closed form."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from biotilt import Experiment, Model, load_model
from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.processes import Gaussian
from biotilt.spaces import Points
from biotilt.steering import steer
from biotilt.testing.gaussian import Mixture, MixtureDenoiser, affine_law

REWARDS = """
import biotilt

@biotilt.reward(reads="points", differentiable=True)
def east(x):
    return x[:, 0]

def grey(images):
    return [float(image.mean()) for image in images]

@biotilt.measure(per_design=True)
def first(design):
    "The first number of a design."
    return design.ravel()[0]
"""


@pytest.fixture
def command(biotilt_cli):
    """Run a command that has to succeed."""

    def run(*words):
        result = biotilt_cli(*words)
        assert result.exit_code == 0, result.output + result.stderr

    return run


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    points = draw.normal([10, -2], [3, 0.5], (60, 2))
    (tmp_path / "p.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in points))
    np.save(tmp_path / "i.npy", draw.uniform(0, 0.4, (60, 4, 4)))
    (tmp_path / "mine.py").write_text(REWARDS)
    return tmp_path


def experiment(folder, name, function, objective, more=""):
    (folder / f"{name}.toml").write_text(
        f'alpha = 0.5\n[model]\npath = "{name}.safetensors"\n'
        f'[reward]\nkind = "python"\nfunction = "mine.py:{function}"\n'
        f'[objective]\nname = "{objective}"\nupdates = 2\n{more}\n[train]\nmax_calls = 32\nbatch = 16\n'
        '[sampler]\nname = "importance"\n[output]\nsamples = 64\n'
    )
    return folder / f"{name}.toml"


@pytest.mark.parametrize(
    ("name", "data", "function", "objective", "pretrain"),
    [
        ("points", "p.csv", "east", "adjoint_matching", ["--process", "flow"]),
        ("images", "i.npy", "grey", "ppo", ["--set", "network.channels=8", "--num-steps", "10"]),
    ],
)
def test_from_pretraining_to_the_page(command, folder, name, data, function, objective, pretrain):
    model = folder / f"{name}.safetensors"
    command("pretrain", folder / data, "--space", name, "--out", model, "--steps", "30", *pretrain)
    more = '[[measures]]\nfunction = "mine.py:first"\n'
    file = experiment(folder, name, function, objective, more)
    command("check", file)
    run = folder / "run"
    command("tune", file, "--folder", run)
    summary = json.loads((run / "summary.json").read_text())
    assert [row["name"] for row in summary["rows"]][::2] == ["base", "tuned"] and not summary["problems"]
    assert all(row["length"] is None and row["distance"] > 0 for row in summary["rows"])
    first = [float(line["first"]) for line in csv.DictReader((run / "designs.csv").open())]
    assert summary["rows"][2]["more"]["first"] == pytest.approx(sum(first) / len(first), abs=1e-6)
    page = (run / "report.html").read_text()
    assert "The first number of a design." in page and "positions at which" not in page
    assert "the Euclidean distance between them" in page
    assert "What the designs look like" in page and ("<circle" in page or "data:image/png" in page)
    titles = re.findall(r'font-size="14">([^<]+)</text>', page)
    assert titles == ["Base", "Best of N", "Tuned"]
    assert (run / "designs.csv").is_file() and not (run / "designs.fasta").exists()
    if name == "images":
        assert len(list((run / "designs").glob("*.png"))) == len((run / "designs.csv").read_text().splitlines()) - 1
    command("sample", run, "--count", "5", "--out", folder / "s.npy")
    drawn = load_model(run).sample(5, seed=0)
    stored = np.load(folder / "s.npy")
    assert np.allclose(stored if name == "points" else stored / 255, np.stack(drawn))
    command("steer", file, "--count", "8", "--out", folder / "steered.csv")
    assert len((folder / "steered.csv").read_text().splitlines()) == 9 and (folder / "steered.html").is_file()


def test_a_reward_of_text_is_refused_for_points(command, folder):
    out = folder / "points.safetensors"
    command("pretrain", folder / "p.csv", "--space", "points", "--out", out, "--steps", "2")
    with pytest.raises(ConfigError, match='reward: "gc" reads text, and what this generator designs are points'):
        Experiment.from_dict({"model": {"path": str(out)}, "reward": {"kind": "gc"}, "alpha": 1.0}, folder)


def test_steering_points_agrees_with_the_closed_form():
    """Base N(m, C) in states z, design = c + s·z, r = w·design: log Z and the mean of p_pre exp(r/α) are known."""
    process = Gaussian(size=2, num_steps=40)
    covariance = torch.tensor([[[0.8, 0.3], [0.3, 0.5]]])
    base = Mixture(torch.ones(1), torch.tensor([[0.4, -0.2]]), covariance)
    net = MixtureDenoiser(base, process, VectorMLP(VectorMLPConfig(2, 4, 1)))
    space = Points(("x", "y"), (1.0, -2.0), (2.0, 0.5))
    weights, alpha = np.array([0.5, -1.0]), 2.0
    with torch.no_grad():
        exact = affine_law(Policy(process, net))  # of the chain with its 40 steps, not of its limit
    scaled = torch.tensor(weights * np.array(space.scale))
    tilted, log_z = exact.tilted(scaled, torch.zeros(2, 2), alpha)
    log_z += float(weights @ np.array(space.centre)) / alpha
    mean = tilted.means[0].numpy() * np.array(space.scale) + np.array(space.centre)

    def score(points):
        return [float(point @ weights) for point in points]

    options = {"sampler": {"name": "importance"}, "objective": {"name": "ppo"}, "alpha": alpha}
    model = Model(Policy(process, net), space)
    made = Experiment.from_dict(options, Path(), model=model, reward=score, proven=True)
    found = steer(made, 4000)
    designs, counted = np.stack(found.designs), np.array(found.weights)
    assert found.log_z == pytest.approx(log_z, abs=0.05)
    spread = np.sqrt(np.diag(tilted.covariances[0].numpy())) * np.array(space.scale)
    assert np.abs(counted @ designs - mean).max() < 4 * spread.max() / math.sqrt(1 / (counted**2).sum())
    assert found.calls == 4000
