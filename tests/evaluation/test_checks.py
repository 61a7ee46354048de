"""Checks for an exploited oracle: each fires alone just past its limit; only those that were made are named."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

from biotilt.evaluation import made_and_not, warnings
from biotilt.evaluation.common import PANEL
from biotilt.evaluation.measure import Limit, Measure

KEYS = ["gap", "beyond_measured", "unique", "distance", "nearest", "kmer3", "kl_policy_base"]


def base_row() -> dict[str, Any]:
    scores = {"median": 6.0, "p5": 5.0, "p95": 7.0, "mean": 6.0}
    return {
        "name": "base",
        "optimised": dict(scores, median=6.5),
        "held_out": scores,
        "gap": 0.5,
        "beyond_measured": 0.0,
        "unique": 1.0,
        "distance": 40.0,
        "kmer3": 0.6,
        "closest": 3,
        "nearest": 9.0,
        "length": 50.0,
        "n": 64,
        "kl_policy_base": 0.0,
    }


HEALTHY = {"gap": 0.95, "distance": 33.0, "kmer3": 0.5, "kl_policy_base": 14.0, "unique": 0.96}


def test_a_healthy_row_raises_no_warning() -> None:
    assert warnings([base_row(), base_row() | {"name": "tuned"} | HEALTHY]) == []


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "beyond_measured",
            0.002,
            r"tuned: 0\.2% of the designs .* beyond anything ever measured \(base: 0%\)",
        ),
        ("gap", 1.05, r"better than the held-out one by 1\.050 \(medians\), base by 0\.5000"),
        ("distance", 31.0, r"differ at 31\.00 positions on average, against 40\.00 .*78%"),
        ("kl_policy_base", 16.0, r"KL 16\.00 nats"),
        ("unique", 0.94, r"94\.0% of the designs are unique"),
        ("nearest", 2.5, r"near-copies\. Half .* within 2\.500 of 50\.00 positions; the closest two differ at 3\."),
        ("kmer3", 0.4, r"3-mer correlation 0\.4000, base 0\.6000"),
    ],
)
def test_each_check_fires_alone_just_past_its_limit(key: str, value: float, says: str) -> None:
    found = warnings([base_row(), base_row() | {"name": "tuned"} | HEALTHY | {key: value}])
    assert len(found) == 1
    assert re.search(says, found[0])


def test_every_check_that_was_made_is_named_and_no_other() -> None:
    found = made_and_not([base_row(), base_row() | {"name": "tuned"} | HEALTHY])
    assert [check["key"] for check in found["made"]] == KEYS and found["not_possible"] == []
    assert all(check["looked_at"] == ["tuned"] and check["fired"] == {} for check in found["made"])
    bare = {"beyond_measured": None, "gap": None, "held_out": None, "kmer3": None}
    found = made_and_not([base_row() | bare, base_row() | {"name": "tuned"} | HEALTHY | bare])
    assert [check["key"] for check in found["made"]] == ["unique", "distance", "nearest", "kl_policy_base"]
    told = {check["key"]: (check["because"], check["to_get"]) for check in found["not_possible"]}
    assert told["gap"] == (
        "there is no judge, a second oracle that tuning never saw",
        "add [held_out] with an oracle that shares no data with the reward",
    )
    assert "reference.measured_max" in told["beyond_measured"][1] and "reference.sequences" in told["kmer3"][1]


def test_where_nothing_was_scored_the_checks_of_scores_say_so() -> None:
    nothing = {"beyond_measured": None, "gap": None, "optimised": dict.fromkeys(("median", "p5", "p95", "mean"))}
    found = made_and_not([base_row() | nothing, base_row() | {"name": "tuned"} | nothing])
    reasons = {check["key"]: check["because"] for check in found["not_possible"]}
    assert reasons == {"beyond_measured": "no design was scored", "gap": "no design was scored"}


def test_what_the_experiment_knows_of_a_reason_is_told() -> None:
    rows = [base_row(), base_row() | {"name": "tuned", "kmer3": None}]
    (missing,) = made_and_not(rows, reasons={"kmer3": ("no letters", "take letters")})["not_possible"]
    assert (missing["key"], missing["because"], missing["to_get"]) == ("kmer3", "no letters", "take letters")


def measured(**more: float | None) -> dict[str, Any]:
    return base_row() | HEALTHY | {"name": "tuned", "more": more}


def test_measures_of_a_task_bring_checks_with_limits() -> None:
    r = Measure("r", "composition r", "Like nature.", lambda designs: 1.0, limit=Limit(fall=0.15))
    quiet = Measure("free", "free", "Any.", lambda designs: 1.0)
    base = base_row() | {"more": {"r": 1.0, "free": 0.0}}
    (said,) = warnings([base, measured(r=0.69, free=9.0)], [*PANEL, r, quiet])
    assert said == ("tuned: composition r 0.6900, base 1.000 (limit: at most 0.15 below the base's). Like nature.")
    assert warnings([base, measured(r=0.86, free=9.0)], [*PANEL, r, quiet]) == []
    (missing,) = made_and_not([base, measured(r=None)], [*PANEL, r])["not_possible"]
    assert missing["check"] == "composition r at most 0.15 below the base's"


@pytest.mark.parametrize(
    ("limit", "inside", "outside"),
    [
        (Limit(rise=0.5), 2.5, 2.51),
        (Limit(kept=0.5), 1.0, 0.99),
        (Limit(grown=1.5), 3.0, 3.01),
        (Limit(fall=1.0, rise=1.0), 1.0, 0.99),
    ],
)
def test_limits_are_relative_to_a_base_of_two(limit: Limit, inside: float, outside: float) -> None:
    assert not limit.broken(inside, 2.0) and limit.broken(outside, 2.0)


def test_the_base_itself_is_not_accused_and_unknown_numbers_are_skipped() -> None:
    base = base_row() | {"beyond_measured": 0.1, "unique": 0.1}
    unknown = dict.fromkeys(base_row()) | {"name": "tuned"}
    assert warnings([base, unknown]) == []
    assert warnings([unknown]) == []


def test_warnings_leave_the_rows_alone() -> None:
    rows = [base_row(), base_row() | {"name": "tuned", "unique": 0.5}]
    before = deepcopy(rows)
    warnings(rows)
    assert rows == before
