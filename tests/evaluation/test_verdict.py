"""Which row won: by medians whose difference is beyond the noise of a bootstrap over designs."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from biotilt.evaluation.common import PANEL
from biotilt.evaluation.measure import Measure
from biotilt.evaluation.verdict import difference_of_medians, verdict_of

NAN, INF = math.nan, math.inf
N = 101


def around(median: float, spread: float = 1.0, n: int = N) -> list[float]:
    """Return n scores, evenly spaced, whose median is the middle one."""
    return (median + spread * np.linspace(-1, 1, n)).tolist()


def row(name: str, **changes: Any) -> dict[str, Any]:
    kl = {"base": 0.0, "best_of_n": 1.0, "tuned": 5.0}.get(name)
    return {
        "name": name,
        "calls": 64,
        "seconds": 2.0,
        "kl_policy_base": kl,
        "kmer3": 0.5,
        "more": {"gc": 0.4},
    } | changes


def judge(scores: dict[str, Any], **more: Any) -> dict[str, Any]:
    pairs = {name: values if isinstance(values, tuple) else (values, None) for name, values in scores.items()}
    found = verdict_of([row(name) for name in pairs], pairs, **more)
    json.dumps(found, allow_nan=False)
    return found


def test_medians_are_those_of_the_panel_in_float32() -> None:
    found = judge({"base": [-7.1995] * 3})
    assert found["medians"]["base"] == float(np.float32(-7.1995)) != -7.1995


def test_the_interval_is_that_of_a_bootstrap_of_both_sides() -> None:
    """The median of n uniform scores on ±1 has a standard deviation of 1/√n, near enough; the difference √2 of it."""
    found = difference_of_medians(around(2.0), around(0.0))
    assert found["value"] == pytest.approx(2.0)
    half = 1.96 * math.sqrt(2.0 / N)
    assert found["low"] == pytest.approx(2.0 - half, abs=0.06) and found["high"] == pytest.approx(2.0 + half, abs=0.06)
    assert found == difference_of_medians(around(2.0), around(0.0)), "seeded"


@pytest.mark.parametrize(("draws", "base"), [(120, 120), (300, 100)])
def test_the_interval_holds_for_the_best_of_draws_that_the_base_shares(draws: int, base: int) -> None:
    """By a second route: the spread, over fresh samples, of how far the best's median is above the base's."""
    rng, best = np.random.default_rng(0), draws // 3
    samples = rng.exponential(size=(4000, draws))
    chosen = np.sort(samples, axis=1)[:, -best:]
    expected = 2 * 1.96 * (np.median(chosen, axis=1) - np.median(samples[:, :base], axis=1)).std()
    found = [difference_of_medians(c, s[:base]) for c, s in zip(chosen[:40].tolist(), samples[:40].tolist())]
    widths = [(each["high"] or math.nan) - (each["low"] or math.nan) for each in found]
    assert np.mean(widths) == pytest.approx(expected, rel=0.12)


def test_scores_that_are_missing_do_not_count_and_infeasible_ones_are_the_lowest() -> None:
    assert difference_of_medians([1.0, 1.0, NAN, NAN], [0.0, 0.0]) == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert difference_of_medians([NAN], [0.0]) == {"value": None, "low": None, "high": None}
    assert difference_of_medians([1.0] * 9, [-INF] * 9) == {"value": None, "low": None, "high": None}
    assert difference_of_medians([-INF] * 9, [-INF] * 9)["value"] is None


def test_a_row_wins_only_beyond_the_noise() -> None:
    found = judge({"base": around(0.0), "best_of_n": around(1.0), "tuned": around(2.0)})
    assert (found["outcome"], found["winner"], found["use"], found["by"]) == ("won", "tuned", "tuned", "optimised")
    assert found["differences"]["best_of_n"]["value"] == pytest.approx(1.0)
    assert found["differences"]["best_of_n"]["low"] > 0
    close = judge({"base": around(0.0), "best_of_n": around(1.9), "tuned": around(2.0)})
    assert (close["outcome"], close["winner"], close["level_with"]) == ("level", "tuned", ["best_of_n"])
    assert close["use"] == "best_of_n", "its KL to the base is less"


def test_the_judge_decides_where_there_is_one() -> None:
    scores = {"base": (around(0.0), around(0.0)), "tuned": (around(9.0), around(-3.0))}
    found = judge(scores)
    assert (found["by"], found["winner"], found["below_base"]) == ("held_out", "base", ["tuned"])
    silent = judge({name: (values, [NAN] * N) for name, (values, _) in scores.items()})
    assert (silent["by"], silent["winner"]) == ("optimised", "tuned")


def test_a_tuned_row_below_the_base_is_named_whoever_wins() -> None:
    found = judge({"base": around(0.0), "best_of_n": around(2.0), "tuned": around(-2.0)})
    assert (found["winner"], found["below_base"]) == ("best_of_n", ["tuned"])
    noise = judge({"base": around(0.0), "best_of_n": around(2.0), "tuned": around(-0.05)})
    assert noise["below_base"] == []


def test_without_a_gain_the_base_is_to_be_used() -> None:
    found = judge({"base": around(0.0), "best_of_n": around(0.05), "tuned": around(0.1)})
    assert (found["outcome"], found["winner"], found["use"]) == ("no_gain", "tuned", "base")
    equal = judge({"base": [1.0] * N, "best_of_n": [1.0] * N, "tuned": [1.0] * N})
    assert (equal["outcome"], equal["winner"]) == ("no_gain", "base")


def test_nothing_scored_and_nothing_feasible_have_no_winner() -> None:
    nothing = judge({"base": [NAN] * 9, "tuned": [NAN] * 9})
    assert (nothing["outcome"], nothing["winner"], nothing["use"], nothing["cost"]) == ("nothing_scored", *[None] * 3)
    infeasible = judge({"base": [-INF] * 9, "tuned": [-INF] * 6 + [1.0] * 3})
    assert (infeasible["outcome"], infeasible["winner"]) == ("infeasible", None)
    saved = judge({"base": [-INF] * 9, "tuned": [-INF] * 3 + [1.0] * 6})
    assert (saved["outcome"], saved["winner"]) == ("won", "tuned"), "half of the base is infeasible, and this is not"


def test_a_row_that_breaks_a_constraint_cannot_win() -> None:
    scores = {"base": around(0.0), "best_of_n": around(9.0), "tuned": around(2.0)}
    found = judge(scores, broken={"best_of_n": ["gc"]})
    assert (found["winner"], found["constraints_broken"]) == ("tuned", {"best_of_n": ["gc"]})
    everyone = judge(scores, broken={name: ["gc"] for name in scores})
    assert everyone["winner"] == "best_of_n", "where all break it, the best of them is still told"


def test_the_harvest_never_wins_and_is_taken_only_by_a_judge() -> None:
    rows = {"base": (around(0.0), around(0.0)), "tuned": (around(2.0), around(2.0)), "harvest": (around(9), around(5))}
    found = judge(rows)
    assert found["winner"] == "tuned" and found["harvest"]["take"] is True
    assert found["harvest"]["lead"]["value"] == pytest.approx(3.0)
    fooled = judge(rows | {"harvest": (around(9.0), around(1.0))})
    assert fooled["harvest"]["take"] is False
    alone = judge({name: scores[0] for name, scores in rows.items()})
    assert alone["winner"] == "tuned" and alone["harvest"]["take"] is False, "its own score chose it"


def test_the_cost_names_calls_seconds_and_naturalness() -> None:
    gc = Measure("gc", "GC", "Share.", len, natural=True, written="percent")
    found = judge({"base": around(0.0), "tuned": around(2.0)}, measures=[*PANEL, gc])
    assert found["cost"] == {
        "calls": 64, "seconds": 2.0, "kl_policy_base": 5.0,
        "naturalness": [
            {"key": "kmer3", "header": "3-mer r", "value": 0.5, "base": 0.5, "written": "number"},
            {"key": "gc", "header": "GC", "value": 0.4, "base": 0.4, "written": "percent"},
        ],
    }  # fmt: skip
