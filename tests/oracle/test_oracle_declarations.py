"""What a reward declares of itself, and what the oracle makes of it."""

from __future__ import annotations

import math

import pytest
from oracle_samples import Answers, Letters, oracle_of, reasons

from biotilt.errors import ConfigError
from biotilt.oracle import build_backend


class Noisy(Letters):
    """Answers the n-th question about a design with the n-th of its values."""

    deterministic = False

    def __init__(self, repeats: int, **values):
        super().__init__("noisy")
        self.repeats = repeats
        self.values = {design: list(given) for design, given in values.items()}

    def one(self, design):
        value = self.values[design].pop(0)
        if isinstance(value, BaseException):
            raise value
        return value


def test_noisy_scores_are_averaged_and_count_one_call():
    reward = Noisy(3, A=[1.0, 2.0, 6.0], C=[4.0, 0.0, 0.5], G=[7.0, -math.inf, 1.0])
    oracle = oracle_of(reward, max_calls=3)
    assert oracle.score(["A", "C", "A", "G"]).tolist() == [3.0, 1.5, 3.0, -math.inf]
    assert reward.batches == [["A", "C", "G"]] * 3
    assert oracle.calls == 3
    assert [row.attempts for row in oracle.ledger.rows()] == [3, 3, 0, 3]
    accounts = oracle.accounts()
    assert (accounts["calls"], accounts["attempts"], accounts["retries"]) == (3, 9, 0)
    assert oracle.score(["C"]).tolist() == [1.5]


def test_failed_attempts_enter_no_mean():
    reward = Noisy(3, A=[math.nan, 2.0, 3.0], C=[math.nan, None, math.nan])
    oracle = oracle_of(reward)
    assert oracle.score(["A", "C"]).nan_to_num(-1).tolist() == [2.5, -1.0]
    assert reasons(oracle) == {"A": "", "C": "the reward returned NaN"}


def test_a_retry_within_a_repeat_is_a_retry():
    oracle = oracle_of(Noisy(2, A=[ConnectionError("busy"), 1.0, 2.0, 3.0]))
    # asked alone, the first attempt fails and is repeated at once: 1.0; the second repeat says 2.0
    assert oracle.score(["A"]).tolist() == [1.5]
    accounts = oracle.accounts()
    assert (accounts["calls"], accounts["attempts"], accounts["retries"]) == (1, 3, 1)


def test_a_deterministic_reward_is_asked_once():
    reward = Letters()
    reward.repeats = 5  # type: ignore[attr-defined]
    oracle_of(reward).score(["A"])
    assert reward.batches == [["A"]]


def test_scores_outside_the_declared_range_are_slips():
    reward = Answers(A=-1.0, C=2.0, G=2.0000001, T=-1.5, AA=-math.inf)
    reward.range = (-1.0, 2.0)  # type: ignore[attr-defined]
    oracle = oracle_of(reward)
    assert oracle.score(["A", "C", "G", "T", "AA"]).nan_to_num(9.0, neginf=-9.0).tolist() == [-1.0, 2.0, 9, 9, -9]
    assert reasons(oracle)["T"] == "the reward returned -1.5, outside its range [-1, 2]"


@pytest.mark.parametrize("batched", [True, False])
def test_designs_are_asked_one_by_one_when_the_reward_says_so(batched):
    reward = Letters()
    reward.batched = batched  # type: ignore[attr-defined]
    assert oracle_of(reward).score(["A", "C"]).tolist() == [11.0, 1.0]
    assert reward.batches == ([["A", "C"]] if batched else [["A"], ["C"]])


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (OSError("disk"), 2),
        (TimeoutError("slow"), 2),
        (ConnectionResetError("busy"), 2),
        (FileNotFoundError("no program"), 1),
        (PermissionError("not yours"), 1),
        (ValueError("odd"), 1),
    ],
)
def test_which_faults_are_transient(error, attempts):
    reward = Answers(C=error)
    oracle_of(reward).score(["C"])
    assert len(reward.batches) == attempts


def test_a_reward_may_name_its_transient_faults():
    reward = Answers(C=ValueError("odd"), G=OSError("disk"))
    reward.transient = (ValueError,)  # type: ignore[attr-defined]
    oracle_of(reward).score(["C"])
    oracle_of(reward).score(["G"])
    assert reward.batches == [["C"], ["C"], ["G"]]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("range", (2.0, 1.0), r"range = \(2.0, 1.0\) must be \(lowest, highest\)"),
        ("range", (1.0,), "must be"),
        ("repeats", 0, "repeats = 0 must be a whole number >= 1"),
        ("repeats", 2.5, "repeats = 2.5 must be"),
    ],
)
def test_what_cannot_be_meant(key, value, words):
    reward = Letters()
    setattr(reward, key, value)
    with pytest.raises(ConfigError, match=f'reward "letters": .*{words}'):
        oracle_of(reward)


def test_repeats_in_a_pool_are_attempts_of_their_own():
    from pool_samples import Faulty

    reward = Faulty()
    reward.deterministic, reward.repeats = False, 4  # type: ignore[attr-defined]
    backend = build_backend("pool", reward, workers=2)
    oracle = oracle_of(reward, backend=backend, max_unscored=1.0)
    assert oracle.score(["AC", "V1", "G"]).nan_to_num(-1).tolist() == [12.0, -1.0, 1.0]
    assert [row.attempts for row in oracle.ledger.rows()] == [4, 4, 4]
    oracle.close()
