from __future__ import annotations

import math

import pytest
import torch

from biotilt.errors import ConfigError
from biotilt.rewards import FunctionReward, NotScored, Product, Sum
from biotilt.rewards.generic.combine import GeometricMean, Threshold
from biotilt.rewards.generic.declare import declare

NAN, INF = math.nan, math.inf


def constant(name: str, *scores: float, version: str = "1") -> FunctionReward:
    return FunctionReward(lambda designs: list(scores), name, version, units="bits")


def test_inside_the_bounds_the_score_passes_and_outside_it_is_infeasible():
    part = constant("gc", 0.39, 0.4, 0.6, 0.61, NAN, -INF)
    scores = Threshold(part, at_least=0.4, at_most=0.6)(list("ABCDEF"))
    assert scores[:4] == [-INF, 0.4, 0.6, -INF]
    assert math.isnan(scores[4]) and scores[5] == -INF
    assert Threshold(part, at_most=0.4)(list("ABCDEF"))[:3] == [0.39, 0.4, -INF]


def test_the_reason_of_a_part_is_kept():
    (score,) = Threshold(FunctionReward(lambda d: [NotScored("timed out")], "docking"), at_least=0)(["A"])
    assert getattr(score, "reason", None) == "timed out"


def test_without_keep_it_only_filters_a_sum():
    activity, gc = constant("activity", 5.0, 7.0), constant("gc", 0.5, 0.9)
    total = Sum([activity, Threshold(gc, at_most=0.6, keep=False)], [2.0, 10.0])
    assert total(["A", "B"]) == [10.0, -INF]
    assert list(total.components(["A", "B"])) == ["activity", "gc threshold"]
    assert Threshold(gc, at_most=0.6).components(["A", "B"]) == {"gc": [0.5, 0.9]}
    assert Threshold(gc, at_most=0.6).units == "bits" and Threshold(gc, at_most=0.6, keep=False).units == ""


def test_a_threshold_has_no_gradient_and_its_options_are_its_version():
    part = constant("gc", 0.5)
    assert not Threshold(part, at_least=0.1).differentiable
    assert not Sum([Threshold(part, at_least=0.1)]).differentiable
    newer = constant("gc", 0.5, version="2")
    others = [Threshold(part, at_most=0.1), Threshold(part, at_least=0.2), Threshold(newer, at_least=0.1)]
    others += [Threshold(part, at_least=0.1), Threshold(part, at_least=0.1, keep=False)]
    versions = {other.version for other in others}
    assert len(versions) == 5
    assert Threshold(part, at_least=1).version == Threshold(part, at_least=1.0).version


@pytest.mark.parametrize(
    ("bounds", "message"),
    [({}, "needs a bound"), ({"at_least": 2, "at_most": 1}, "above at_most"), ({"at_least": NAN}, "finite")],
)
def test_bounds_that_leave_nothing_are_refused(bounds, message):
    with pytest.raises(ConfigError, match=f"threshold.*{message}"):
        Threshold(constant("gc", 1.0), **bounds)


def test_geometric_mean_by_hand():
    parts = [constant("a", 2.0, 0.0, 5.0), constant("b", 32.0, 4.0, 5.0)]
    assert GeometricMean(parts, [3.0, 1.0])(list("XYZ")) == pytest.approx([4.0, 0.0, 5.0])  # (8 · 32)^(1/4)
    assert GeometricMean(parts)(["X", "Y", "Z"]) == pytest.approx([8.0, 0.0, 5.0])


def test_weights_are_relative():
    parts = [constant("a", 2.0), constant("b", 7.0)]
    assert GeometricMean(parts, [1, 3])(["X"]) == pytest.approx(GeometricMean(parts, [10, 30])(["X"]))
    assert GeometricMean(parts, [1, 3])(["X"]) == pytest.approx(Product(parts, [0.25, 0.75])(["X"]))
    assert GeometricMean(parts, [1, 3]).version == GeometricMean(parts, [2, 6]).version
    assert GeometricMean(parts, [1, 3]).version != GeometricMean(parts, [3, 1]).version


def test_geometric_mean_treats_marks_as_a_product_does():
    scores = GeometricMean([constant("a", NAN, -INF, -2.0), constant("b", 1.0, 1.0, 1.0)])(list("XYZ"))
    assert math.isnan(scores[0]) and scores[1] == -INF and math.isnan(scores[2])
    assert 'part "a": -2 is negative' in getattr(scores[2], "reason", "")


class Letters:
    differentiable, version = True, "1"

    def __init__(self, name: str, weight: float):
        self.name, self.weight = name, weight

    def __call__(self, designs: list[str]) -> list[float]:
        return [self.weight * design.count("A") for design in designs]

    def score_one_hot(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x[..., 0].sum(-1)


def test_gradient_of_the_geometric_mean():
    """(a^3 b)^(1/4) of a = n and b = 16 n is 2 n: its gradient at each A is 2."""
    x = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    mean = GeometricMean([Letters("a", 1.0), Letters("b", 16.0)], [3, 1])
    score = mean.score_one_hot(x)
    assert score.tolist() == pytest.approx([4.0]) and mean(["AAC"]) == pytest.approx([4.0])
    score.sum().backward()
    assert x.grad is not None
    assert x.grad[0, :, 0].tolist() == pytest.approx([2.0] * 3)


@pytest.mark.parametrize("weights", [[1.0, 0.0], [1.0, -1.0], [1.0, INF], [1.0]])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(ConfigError, match='reward "geometric_mean"'):
        GeometricMean([constant("a", 1.0), constant("b", 1.0)], weights)
    with pytest.raises(ConfigError, match="at least one part"):
        GeometricMean([])


def test_what_the_oracle_asks_is_declared_for_the_whole():
    one_by_one = FunctionReward(len, "docking", batched=False)
    noisy = declare(constant("noisy", 1.0), deterministic=False)
    for parts, batched, deterministic in (
        ([constant("a", 1.0)], True, True),
        ([constant("a", 1.0), one_by_one], False, True),
        ([noisy, constant("a", 1.0)], True, False),
    ):
        for whole in (Sum(parts), GeometricMean(parts)):
            assert (whole.batched, whole.deterministic) == (batched, deterministic)
    assert not Threshold(one_by_one, at_least=0).batched and not Threshold(noisy, at_least=0).deterministic
