"""Networks in 16 bits: what is rounded and what is not, runs that go on in the precision they began with."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt import Experiment, resume, tune
from biotilt.core import Context, Policy, Replay, Roles, Target
from biotilt.core import precision as precisions
from biotilt.core.bounded import bounded, call
from biotilt.core.precision import computed_in, settled
from biotilt.errors import CallbackError, ConfigError
from biotilt.networks import CNN, CNNConfig, Transformer, TransformerConfig
from biotilt.objectives import PPO
from biotilt.processes import AnyOrder
from biotilt.provenance import read_record
from biotilt.training import Callback, TrainConfig, Trainer
from biotilt.training.scaling import LossScale

L, V = 6, 3
X = torch.tensor([[0, 3, 2, 3, 1, 3], [3] * 6, [1, 1, 3, 0, 2, 2]], dtype=torch.int8)
T = torch.tensor([0.5, 1.0, 0.2])
TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Affine(nn.Module):
    """States as numbers, through one layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(L, L * V)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(x.float() / 3).unflatten(-1, (L, V))


@pytest.mark.parametrize("name", TYPES)
def test_products_are_rounded_and_log_probabilities_are_not(name):
    net, y = Affine(), X.clone()
    policy = Policy(AnyOrder(L, V), net)
    y[0, 1], y[1, 4], y[2, 2] = 2, 0, 1
    layer, dtype = net.layer, TYPES[name]
    by_hand = (X.float() / 3).to(dtype).float() @ layer.weight.to(dtype).float().T + layer.bias.to(dtype).float()
    logits = by_hand.to(dtype).float().unflatten(-1, (L, V))
    hidden = (X == V).sum(-1)
    picked = torch.stack([logits[0, 1, 2], logits[1, 4, 0], logits[2, 2, 1]])
    expected = picked - torch.stack([logits[0, 1], logits[1, 4], logits[2, 2]]).logsumexp(-1) - hidden.log()
    with computed_in(name), torch.no_grad():
        found = policy.log_prob(X, torch.tensor([3, 0, 5]), y)
        assert call(policy.net, X, T).dtype == found.dtype == torch.float32
    # one product may round the other way in its last bit
    torch.testing.assert_close(found, expected, rtol=0, atol=2 * torch.finfo(dtype).eps)
    with torch.no_grad():
        assert not torch.equal(policy.log_prob(X, torch.tensor([3, 0, 5]), y), found)


NETWORKS = {
    "cnn": lambda: CNN(CNNConfig(V, L, channels=16, blocks=2)),
    "transformer": lambda: Transformer(TransformerConfig(V, L, width=16, blocks=2, heads=2)),
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_gradient_is_near_that_of_32_bits_and_the_same_in_parts(network, name):
    torch.manual_seed(0)
    policy = Policy(AnyOrder(L, V), NETWORKS[network]())
    y = X.clone()
    y[0, 1], y[1, 4], y[2, 2] = 2, 0, 1

    def gradient() -> Tensor:
        policy.net.zero_grad()
        policy.log_prob(X, torch.tensor([3, 0, 5]), y).sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.net.parameters() if p.grad is not None])

    exact = gradient()
    with computed_in(name):
        found = gradient()
        with bounded(1e-6):
            parts = gradient()
    assert found.dtype == torch.float32 and not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0, atol=20 * torch.finfo(TYPES[name]).eps * exact.abs().max().item())
    torch.testing.assert_close(parts, found, rtol=0, atol=2 * torch.finfo(TYPES[name]).eps * exact.abs().max().item())


def test_a_loss_is_scaled_and_a_gradient_that_overflows_is_left_out():
    weight, scale = nn.Parameter(torch.tensor([1.0, 2.0])), LossScale(factor=8.0)
    scale.up((3 * weight).sum()).backward()
    assert scale.down([weight]) and weight.grad is not None
    assert weight.grad.tolist() == [3.0, 3.0] and scale == LossScale(8.0, 1)
    weight.grad[1] = torch.inf
    assert not scale.down([weight]) and scale == LossScale(4.0, 0)
    for _ in range(200):
        weight.grad = torch.ones(2)
        scale.down([weight])
    assert scale == LossScale(8.0, 0)


# ---- runs ----------------------------------------------------------------------------------------------------


class Lookup:
    """Counts the letter 0; at a given call it fails, as a killed machine does."""

    def __init__(self, fails_at: int = 10**9):
        self.calls, self.fails_at = 0, fails_at

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        if self.calls >= self.fails_at:
            raise KeyboardInterrupt
        return (designs == 0).float().mean(1)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: Any, *, behind: bool = False) -> None:
        self.calls = state["calls"]


def build(precision: Any, folder=None, oracle: Lookup | None = None, **changes: Any) -> Trainer:
    torch.manual_seed(3)
    objective, oracle = PPO(updates=3, states=12), oracle or Lookup()
    roles = Roles.start(Policy(AnyOrder(L, V), NETWORKS["cnn"]()))
    context = Context(roles, Target(oracle, 0.2), torch.Generator().manual_seed(4), Replay(objective.capacity))
    config = TrainConfig(**{"max_calls": 32, "batch": 8, "lr": 0.01, "precision": precision} | changes)
    return Trainer(context, objective, config, oracle, folder)


@pytest.mark.parametrize("name", TYPES)
def test_a_run_in_16_bits_goes_on_bit_for_bit(name, tmp_path):
    whole = build(name)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        build(name, tmp_path, Lookup(fails_at=24)).run()
    again = build(name, tmp_path)
    again.resume()
    assert again.round == 2
    again.run()
    for one, other in zip(whole.average.parameters(), again.average.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.scale == again.scale
    exact = build("float32")
    exact.run()
    differences = [
        (a - b).abs().max().item() for a, b in zip(exact.average.parameters(), whole.average.parameters(), strict=True)
    ]
    assert 0 < max(differences) < 0.1


def test_an_update_that_overflows_changes_no_weight_and_halves_the_scale():
    trainer = build("float16")
    assert trainer.scale is not None
    trainer.scale.factor = 2.0**60
    before = [p.clone() for p in trainer.context.roles.policy.net.parameters()]
    trainer.context.memory.add(trainer.objective.collect(trainer.context, 8).rows)
    with computed_in("float16"):
        trainer._one_update()
    assert trainer.scale.factor == 2.0**59
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.context.roles.policy.net.parameters(), strict=True))


def test_auto_leaves_small_networks_alone_and_does_not_measure(monkeypatch):
    monkeypatch.setattr(precisions, "speed", lambda dtype, device: pytest.fail("measured"))
    assert settled("auto", NETWORKS["cnn"]()) == ("float32", "")


@pytest.mark.parametrize(("rate", "chosen"), [(4.0, "bfloat16"), (0.25, "float32"), (1.4, "float32")])
def test_auto_takes_what_is_measured_to_be_faster(rate, chosen, monkeypatch):
    monkeypatch.setattr(precisions, "LARGE", 1)
    monkeypatch.setattr(precisions, "speed", lambda dtype, device: rate if dtype == torch.bfloat16 else 1.0)
    found, said = settled("auto", NETWORKS["cnn"]())
    assert found == chosen and (f"{rate:.1f} times" in said) == (chosen == "bfloat16")


def test_matrices_are_multiplied_at_a_rate_that_can_be():
    assert 0.1 < precisions.speed(torch.float32, torch.device("cpu")) < 1e6


FAST = {"objective": {"name": "ppo", "updates": 1}, "train": {"max_calls": 16, "batch": 8}}


class Cut(Callback):
    def on_round(self, row, history):
        raise OSError("the power was cut")


def test_what_auto_took_is_said_once_recorded_and_kept(tmp_path, monkeypatch):
    """The machine that goes on would not have chosen it."""
    faster = iter([4.0, 1.0])
    monkeypatch.setattr(precisions, "LARGE", 1)
    monkeypatch.setattr(precisions, "speed", lambda dtype, device: next(faster))
    said = "compute in bfloat16: this machine takes 4.0 times"
    with pytest.warns(UserWarning, match=said) as told, pytest.raises(CallbackError):
        tune(Experiment.for_task("utr", **FAST), tmp_path / "run", callbacks=[Cut()])
    assert len(told) == 1
    assert read_record(tmp_path / "run").versions["precision"] == "bfloat16"
    asked = []
    monkeypatch.setattr(torch, "autocast", _noting(torch.autocast, asked))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run = resume(tmp_path / "run")
        assert len(run.rows) == 2 and torch.bfloat16 in asked
        asked.clear()
        run.sample(2)
    assert asked and set(asked) == {torch.bfloat16}


def test_a_run_from_before_goes_on_in_32_bits(tmp_path, monkeypatch):
    with pytest.raises(CallbackError):
        tune(Experiment.for_task("utr", **FAST), tmp_path / "run", callbacks=[Cut()])
    path = tmp_path / "run/experiment.json"
    path.write_text(path.read_text().replace('"precision": "float32"', '"other": "float32"'))
    monkeypatch.setattr(precisions, "LARGE", 1)
    monkeypatch.setattr(precisions, "speed", lambda dtype, device: pytest.fail("measured"))
    resume(tmp_path / "run")


def test_a_precision_that_there_is_not(tmp_path):
    with pytest.raises(ConfigError, match=r"train.precision.*bfloat16"):
        Experiment.for_task("utr", train={"precision": "int8"}).config.build_train()


def _noting(usual: Any, asked: list[torch.dtype]) -> Any:
    def autocast(device: str, dtype: torch.dtype, **options: Any) -> Any:
        asked.append(dtype)
        return usual(device, dtype, **options)

    return autocast
