"""A run of which nothing can be scored ends early, and one score is enough to go on."""

from __future__ import annotations

import math

import pytest
from oracle_samples import Answers, oracle_of

from biotilt.errors import RewardError
from biotilt.oracle import Store


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"A{n}" for n in range(start, start + count)]


def test_a_first_batch_without_any_score_stops_the_run():
    table = {design: ValueError("bad") for design in numbered(16)} | {"A3": math.nan, "A4": None, "A5": None}
    oracle = oracle_of(Answers(**table))
    with pytest.raises(RewardError) as caught:
        oracle.score(numbered(16))
    message = str(caught.value)
    assert '"answers" could score none of 16 designs' in message
    assert "ValueError: bad (13 times); the reward returned None, not a number (2 times);" in message
    assert oracle.ledger.position == 16  # the evidence is kept


def test_a_small_first_batch_may_fail():
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(15), None)))
    assert oracle.score(numbered(15) * 2).isnan().all()


def test_patience_ends_when_nothing_was_ever_scored():
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(40), None)), patience=20)
    for start in range(0, 15, 5):
        oracle.score(numbered(5, start))
    with pytest.raises(RewardError, match="none of 20 designs"):
        oracle.score(numbered(5, 15))


def test_one_score_is_enough_to_go_on_also_after_a_resume():
    store, table = Store(), dict.fromkeys(numbered(40), None)
    oracle_of(Answers(**table), store, patience=20).score([*numbered(10), "C"])
    resumed = oracle_of(Answers(**table), store, patience=20, max_unscored=1.0)
    assert resumed.score(numbered(30, 10)).isnan().all()


def test_a_first_batch_that_is_cut_stops_after_its_first_piece():
    reward = Answers(**dict.fromkeys(numbered(100), None))
    with pytest.raises(RewardError, match="none of 20 designs"):
        oracle_of(reward, batch_size=20).score(numbered(100))
    assert len(reward.batches) == 1
