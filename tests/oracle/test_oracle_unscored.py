"""A run of which too much cannot be scored ends, and says why."""

from __future__ import annotations

import math

import pytest
from oracle_samples import Answers, Letters, oracle_of

from biotilt.errors import ConfigError, RewardError
from biotilt.oracle import Store


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"A{n}" for n in range(start, start + count)]


def test_the_run_ends_when_too_much_cannot_be_scored():
    table = {design: ValueError("odd") for design in numbered(8)} | dict.fromkeys(numbered(5, 8), None)
    table |= {"A13": math.nan, "A14": math.nan, "A15": 10**400}
    oracle = oracle_of(Answers(**table), patience=20, max_unscored=0.75)
    oracle.score([*numbered(16), "C", "G", "T"])  # 16 of 19 unscored, but not yet 20 calls
    with pytest.raises(RewardError) as caught:
        oracle.score(["A0", "CC"])
    assert str(caught.value) == (
        'reward "answers" could not score 16 of 20 designs, more than oracle.max_unscored = 0.75 of them: '
        "ValueError: odd (8 times); the reward returned None, not a number (5 times); the reward returned NaN (2 times)"
    )
    assert oracle.ledger.position == 21


@pytest.mark.parametrize("max_unscored", [0.8, 1.0])
def test_a_fraction_of_unscored_designs_may_be_allowed(max_unscored):
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(16), None)), patience=20, max_unscored=max_unscored)
    assert oracle.score([*numbered(16), "C", "G", "T", "CC"]).isnan().sum() == 16


def test_the_failures_of_a_resumed_run_go_on_being_counted():
    store, table = Store(), dict.fromkeys(numbered(30), None)
    oracle_of(Answers(**table), store, patience=20).score([*numbered(9), *("C" * n for n in range(1, 10))])
    resumed = oracle_of(Answers(**table), store, patience=20)
    with pytest.raises(RewardError, match="could not score 11 of 20 designs"):
        resumed.score(numbered(2, 9))


def test_a_fraction_is_at_most_one():
    with pytest.raises(ConfigError, match=r"oracle\.max_unscored must be in \[0, 1\], got 50"):
        oracle_of(Letters(), max_unscored=50)
