from __future__ import annotations

import math

import pytest
import torch

from biotilt.errors import ConfigError, RewardError
from biotilt.rewards import FunctionReward, NotScored, Product, Sum

NAN, INF = math.nan, math.inf


def constant(name: str, *scores: float, version: str = "1") -> FunctionReward:
    return FunctionReward(lambda designs: list(scores), name, version)


class Linear:
    """score = Σ_l weight · x[l, 0] + offset: its gradient is known."""

    differentiable, version = True, "1"

    def __init__(self, name: str, weight: float, offset: float):
        self.name, self.weight, self.offset = name, weight, offset

    def __call__(self, designs: list[str]) -> list[float]:
        return [self.weight * design.count("A") + self.offset for design in designs]

    def score_one_hot(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x[..., 0].sum(-1) + self.offset


def test_weighted_sum_by_hand():
    total = Sum([constant("a", 1.0, -4.0), constant("b", 10.0, 0.5)], [2.0, -0.5])
    assert total(["X", "Y"]) == [2.0 - 5.0, -8.0 - 0.25]


def test_product_of_powers_by_hand():
    product = Product([constant("a", 4.0, 9.0, 0.0), constant("b", 3.0, 2.0, 5.0)], [0.5, 2.0])
    assert product(["X", "Y", "Z"]) == [2.0 * 9.0, 3.0 * 4.0, 0.0]


def test_weights_default_to_one():
    parts = [constant("a", 3.0), constant("b", 5.0)]
    assert Sum(parts)(["X"]) == [8.0]
    assert Product(parts)(["X"]) == [15.0]


@pytest.mark.parametrize("kind", [Sum, Product])
def test_marks_win_over_numbers_and_nan_over_all(kind):
    combined = kind([constant("a", NAN, -INF, NAN, INF, -INF), constant("b", 1.0, 1.0, -INF, 1.0, -INF)])
    scores = combined(list("VWXYZ"))
    assert [math.isnan(score) for score in scores] == [True, False, True, True, False]
    assert scores[1] == scores[4] == -INF


def test_a_weight_of_zero_only_watches_but_nan_still_shows():
    total = Sum([constant("a", -INF, NAN, 7.0), constant("b", 2.0, 2.0, 2.0)], [0.0, 3.0])
    scores = total(list("XYZ"))
    assert (scores[0], scores[2]) == (6.0, 6.0)
    assert math.isnan(scores[1])


def test_infeasible_stays_infeasible_under_a_negative_weight():
    assert Sum([constant("a", -INF), constant("b", 1.0)], [-1.0, 1.0])(["X"]) == [-INF]


def test_a_negative_factor_is_not_scored_and_names_its_part():
    first, second = Product([constant("a", 2.0, 2.0), constant("yield", -3.0, 3.0)], [1.0, 2.0])(["X", "Y"])
    assert isinstance(first, NotScored)
    assert "yield" in first.reason
    assert "-3" in first.reason
    assert second == 18.0


def test_the_reason_of_a_part_is_passed_on():
    broken = FunctionReward(lambda designs: [NotScored("timed out")], "docking")
    (score,) = Sum([constant("a", 1.0), broken])(["X"])
    assert getattr(score, "reason", None) == 'part "docking": timed out'


def test_components_show_each_part_even_under_one_name():
    total = Sum([constant("gc", 1.0), constant("gc", 2.0), constant("aug", 3.0)], [5.0, 5.0, 5.0])
    assert total.components(["X"]) == {"gc": [1.0], "gc#2": [2.0], "aug": [3.0]}


def test_a_part_of_the_wrong_length_is_named():
    with pytest.raises(RewardError, match='"b" returned 3 scores for 2 designs'):
        Sum([constant("a", 1.0, 2.0), constant("b", 1.0, 2.0, 3.0)])(["X", "Y"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: Sum([]), "at least one part"),
        (lambda p: Sum(p, [1.0]), "2 parts but 1 weights"),
        (lambda p: Sum(p, [1.0, NAN]), r"weights\.1 must be a finite number"),
        (lambda p: Product(p, [1.0, 1.0, 1.0]), "2 parts but 3 exponents"),
        (lambda p: Product(p, [1.0, 0.0]), r"exponents\.1 must be > 0"),
        (lambda p: Product(p, [1.0, -1.0]), r"exponents\.1 must be > 0"),
    ],
)
def test_construction_is_checked(make, words):
    with pytest.raises(ConfigError, match=words):
        make([constant("a", 1.0), constant("b", 1.0)])


def test_the_version_follows_parts_and_weights():
    a, b = constant("a", 1.0), constant("b", 1.0)
    made = [
        Sum([a, b]),
        Sum([b, a]),
        Sum([a, b], [1, 2]),
        Sum([a, constant("b", 1.0, version="2")]),
        Sum([a]),
    ]
    assert len({reward.version for reward in made}) == len(made)
    assert Sum([a, b]).version == Sum([a, b], [1.0, 1.0]).version


X = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])  # AAC, CAC


def test_gradients_of_a_sum():
    total = Sum([Linear("a", 2.0, 1.0), Linear("b", -3.0, 0.0)], [10.0, 1.0])
    x = X.clone().requires_grad_()
    scores = total.score_one_hot(x)
    assert scores.tolist() == [50.0 - 6.0, 30.0 - 3.0] == total(["AAC", "CAC"])
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert (gradient[..., 0] == 10 * 2 - 3).all()
    assert (gradient[..., 1] == 0).all()


def test_gradients_of_a_product():
    product = Product([Linear("a", 2.0, 1.0), Linear("b", 3.0, 0.0)], [2.0, 1.0])
    x = X.clone().requires_grad_()
    scores = product.score_one_hot(x)
    assert scores.tolist() == [25.0 * 6.0, 9.0 * 3.0] == product(["AAC", "CAC"])
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    # d(a² b) = 2 a a' b + a² b': for AAC 2·5·2·6 + 25·3, for CAC 2·3·2·3 + 9·3
    assert gradient[:, :, 0].tolist() == [[195.0] * 3, [63.0] * 3]


def test_a_negative_factor_has_no_relaxed_score_either():
    scores = Product([Linear("a", 2.0, -3.0)], [2.0]).score_one_hot(X)
    assert scores[0] == 1.0
    assert scores[1].isnan()


def test_one_part_without_gradient_is_named():
    total = Sum([Linear("a", 1.0, 0.0), constant("docking", 1.0, 1.0)])
    assert not total.differentiable
    assert Sum([Linear("a", 1.0, 0.0)]).differentiable
    with pytest.raises(RewardError, match="docking"):
        total.score_one_hot(X)


def test_a_part_with_a_column_for_scores_is_refused():
    class Column(Linear):
        def score_one_hot(self, x):
            return super().score_one_hot(x).unsqueeze(1)

    with pytest.raises(RewardError, match=r'"b" returned shape \(2, 1\), expected \(2,\)'):
        Sum([Linear("a", 1.0, 0.0), Column("b", 1.0, 0.0)]).score_one_hot(X)
