"""A run of which too much cannot be scored ends, and says why."""

from __future__ import annotations

import math

import pytest
from oracle_samples import Answers, Letters, oracle_of

from biotilt.errors import ConfigError, NothingScored, RewardError
from biotilt.oracle import Score, Store


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
    with pytest.raises(ConfigError, match=r"oracle\.max_unscored: must be ≤ 1, got 50"):
        oracle_of(Letters(), max_unscored=50)


def ask_all(oracle, designs, batch):
    for start in range(0, len(designs), batch):
        oracle.score(designs[start : start + batch])


@pytest.mark.parametrize("batch", [1, 3, 8, 16, 40])
def test_nothing_scored_ends_after_16_calls_or_the_first_batch(batch):
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(100), None)), max_calls=100)
    with pytest.raises(NothingScored, match="could score none of"):
        ask_all(oracle, numbered(100), batch)
    assert oracle.calls == math.ceil(16 / batch) * batch


@pytest.mark.parametrize(("max_unscored", "calls"), [(0.0, 16), (0.5, 16), (0.75, 39), (0.9, 64), (1.0, 64)])
def test_who_allows_more_failures_waits_longer(max_unscored, calls):
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(300), None)), max_unscored=max_unscored)
    with pytest.raises(NothingScored):
        ask_all(oracle, numbered(300), 1)
    assert oracle.calls == calls


@pytest.mark.parametrize(("max_calls", "calls"), [(400, 300), (3_000, 300), (4_000, 400)])
def test_infeasible_designs_may_take_256_calls_and_a_tenth_of_the_budget(max_calls, calls):
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(500), -math.inf)), max_calls=max_calls)
    with pytest.raises(NothingScored, match=f"calls all {calls} designs infeasible"):
        ask_all(oracle, numbered(500), 50)
    assert oracle.calls == calls


def test_one_feasible_design_is_enough():
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(399), -math.inf)), max_calls=400)
    ask_all(oracle, ["C", *numbered(399)], 50)
    oracle.require_scores()
    assert oracle.nothing_scored == ""


def test_judging_goes_on_whatever_is_infeasible_and_tells_at_the_end():
    oracle = oracle_of(Answers(**dict.fromkeys(numbered(600), -math.inf)))
    ask_all(oracle, numbered(600), 300)
    with pytest.raises(NothingScored) as caught:
        oracle.require_scores()
    assert str(caught.value) == (
        'reward "answers" calls all 600 designs infeasible (−inf): −inf without a reason (600 times); loosen what '
        "makes them so, or start from a model that draws feasible designs"
    )


def test_the_three_most_common_reasons_of_failures_and_infeasible_designs():
    class Because(float):
        def __new__(cls, value, reason):
            made = super().__new__(cls, value)
            made.reason = reason
            return made

    reasons = [("-inf", "too long")] * 5 + [("nan", "odd")] * 4 + [("-inf", "short")] * 3 + [("-inf", "rare")] * 2
    table = {f"A{n}": Because(*reason) for n, reason in enumerate(reasons)}
    oracle = oracle_of(Answers(**table))
    oracle.score([*table, *table])
    assert oracle.nothing_scored == (
        'reward "answers" gave none of 14 designs a finite score (4 could not be scored, 10 are infeasible): '
        "too long (5 times); odd (4 times); short (3 times)"
    )


def test_who_asked_nothing_has_nothing_to_tell():
    oracle_of(Letters()).require_scores()


def test_what_an_earlier_run_found_infeasible_counts_as_asked():
    store = Store()
    oracle_of(Answers(A0=-math.inf), store, run_id="first").score(["A0"])
    oracle = oracle_of(Answers(), store, run_id="second", max_calls=10)
    assert oracle.score(["A0"]).tolist() == [-math.inf]
    with pytest.raises(NothingScored, match="all 1 designs infeasible"):
        oracle.require_scores()


def test_scores_that_earlier_versions_stored_and_float32_cannot_hold_are_asked_again():
    store = Store()
    store.record("old", "answers", "1", {"A0": Score(-1e39, run="old"), "C": Score(2.0, run="old")}, [])
    reward = Answers(A0=-1e39)
    oracle = oracle_of(reward, store)
    assert oracle.score(["A0", "C"]).nan_to_num(-1).tolist() == [-1.0, 2.0]
    assert oracle.score(["A0"]).isnan().all(), "remembered for the run"
    assert reward.batches == [["A0"]]
