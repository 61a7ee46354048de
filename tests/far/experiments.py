"""Experiments from their description to the page, on a device that refuses tensors of the processor (`far.py`)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import biotilt
from biotilt import Experiment
from biotilt.check import check
from biotilt.networks.convolution import Convolution
from biotilt.rewards.protein.secondary import SecondaryStructure
from biotilt.training import EachRound
from biotilt.wiring import build_trainer

sys.path.insert(0, str(Path(__file__).parent))

from far import Far, far_device

BOUND = {"constraints": [{"kind": "gc", "at_least": 0.9, "name": "strong"}], "lagrangian": {"draws": 8}}
LEARNED = {"value": "learned"}
EXPERIMENTS = {
    "vidd": {},
    "vidd, uniform rewards": {"objective": {"name": "vidd", "value": "mixed", "updates": 2, "states": 8}},
    "ppo with adapters": {"objective": {"name": "ppo", "updates": 2}, "lora": {"rank": 2}},
    "constraints": BOUND,
    "a screen": {"objective": {"name": "evolve", "updates": 2}, "screen": {"name": "gp", "start": 8}},
    "fixed positions": {"design": {"fixed": "ANNNNNNNNG"}},
}
STEERED = {
    "evolve": {"sampler": {"name": "evolve"}},
    "a learned value": {"sampler": {"name": "smc", **LEARNED}, "value": {"calls": 16, "epochs": 2}},
    "a screen": {"sampler": {"name": "best_of_n"}, "screen": {"name": "gp", "start": 4}},
    "values of guesses": {"sampler": {"name": "svdd"}},
}


def described(keys, folder, device, changes):
    changed = {key: value for key, value in keys.items() if key != "held_out"} | {"device": device} | changes
    lora = changed.pop("lora", None)
    if lora is not None:
        changed["model"] = changed["model"] | {"lora": lora}
    return Experiment.from_dict(changed, folder)


def everything_is_far(trainer):
    context = trainer.context
    nets = [context.roles.policy.net, context.roles.base.net, context.roles.proposal.net, trainer.average]
    nets += [context.value] if isinstance(context.value, torch.nn.Module) else []
    tensors = [t for net in nets for t in (*net.parameters(), *net.buffers())]
    return all(isinstance(tensor.data, Far) for tensor in (*tensors, *context.memory.rows.values()))


def apart(net, other):
    pairs = zip(net.parameters(), other.parameters())
    return sum((a.detach() - b.detach()).square().sum().item() for a, b in pairs) ** 0.5


@pytest.mark.parametrize("changes", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_tuning_there_learns_what_it_learns_here(keys, tmp_path, changes, monkeypatch):
    # ours take another way on a processor, round otherwise there, and Adam follows the sign of what is nearly nil
    monkeypatch.setattr(Convolution, "forward", torch.nn.Conv1d.forward)
    here = build_trainer(described(keys, tmp_path, "cpu", changes), None)
    expected = here.run()
    with far_device():
        trainer = build_trainer(described(keys, tmp_path, "far", changes), None)
        found = trainer.run()
        assert everything_is_far(trainer)
        found.to("cpu")
    base = described(keys, tmp_path, "cpu", changes).model.policy.net
    assert apart(found, expected) < 0.01 * apart(expected, base)
    for row, known in zip(trainer.history, here.history):
        assert row["reward"] == pytest.approx(known["reward"])


@pytest.mark.parametrize("changes", STEERED.values(), ids=STEERED)
def test_steering_there_finds_what_it_finds_here(keys, tmp_path, changes):
    expected = biotilt.steer(described(keys, tmp_path, "cpu", changes), 4)
    with far_device():
        found = biotilt.steer(described(keys, tmp_path, "far", changes), 4)
    assert found.designs == expected.designs and found.rewards == expected.rewards


@pytest.mark.usefixtures("without_page")
def test_a_run_there_is_checked_tuned_judged_resumed_and_steers(keys, tmp_path):
    keys |= {"device": "far"}

    def fail(row):
        if row["round"] == 2:
            raise RuntimeError("killed")

    with far_device():
        check(Experiment.from_dict(keys, tmp_path), designs=4)
        whole = biotilt.tune(Experiment.from_dict(keys, tmp_path), tmp_path / "whole")
        with pytest.raises(biotilt.errors.BiotiltError, match="killed"):
            biotilt.tune(Experiment.from_dict(keys, tmp_path), tmp_path / "killed", callbacks=[EachRound(fail)])
        resumed = biotilt.tune(Experiment.from_dict(keys, tmp_path), tmp_path / "killed")
        assert resumed.sample(8) == whole.sample(8)
        guided = Experiment.from_dict(keys | {"sampler": {"name": "svdd"}}, tmp_path)
        found = biotilt.steer(guided, 4, proposal=whole.model, value=whole)
        assert len(found.designs) == 4
        assert whole.evaluate()["rows"][0]["name"] == "base"
        drawn = whole.sample(8)
        assert biotilt.Run.load(tmp_path / "whole").sample(8) == drawn
    assert len(biotilt.Run.load(tmp_path / "whole").sample(2)) == 2  # this machine has no such device any more


def test_gradients_of_a_reward_flow_there(tmp_path):
    rewards = {"strands": SecondaryStructure("E")}
    letters = torch.rand(2, 12, 20, generator=torch.Generator().manual_seed(0)).softmax(-1)
    for reward in rewards.values():
        x = letters.clone().requires_grad_(True)
        reward.score_one_hot(x).sum().backward()
        with far_device() as far:
            y = letters.to(far).requires_grad_(True)
            scores = reward.score_one_hot(y)
            scores.sum().backward()
            torch.testing.assert_close(y.grad.cpu(), x.grad)
            assert reward(["TVTVTVKVTVGN"]) == pytest.approx(reward(["TVTVTVKVTVGN"]))
            reward.score_one_hot(letters)  # and back
