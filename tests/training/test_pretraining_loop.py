"""Pretraining and regression: what is fitted is known, and the best weights are the ones that are kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Policy
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder
from biotilt.testing import all_designs, reveal_law, total_variation
from biotilt.training import FitConfig, PretrainConfig, fit_regressor, predict, pretrain
from biotilt.training.pretrain import validation_bound

JOINT = torch.tensor([0.05, 0.2, 0.02, 0.13, 0.3, 0.05, 0.15, 0.1], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def designs(count: int, seed: int) -> Tensor:
    return all_designs(2, 3)[torch.multinomial(JOINT, count, replacement=True, generator=generator(seed))]


def configuration(**options: float) -> PretrainConfig:
    return PretrainConfig(**({"steps": 300, "batch": 256, "lr": 0.05, "weight_decay": 0.0, "ema": 0.95,
                              "warmup": 10, "clip": 10.0, "check_every": 100} | options))  # type: ignore[arg-type]  # fmt: skip


def test_pretraining_finds_the_law_of_the_data():
    policy = Policy(AnyOrder(3, 2), StateTable(2, 3))
    train, validation = designs(20_000, 1), designs(4_000, 2)
    before = total_variation(reveal_law(policy), JOINT)
    best = pretrain(policy, train, validation, configuration(), generator())
    assert before > 0.25 and total_variation(reveal_law(policy), JOINT) < 0.03
    entropy = -(JOINT * JOINT.log()).sum().item()
    assert best == pytest.approx(entropy, abs=0.03)
    assert best == pytest.approx(validation_bound(policy, validation), abs=1e-6)
    assert not policy.net.training


def test_the_best_weights_on_validation_are_kept():
    """Every letter of the data is 0, of validation 1: training makes it worse, the first check is best."""
    policy = Policy(AnyOrder(3, 2), StateTable(2, 3))
    seen: list[tuple[int, float, float]] = []
    train = torch.zeros(200, 3, dtype=torch.int8)
    validation = torch.ones_like(train)
    best = pretrain(
        policy,
        train,
        validation,
        configuration(steps=60, check_every=20),
        generator(),
        lambda *row: seen.append(row),
    )
    bounds = [bound for _, _, bound in seen]
    assert [step for step, _, _ in seen] == [20, 40, 60]
    assert bounds[0] < bounds[1] < bounds[2]
    assert best == bounds[0] == pytest.approx(validation_bound(policy, validation))


def test_the_reported_loss_is_a_mean_also_at_the_last_step():
    """130 steps, reported every 50: the last report covers 30."""
    policy = Policy(AnyOrder(3, 2), StateTable(2, 3))
    seen: list[tuple[int, float]] = []
    config = configuration(steps=130, check_every=50, lr=1e-9)
    data = designs(2000, 1)
    pretrain(policy, data, data, config, generator(), lambda step, train, _: seen.append((step, train)))
    assert [step for step, _ in seen] == [50, 100, 130]
    # nothing is learned at this rate: every loss is that of uniform letters
    assert [loss for _, loss in seen] == pytest.approx([3 * math.log(2)] * 3, rel=1e-3)


class Linear(nn.Module):
    """One-hots `(B, L, V)` → a number, with the buffers that a regressor has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)).squeeze(-1) * self.scale + self.mean


def test_a_regressor_is_fitted_and_its_best_epoch_kept():
    torch.manual_seed(0)
    x = torch.nn.functional.one_hot(designs(600, 3).long(), 2).float()
    y = 100 + x.flatten(1) @ torch.tensor([0.0, 3.0, 0.0, -5.0, 0.0, 1.0])
    model, errors = Linear(), []
    best = fit_regressor(
        model, (x[:500], y[:500]), (x[500:], y[500:]),
        FitConfig(epochs=30, batch=50, lr=0.05, weight_decay=0.0), generator(),
        lambda _, error: errors.append(error),
    )  # fmt: skip
    assert len(errors) == 30 and best == min(errors) < 1e-2
    in_units_of_spread = (predict(model, x[500:]) - y[500:]) / y[:500].std()
    assert in_units_of_spread.square().mean().item() == pytest.approx(best, rel=1e-3)
    assert model.mean.item() == pytest.approx(y[:500].mean().item())
    assert model.scale.item() == pytest.approx(y[:500].std().item())
    assert torch.equal(predict(model, x, chunk=7), torch.cat([predict(model, part) for part in x.split(7)]))


def test_the_epoch_best_on_validation_is_kept_when_later_ones_are_worse():
    torch.manual_seed(0)
    x = torch.nn.functional.one_hot(designs(200, 3).long(), 2).float()
    slope = x.flatten(1) @ torch.tensor([0.0, 3.0, 0.0, -5.0, 0.0, 1.0])
    model, errors = Linear(), []
    config = FitConfig(epochs=10, batch=50, lr=0.05, weight_decay=0.0)
    best = fit_regressor(model, (x, slope), (x, -slope), config, generator(), lambda _, error: errors.append(error))
    assert errors[-1] > best == min(errors)
    in_units_of_spread = (predict(model, x) + slope) / slope.std()
    assert in_units_of_spread.square().mean().item() == pytest.approx(best, rel=1e-5)


def test_each_batch_is_learned_as_it_was_changed():
    """Targets that are turned around batch by batch are what the model learns; validation is not changed."""
    torch.manual_seed(0)
    x = torch.nn.functional.one_hot(designs(400, 3).long(), 2).float()
    y = x.flatten(1) @ torch.tensor([0.0, 3.0, 0.0, -5.0, 0.0, 1.0])
    model, sizes = Linear(), []

    def change(batch, drawn):
        assert drawn.device.type == "cpu"
        sizes.append(len(batch[1]))
        return batch[0], 2 * y.mean() - batch[1]

    config = FitConfig(epochs=20, batch=150, lr=0.05, weight_decay=0.0)
    fit_regressor(model, (x, y), (x, 2 * y.mean() - y), config, generator(), change=change)
    assert sizes == [150, 150, 100] * 20
    assert torch.allclose(predict(model, x), 2 * y.mean() - y, atol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_regressor_is_fitted_where_its_generator_is_and_comes_back():
    x = torch.nn.functional.one_hot(designs(400, 3).long(), 2).float()
    y = x.flatten(1) @ torch.tensor([0.0, 3.0, 0.0, -5.0, 0.0, 1.0])
    model = Linear()
    config = FitConfig(epochs=20, batch=100, lr=0.05, weight_decay=0.0)
    best = fit_regressor(model, (x, y), (x, y), config, torch.Generator("cuda").manual_seed(0))
    assert best < 1e-2 and model.mean.device.type == "cpu"
    assert predict(model, x).sub(y).square().mean() < 1e-2 * y.var()
