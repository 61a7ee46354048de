"""What it took to reach a level, by hand."""

from __future__ import annotations

import math

from biotilt.evaluation.levels import BestSoFar, levels_of, points_of, reached, took

HISTORY = [
    {"calls": 8, "seconds": 1.0, "network_rows": 100, "reward": 0.5},
    {"calls": 16, "seconds": 3.0, "network_rows": 250, "reward": math.nan},
    {"calls": 20, "seconds": 3.5, "reward": 7.0},
]
SCORED = [(f"d{i}", float(i)) for i in range(20)]


def test_a_point_is_what_was_known_at_the_end_of_its_round():
    points = points_of(HISTORY, SCORED)
    assert [p["best"] for p in points] == [None, 10.5, 14.5]  # 8 are too few; the best ten of 16 are 6 … 15
    assert [p["round"] for p in points] == [0.5, None, 7.0]
    assert [p["network_rows"] for p in points] == [100, 250, None]


def test_designs_that_are_known_or_have_no_finite_score_do_not_count():
    best = BestSoFar()
    for design, score in [*SCORED[:9], ("d8", 8.0), ("nan", math.nan), ("bad", -math.inf)]:
        best.add(design, score)
    assert best.median is None
    best.add("tenth", 100.0)
    assert best.median == 4.5  # of 0 … 8 and 100


def test_levels_are_quantiles_of_the_base_and_what_best_of_n_reaches():
    base = [float(i) for i in range(100)]
    levels = {level["name"]: level["value"] for level in levels_of(base, [70.0, 90.0, 80.0, math.nan])}
    assert levels == {"base_p90": 89.0, "base_p99": 98.0, "best_of_n": 80.0, "best_of_n_best": 94.5}
    assert [level["name"] for level in levels_of(base[:50])] == ["base_p90"]
    assert levels_of([1.0, math.nan]) == []
    assert levels_of([-math.inf] * 50) == []  # a level that is no number is none


def test_the_first_point_at_a_level_tells_what_it_took():
    points = points_of(HISTORY, SCORED)
    assert reached(points, 10.0, "best") == {"calls": 16, "seconds": 3.0, "network_rows": 250}
    assert reached(points, 14.6, "best") is None
    told = took(points, levels_of([float(i) for i in range(10)]))  # its 90th percentile, the lower, is 8
    (level,) = told["levels"]
    assert (level["value"], level["by_round"]) == (8.0, None)
    assert level["by_best"] == {"calls": 16, "seconds": 3.0, "network_rows": 250}
