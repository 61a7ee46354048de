"""Fronts against their definition, hypervolumes against inclusion-exclusion, a grid and hand-computed unions."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from biotilt.errors import DataError
from biotilt.evaluation.pareto import LARGEST, front_summary, hypervolume, pareto_front, worst


def inclusion_exclusion(points: np.ndarray, reference: np.ndarray) -> float:
    """The union of boxes [reference, point], over all subsets: 2^N terms."""
    boxes = [p for p in points if np.isfinite(p).all() and (p > reference).all()]
    total = 0.0
    for size in range(1, len(boxes) + 1):
        for subset in itertools.combinations(boxes, size):
            total -= (-1) ** size * float(np.prod(np.min(subset, axis=0) - reference))
    return total


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(all(x >= y for x, y in zip(a, b)) and any(x > y for x, y in zip(a, b)))


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
def test_the_front_is_what_nothing_dominates(objectives):
    rng = np.random.default_rng(objectives)
    points = rng.integers(0, 6, size=(60, objectives)).astype(float)  # many ties and repeats
    points[::7, 0] = np.nan
    points[3::11, -1] = -np.inf
    valid = [i for i in range(60) if np.isfinite(points[i]).all()]
    expected = [i for i in valid if not any(dominates(points[j], points[i]) for j in valid)]
    assert 0 < len(expected) < len(valid)
    assert pareto_front(points).tolist() == expected


def test_equal_points_are_both_kept():
    assert pareto_front(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0]])).tolist() == [0, 1]


def test_nothing_that_is_not_scored_enters():
    assert pareto_front(np.array([[np.nan, 9.0], [-np.inf, 9.0]])).tolist() == []
    assert hypervolume(np.array([[np.nan, 9.0], [9.0, -np.inf]]), [0, 0]) == 0.0


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_hypervolume_is_that_of_the_union(objectives, seed):
    rng = np.random.default_rng(10 * objectives + seed)
    points = rng.normal(size=(9, objectives)).round(1)  # rounded, so that some coordinates tie
    points[0, 0] = np.nan
    reference = 0.3 * rng.normal(size=objectives) - 1.5
    expected = inclusion_exclusion(points, reference)
    assert expected > 0
    assert hypervolume(points, reference) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("objectives", [3, 4, 5])
def test_hypervolume_of_a_larger_front_by_counting_cells(objectives):
    """Integer points dominate whole unit cells, which can be counted."""
    rng = np.random.default_rng(objectives)
    points = rng.integers(1, 7, size=(40, objectives)).astype(float)
    cells = np.array(list(itertools.product(range(6), repeat=objectives)))
    covered = sum(bool((cell < points).all(1).any()) for cell in cells)
    assert len(pareto_front(points)) >= 3
    assert hypervolume(points, [0] * objectives) == pytest.approx(covered)


def test_hypervolume_by_hand():
    # 3×1 and 1×2 overlap in 1×1; the third is below the reference in one objective
    assert hypervolume(np.array([[4.0, 3.0], [2.0, 4.0], [9.0, 1.0]]), [1.0, 2.0]) == 3 * 1 + 1 * 2 - 1
    assert hypervolume(np.array([[2.0, 3.0, 5.0]]), [0, 0, 0]) == 30.0


def test_a_dominated_point_adds_nothing_and_a_better_one_does():
    points = np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    before = hypervolume(points, [0, 0, 0])
    assert hypervolume(np.vstack([points, [1.0, 1.0, 1.0]]), [0, 0, 0]) == pytest.approx(before)
    assert hypervolume(np.vstack([points, [2.0, 2.0, 2.0]]), [0, 0, 0]) == pytest.approx(before + 2.0)


@pytest.mark.parametrize(
    ("points", "reference", "message"),
    [
        (np.ones(3), [0.0], r"shape \(N, M\)"),
        (np.ones((2, 2)), [0.0], "reference point has shape"),
        (np.ones((2, 2)), [0.0, -np.inf], "finite"),
        (np.ones((2, 6)), [0.0] * 6, "6 objectives"),
    ],
)
def test_shapes_are_checked(points, reference, message):
    with pytest.raises(DataError, match=message):
        hypervolume(points, reference)


def test_a_front_that_is_too_large_is_refused():
    count = LARGEST[4] + 1
    angle = np.linspace(0.01, 1.5, int(count))
    points = np.stack([np.cos(angle), np.sin(angle), np.cos(angle), np.sin(angle)], axis=1)
    with pytest.raises(DataError, match=f"front of {count} points in 4 objectives"):
        hypervolume(points, [0.0] * 4)


def test_the_reference_is_the_worst_of_all_sets():
    sets = [np.array([[1.0, 5.0], [2.0, 4.0]]), np.array([[3.0, -1.0], [np.nan, -9.0]])]
    assert worst(sets).tolist() == [1.0, -1.0]
    with pytest.raises(DataError, match="no design has a finite value"):
        worst([np.array([[np.nan, 1.0]])])


ROWS = {
    "base": {"gain": [1.0, 2.0, 0.0, float("nan")], "cost": [3.0, 5.0, 9.0, 1.0]},
    "tuned": {"gain": [4.0, 4.0, 3.0], "cost": [4.0, 6.0, 2.0]},
}


def test_the_summary_by_hand():
    """Gain is maximised, cost minimised: the reference is gain 0, cost 9."""
    found = front_summary(ROWS, directions={"cost": "minimise"})
    assert found["objectives"] == ["gain", "cost"]
    assert found["reference"] == [0.0, 9.0]
    base, tuned = found["rows"]["base"], found["rows"]["tuned"]
    assert (base["designs"], base["scored"], base["front"]) == (4, 3, 2)
    assert base["points"] == [[1.0, 3.0], [2.0, 5.0]]
    assert base["hypervolume"] == 1 * 6 + 2 * 4 - 1 * 4
    assert tuned["points"] == [[3.0, 2.0], [4.0, 4.0]]
    assert tuned["hypervolume"] == 3 * 7 + 4 * 5 - 3 * 5
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_reference_of_ones_own():
    found = front_summary(ROWS, reference=[1.0, 6.0], directions={"cost": "minimise"})
    assert found["rows"]["base"]["hypervolume"] == 1.0  # only (2, 5) is better in both
    assert found["rows"]["tuned"]["hypervolume"] == 2 * 4 + 3 * 2 - 2 * 2


def test_the_summary_without_any_design_or_with_other_objectives():
    nothing = {"base": {"a": [float("nan")], "b": [1.0]}}
    assert front_summary(nothing) == {"objectives": ["a", "b"], "reference": None, "rows": {}}
    partly = front_summary({"base": {"a": [1.0, 2.0], "b": [1.0, 2.0]}, "tuned": {"a": [-np.inf], "b": [1.0]}})
    assert partly["rows"]["tuned"] == {"designs": 1, "scored": 0, "front": 0, "hypervolume": 0.0, "points": []}
    with pytest.raises(DataError, match='row "tuned" has the objectives b, a'):
        front_summary({"base": {"a": [1.0], "b": [1.0]}, "tuned": {"b": [1.0], "a": [1.0]}})
    with pytest.raises(DataError, match="two or more"):
        front_summary({"base": {"a": [1.0]}})
