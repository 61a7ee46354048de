"""log p under a model as a reward, a constraint and a judge: what it is called, and which designs have it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import biotilt
from biotilt.config import ModelSection, RewardSection, parse_config
from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.evaluation import log_likelihood
from biotilt.model import Model
from biotilt.models.likelihood import Loglik
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig, VectorMLP, VectorMLPConfig
from biotilt.processes import AnyOrder, Masked, RandomWalk
from biotilt.reward_given import load_reward
from biotilt.rewards.generic.base import Infeasible, NotScored
from biotilt.spaces import Images, Letters, Padded, Points, alphabet, as_space
from biotilt.trust import code_of


def model(seed: int = 0, length: int = 8) -> Model:
    torch.manual_seed(seed)
    net = CNN(CNNConfig(4, length, channels=16, blocks=2))
    return Model(Policy(AnyOrder(length, 4, per_step=2), net.eval()), as_space("dna"))


DESIGNS = ["ACGTACGT", "GGGGGGGG", "TTAACCGA"]


def test_scores_are_those_of_the_estimator_with_reasons_for_the_rest():
    reward = Loglik(model(), draws=8, seed=2)
    scores = reward([DESIGNS[0], "ACG", "ACXTACGT", *DESIGNS[1:]])
    states = as_space("dna").encode(DESIGNS)
    wanted = log_likelihood(model().policy, states, "bound", draws=8, seed=2)
    assert [scores[i] for i in (0, 3, 4)] == pytest.approx(wanted.values.tolist(), abs=1e-5)
    short, odd = scores[1:3]
    assert isinstance(short, NotScored) and isinstance(odd, NotScored) and "X" in odd.reason
    assert short.reason == "the model makes designs of 8 positions, and this one has 3"
    assert (reward.label, reward.units) == ("log p, a bound by 8 draws", "nats")
    each = Loglik(model(), draws=8, seed=2, per="letter")
    assert each(DESIGNS) == pytest.approx((wanted.values / 8).tolist(), abs=1e-6) and each.units == "nats a letter"
    found = each.estimate(DESIGNS)
    assert str(found) == each.label and found.error is not None
    torch.testing.assert_close(found.error * 8, wanted.error)


def test_pads_and_held_letters_are_not_counted_and_a_held_letter_that_differs_has_no_chance():
    torch.manual_seed(0)
    space = Padded(alphabet("dna"), 6, "right")
    padded = Model(Policy(Masked(6, 5, num_steps=1), MLP(MLPConfig(5, 6, width=8, time=True)).eval()), space)
    whole, each = Loglik(padded), Loglik(padded, per="letter")
    assert (whole.kind, whole.label) == ("exact", "log p")
    assert each(["ACG", "ACGTA"]) == pytest.approx([whole(["ACG"])[0] / 3, whole(["ACGTA"])[0] / 5])
    held = model().with_fixed(model().fixed("AC..R..."))
    scores = Loglik(held, per="letter", draws=4)(["ACTTGTTT", "ACTTCTTT"])
    assert math.isfinite(scores[0]) and isinstance(scores[1], Infeasible) and "no chance" in scores[1].reason
    both = Loglik(held, draws=4)(["ACTTGTTT"])[0]
    assert both / 6 == pytest.approx(scores[0])


def test_densities_are_in_the_units_of_the_data():
    space = Points(("x", "y"), (1.0, 0.0), (2.0, 0.5))
    walk = Model(Policy(RandomWalk(2, 1.0, 4), VectorMLP(VectorMLPConfig(2, 8, 1)).blank()), space)  # ends are N(0, I)
    point = np.array([2.0, -1.0], dtype=np.float32)
    normal = torch.distributions.Normal(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.5]))
    found = Loglik(walk, draws=4000).estimate([point])  # of this walk the bound is tight
    assert found.error is not None
    assert abs(found.values - normal.log_prob(torch.tensor(point)).sum()) < 6 * found.error < 0.5
    pictures = Model(Policy(RandomWalk(4, 1.0, 4), VectorMLP(VectorMLPConfig(4, 8, 1)).blank()), Images(2, 2))
    pixel = torch.distributions.Normal(0.5, 0.5).log_prob(torch.tensor(0.0))
    found = Loglik(pictures, draws=4000).estimate([np.zeros((2, 2, 1), np.float32)])
    assert found.error is not None
    assert abs(found.values - 4 * pixel) < 6 * found.error < 1


def test_the_version_follows_weights_options_and_process():
    version = Loglik(model(), draws=8).version
    assert version == Loglik(model(), draws=8).version
    others = [
        Loglik(model(1), draws=8), Loglik(model(), draws=9), Loglik(model(), draws=8, seed=1),
        Loglik(model().with_process(per_step=1), draws=8), Loglik(model(), estimate="pseudo"),
    ]  # fmt: skip
    assert len({version, *(other.version for other in others)}) == 6


def test_sections_name_a_model_as_the_experiment_does(tmp_path):
    other = model(1)
    other.save(tmp_path / "other.safetensors")
    keys = {
        "alpha": 0.5,
        "model": {"path": "base.safetensors"},
        "reward": {"kind": "gc"},
        "held_out": {
            "kind": "loglik",
            "options": {"draws": 4},
            "model": {"path": "other.safetensors", "process": {"per_step": 1}},
        },
        "constraints": [{"kind": "loglik", "at_least": -20.0, "options": {"draws": 4}}],
        "objective": {"updates": 1, "states": 8},
        "train": {"max_calls": 16, "batch": 8},
        "output": {"samples": 4},
    }  # fmt: skip
    base = model()
    base.save(tmp_path / "base.safetensors")
    run = biotilt.tune(biotilt.Experiment.from_dict(keys, tmp_path), tmp_path / "run")
    experiment = run.experiment
    judge, (bound,) = experiment.held_out, experiment.constraints
    assert judge is not None
    assert judge(DESIGNS) == pytest.approx(Loglik(other.with_process(per_step=1), draws=4)(DESIGNS))
    assert bound(DESIGNS) == pytest.approx(Loglik(base, draws=4)(DESIGNS))
    assert {"base.safetensors", "other.safetensors"} <= json.loads((tmp_path / "run/experiment.json").read_text())[
        "sha256"
    ].keys()
    summary = run.evaluate()
    assert summary["held_out"]["label"] == "log p, a bound by 4 draws, nats"
    again = biotilt.Run.load(tmp_path / "run").experiment.held_out
    assert again is not None and again.version == judge.version


def test_what_is_refused_names_the_key(tmp_path):
    def built(**section):
        return load_reward(RewardSection(kind="loglik", **section), tmp_path, "held_out", None, model(length=12))

    with pytest.raises(ConfigError, match=r"held_out\.options\.draw: unknown key; did you mean \"draws\""):
        built(options={"draw": 3})
    with pytest.raises(ConfigError, match=r"held_out: an exact log p is a sum over the orders"):
        built(options={"estimate": "exact"})
    with pytest.raises(ConfigError, match=r"held_out\.options\.estimate: "):
        built(options={"estimate": "elbo"})
    with pytest.raises(ConfigError, match=r"held_out\.model\.lora: adapters are for tuning"):
        built(model={"path": "m.safetensors", "lora": {"rank": 2}})
    with pytest.raises(ConfigError, match=r"held_out\.path: this key means nothing to a reward of kind \"loglik\""):
        built(path="m.safetensors")
    gc = RewardSection(kind="gc", model=ModelSection(path="m.safetensors"))
    with pytest.raises(ConfigError, match=r"held_out\.model: this key means nothing to a reward of kind \"gc\""):
        load_reward(gc, tmp_path, "held_out")


def test_the_function_that_builds_its_model_is_code_of_the_run():
    config = {"alpha": 1.0, "model": {"path": "m.safetensors"}, "reward": {"kind": "loglik"}}
    assert code_of(parse_config(config)) == []
    judge = {"kind": "loglik", "model": {"factory": "mine:load"}}
    assert code_of(parse_config(config | {"held_out": judge})) == ["the Python function mine:load"]
    assert Letters(alphabet("dna")).medium == Loglik(model(), draws=4).reads
