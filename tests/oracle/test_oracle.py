from __future__ import annotations

import math
import time
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch
from oracle_samples import Answers, Letters, oracle_of, reasons

from biotilt.errors import BudgetSpent, CheckpointError, ConfigError, DataError, RewardError
from biotilt.oracle import Oracle, Store
from biotilt.testing.spaces import Written


def test_each_design_is_asked_once_and_scores_keep_their_order():
    reward = Letters()
    oracle = oracle_of(reward)
    scores = oracle.score(["AC", "G", "AC", "AAT"])
    assert scores.dtype == torch.float64
    assert scores.tolist() == [12.0, 1.0, 12.0, 23.0]
    assert oracle.score(["G", "T", "AC"]).tolist() == [1.0, 1.0, 12.0]
    assert reward.batches == [["AC", "G", "AAT"], ["T"]]
    assert oracle.calls == oracle.ledger.calls == 4
    rows = [(row.position, row.design, row.score, row.cached) for row in oracle.ledger.rows()]
    assert rows == [
        (0, "AC", 12.0, False),
        (1, "G", 1.0, False),
        (2, "AC", 12.0, True),
        (3, "AAT", 23.0, False),
        (4, "G", 1.0, True),
        (5, "T", 1.0, False),
        (6, "AC", 12.0, True),
    ]


def test_states_are_decoded_and_scores_are_float32():
    scores = oracle_of(Letters())(torch.tensor([[0, 1, 0], [3, 3, 2]]))
    assert scores.dtype == torch.float32
    assert scores.tolist() == [23.0, 3.0]


def test_an_empty_request():
    oracle = oracle_of(Letters())
    assert oracle.score([]).shape == (0,)
    assert oracle.calls == oracle.ledger.position == 0


def test_large_requests_are_cut_into_batches_of_new_designs():
    reward = Letters()
    designs = ["A" * n for n in (1, 2, 1, 3, 4, 2, 5)]
    assert oracle_of(reward, batch_size=2).score(designs).tolist() == [11.0, 22, 11, 33, 44, 22, 55]
    assert reward.batches == [["A", "AA"], ["AAA", "AAAA"], ["AAAAA"]]


def test_numpy_and_tensor_output():
    for container in (np.array, torch.tensor, tuple):
        reward = Letters()
        reward.one = len
        oracle = oracle_of(lambda_reward(reward, container))
        assert oracle.score(["ACG", "A"]).tolist() == [3.0, 1.0]


def lambda_reward(reward, container):
    class Wrapped(Letters):
        def __call__(self, designs):
            return container(reward(designs))

    return Wrapped()


# Caches across runs


def test_scores_of_an_earlier_run_are_free(tmp_path):
    first, second = Letters(), Letters()
    oracle_of(first, Store(tmp_path / "o.sqlite"), run_id="first").score(["A", "C"])
    oracle = oracle_of(second, Store(tmp_path / "o.sqlite"), run_id="second", max_calls=1)
    assert oracle.score(["C", "GG", "C", "A"]).tolist() == [1.0, 2.0, 1.0, 11.0]
    assert second.batches == [["GG"]]
    assert oracle.calls == 1
    assert [row.cached for row in oracle.ledger.rows()] == [True, False, True, True]


@pytest.mark.parametrize(("name", "version"), [("letters", "2"), ("other", "1")])
def test_another_version_or_reward_shares_nothing(name, version):
    store = Store()
    oracle_of(Letters(), store, run_id="first").score(["A"])
    reward = Letters(name, version)
    oracle = oracle_of(reward, store, run_id="second")
    oracle.score(["A"])
    assert reward.batches == [["A"]]
    assert oracle.calls == 1


def test_two_rewards_of_one_run_have_a_ledger_each():
    store = Store()
    one, other = oracle_of(Letters(), store), oracle_of(Letters("held_out"), store)
    one.score(["A", "C"])
    other.score(["A"])
    one.score(["G"])
    assert (one.calls, other.calls) == (3, 1)
    assert [row.design for row in other.ledger.rows()] == ["A"]


def test_failures_are_remembered_within_a_run_only():
    store, broken, mended = Store(), Answers(C=OSError("no program")), Answers(C=4.0)
    oracle = oracle_of(broken, store, run_id="first")
    assert oracle.score(["A", "C"]).isnan().tolist() == [False, True]
    assert oracle.score(["C"]).isnan().all()
    # an error of the system may be gone at the next attempt, so that C is asked once more
    assert broken.batches == [["A", "C"], ["A"], ["C"], ["C"]]
    assert oracle.calls == 2
    later = oracle_of(mended, store, run_id="second")
    assert later.score(["A", "C"]).tolist() == [1.0, 4.0]
    assert later.calls == 1
    third = oracle_of(Answers(C=5.0), store, run_id="third")
    assert third.score(["C"]).tolist() == [4.0]


# Killed and resumed


REQUESTS = [["A", "CA", "A"], ["CA", "GG", "T"], ["T", "AAA", "GG", "CC"], ["A", "TTT"]]


def run_all(store, requests=REQUESTS, reward=None, **options) -> Oracle:
    oracle = oracle_of(reward or Letters(), store, **options)
    for request in requests:
        oracle.score(request)
    return oracle


def accounts(oracle: Oracle) -> tuple:
    return oracle.calls, [replace(row, seconds=0.0) for row in oracle.ledger.rows()]


@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_a_resumed_run_has_the_accounts_of_an_uninterrupted_one(tmp_path, killed_after):
    store = Store(tmp_path / "o.sqlite")
    oracle_of(Letters(), store, run_id="earlier").score(["CC"])
    oracle = run_all(store, REQUESTS[:1])
    checkpoint = oracle.state_dict()
    lost = run_all(store, REQUESTS[1:killed_after]).calls - checkpoint["calls"]
    store.close()

    reward = Letters()
    resumed = oracle_of(reward, Store(tmp_path / "o.sqlite"))
    resumed.load_state_dict(checkpoint)
    assert resumed.calls == 2
    for request in REQUESTS[1:]:
        resumed.score(request)

    fresh = Store()
    oracle_of(Letters(), fresh, run_id="earlier").score(["CC"])
    whole = run_all(fresh)
    assert accounts(resumed) == accounts(whole)
    assert resumed.calls == 6  # A CA GG T AAA TTT; CC was the earlier run's
    assert sum(map(len, reward.batches)) == 4 - lost  # what was scored before the kill is not asked again


def test_the_budget_of_a_resumed_run_ends_at_the_same_request():
    store = Store()
    checkpoint = run_all(store, REQUESTS[:2], max_calls=5).state_dict()
    oracle = oracle_of(Letters(), store, max_calls=5)
    with pytest.raises(BudgetSpent):
        oracle.score(REQUESTS[2])  # AAA and CC, one call left
    oracle.score(["AAA"])
    oracle.load_state_dict(checkpoint)
    assert oracle.remaining == 1
    with pytest.raises(BudgetSpent, match="2 designs are new but 1 of 5 calls are left"):
        oracle.score(REQUESTS[2])


def test_failures_after_the_checkpoint_are_asked_again():
    store = Store()
    oracle_of(Answers(C=OSError("no program")), store).score(["A", "C"])
    mended = oracle_of(Answers(C=4.0), store)
    mended.load_state_dict({"position": 0, "calls": 0})
    assert mended.score(["A", "C"]).tolist() == [1.0, 4.0]
    assert mended.calls == 2


def test_a_run_may_start_again_from_nothing():
    store = Store()
    oracle = run_all(store)
    oracle.load_state_dict({"position": 0, "calls": 0})
    assert oracle.calls == oracle.ledger.position == 0
    for request in REQUESTS:
        oracle.score(request)
    assert accounts(oracle) == accounts(run_all(Store()))


def test_a_checkpoint_without_its_ledger_is_refused(tmp_path):
    checkpoint = run_all(Store(), REQUESTS[:2]).state_dict()
    other = oracle_of(Letters(), Store(tmp_path / "other.sqlite"))
    with pytest.raises(CheckpointError, match=r"after 6 requests.*other\.sqlite holds 0"):
        other.load_state_dict(checkpoint)


def test_a_checkpoint_of_another_run_is_refused():
    checkpoint = run_all(Store(), [["A", "C"]]).state_dict()
    oracle = run_all(Store(), [["A", "A", "A"]])
    with pytest.raises(CheckpointError, match=r"counts 2 calls .* 1:"):
        oracle.load_state_dict(checkpoint)
    assert oracle.ledger.position == 3  # a mistake deletes nothing


# Rewards that fail


def test_a_raising_reward_fails_only_for_its_culprits():
    reward = Answers(C=ValueError("odd valence"), G=DataError("no ring"), T=3.0)
    oracle = oracle_of(reward)
    scores = oracle.score(["A", "C", "T", "G"])
    assert scores.nan_to_num(-1).tolist() == [1.0, -1.0, 3.0, -1.0]
    assert reasons(oracle) == {"A": "", "C": "ValueError: odd valence", "T": "", "G": "DataError: no ring"}
    assert oracle.calls == 4
    assert oracle.ledger.failures() == [("DataError: no ring", 1), ("ValueError: odd valence", 1)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "the reward returned None, not a number"),
        ("3.0", "the reward returned '3.0', not a number"),
        (1 + 2j, "the reward returned (1+2j), not a number"),
        ([1.0, 2.0], "the reward returned [1.0, 2.0], not a number"),
        pytest.param(
            10**400,
            "the reward returned 100000000000000000...0000000000000000000, which float32 cannot hold",
            id="large",
        ),
        pytest.param(-(10**5000), "the reward returned int, which float32 cannot hold", id="too large to be shown"),
        (math.nan, "the reward returned NaN"),
        (math.inf, "the reward returned +inf"),
        (1e39, "the reward returned 1e+39, which float32 cannot hold"),
        (-1e39, "the reward returned -1e+39, which float32 cannot hold"),
        (np.float64(-3.5e38), "the reward returned -3.5e+38, which float32 cannot hold"),
        (Decimal("-1e400"), "the reward returned Decimal('-1E+400'), which float32 cannot hold"),
        (np.longdouble("-1e400"), "the reward returned np.longdouble('-1e+400'), which float32 cannot hold"),
    ],
)
def test_answers_that_are_no_scores(answer, reason):
    oracle = oracle_of(Answers(C=answer))
    scores = oracle.score(["A", "C"])
    assert scores[0] == 1.0
    assert scores[1].isnan()
    assert reasons(oracle)["C"] == reason


def test_a_nan_that_carries_a_reason():
    class Reasoned(float):
        reason = "timed out"

    oracle = oracle_of(Answers(C=Reasoned("nan")))
    oracle.score(["A", "C"])
    assert reasons(oracle)["C"] == "timed out"


def test_minus_infinity_is_a_score():
    oracle = oracle_of(Answers(C=-math.inf))
    assert oracle.score(["C"] * 20).tolist() == [-math.inf] * 20
    assert oracle.score(["C"]).tolist() == [-math.inf]
    assert reasons(oracle) == {"C": ""}
    assert oracle.ledger.failures() == []


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ([1.0], "returned 1 scores for 2 designs, expected 2"),
        ([1.0, 2.0, 3.0], "returned 3 scores for 2 designs"),
        (np.zeros(5), "returned 5 scores for 2 designs"),
        (None, "returned NoneType for 2 designs"),
        (np.float64(1.0), "returned float64 for 2 designs"),
    ],
)
def test_output_of_the_wrong_length_stops_the_run(output, words):
    oracle = oracle_of(lambda_reward(Letters(), lambda scores: output))
    with pytest.raises(RewardError, match=words):
        oracle.score(["A", "C"])
    assert oracle.calls == oracle.ledger.position == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConfigError("no docking box"), RewardError("no weights")])
def test_errors_that_no_design_causes_pass_through(error):
    reward = Answers(C=error)
    oracle = oracle_of(reward)
    with pytest.raises(type(error)):
        oracle.score(["A", "C"])
    assert reward.batches == [["A", "C"]]
    assert oracle.calls == oracle.ledger.position == 0


def test_reasons_are_cut_to_a_readable_length():
    oracle = oracle_of(Answers(C=ValueError("x" * 10_000)))
    oracle.score(["A", "C"])
    assert len(reasons(oracle)["C"]) <= 500


# Budget


def test_the_budget_ends_before_anything_of_the_batch_is_scored():
    reward = Letters()
    oracle = oracle_of(reward, max_calls=3)
    oracle.score(["A", "C"])
    assert oracle.remaining == 1
    with pytest.raises(BudgetSpent, match="2 designs are new but 1 of 3"):
        oracle.score(["A", "G", "T", "G"])
    assert reward.batches == [["A", "C"]]
    assert (oracle.calls, oracle.ledger.position) == (2, 2)
    assert oracle.score(["A", "G", "C", "G"]).tolist() == [11.0, 1.0, 1.0, 1.0]
    assert oracle.remaining == 0
    assert oracle.score(["G", "A"]).tolist() == [1.0, 11.0]


def test_without_a_budget_nothing_is_counted_down():
    assert oracle_of(Letters()).remaining is None


def test_seconds_are_those_of_the_reward():
    class Slow(Letters):
        def one(self, design):
            time.sleep(0.02)
            return 1.0

    oracle = oracle_of(Slow())
    oracle.score(["A", "C", "A"])
    seconds = [row.seconds for row in oracle.ledger.rows()]
    assert seconds[0] == seconds[1] >= 0.02
    assert seconds[2] == 0.0


def test_relaxed_designs_are_charged_by_their_most_likely_letters_and_carry_gradients():
    class Linear:
        name, version, differentiable = "linear", "1", True

        def __call__(self, designs):
            return [float(2 * design.count("A") - design.count("C")) for design in designs]

        def score_one_hot(self, x):
            return (x * torch.tensor([2.0, -1.0])).sum((1, 2))

    def decode(tokens):
        return ["".join("AC"[i] for i in row) for row in tokens.tolist()]

    oracle = Oracle(Linear(), store=Store(None), max_calls=2, space=Written(decode), run_id="run")
    designs = torch.tensor([[[0.75, 0.25], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
    scores = oracle.relaxed(designs)
    assert scores.tolist() == [2 * 0.75 - 0.25 - 1, 2 - 1]
    scores.sum().backward()
    assert designs.grad is not None and designs.grad[1].tolist() == [[2.0, -1.0]] * 2
    assert oracle.calls == 1, "both are AC"
    with pytest.raises(BudgetSpent):
        oracle.relaxed(torch.eye(2)[torch.tensor([[0, 0], [1, 1]])])
