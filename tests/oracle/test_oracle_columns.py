"""Several oracles that read the columns of one source: each design is asked once, and whoever is first pays."""

from __future__ import annotations

import math

import pytest

from biotilt.errors import BudgetSpent, ConfigError, NothingScored, RewardError
from biotilt.oracle import Oracle, Shared, Store, build_backend
from biotilt.rewards import Column, FunctionReward, LogProbability, NotScored, Source, Sum, Threshold, columns, declare
from biotilt.rewards.generic.columns import plan
from biotilt.testing.spaces import Written


class Asked:
    """Gives the number of A and the length, and counts what it was asked; designs in `odd` get that instead."""

    def __init__(self, **odd):
        self.odd, self.designs = odd, []

    def __call__(self, designs):
        self.designs += designs
        return [self.one(design) for design in designs]

    def one(self, design):
        answer = self.odd.get(design, {})
        if isinstance(answer, BaseException):
            raise answer
        return {"a": design.count("A"), "length": len(design)} | answer if isinstance(answer, dict) else answer


def source_of(asked, **options) -> Source:
    return Source(asked, "both", "1", **options)


def oracle_of(reward, store, run="tuning", *, kind="inline", **options) -> Oracle:
    made = plan(reward)
    assert made is not None
    workers = {"workers": 2} if kind == "pool" else {}
    backends = [build_backend(kind, part, **workers) for part in made.parts]
    answers = Shared(made, reward, store, run, backends)
    options = {"max_calls": None, "space": Written(lambda states: []), "max_unscored": 1.0} | options
    return Oracle(reward, store=store, run_id=run, backend=answers, **options)


def reasons(oracle):
    return {row.design: row.reason for row in oracle.ledger.rows()}


def test_reward_two_constraints_and_a_judge_ask_once():
    """Sum, bare column, threshold, minimised: all are functions of one answer, worked out here by hand."""
    asked, store = Asked(), Store()
    both = source_of(asked)
    reward = oracle_of(Sum([both.column("a"), both.column("length")], [2.0, -1.0]), store, max_calls=10)
    longest = oracle_of(both.column("length"), store, "tuning:constraint:length")
    fewest = oracle_of(declare(both.column("a"), direction="minimise"), store, "tuning:constraint:a")
    judge = oracle_of(Threshold(both.column("length"), at_most=3), store, "tuning:held_out")
    designs = ["AAC", "ACGT", "G", "AAC"]
    assert reward.score(designs).tolist() == [1.0, -2.0, -1.0, 1.0]
    assert longest.score(designs).tolist() == [3.0, 4.0, 1.0, 3.0]
    assert fewest.score(designs).tolist() == [-2.0, -1.0, 0.0, -2.0]
    assert judge.score(designs).tolist() == [3.0, -math.inf, 1.0, 3.0]
    assert asked.designs == ["AAC", "ACGT", "G"]
    assert [oracle.calls for oracle in (reward, longest, fewest, judge)] == [3, 0, 0, 0]
    assert reasons(judge)["ACGT"] == "both.length > 3"


def test_whoever_is_first_pays_and_the_budget_counts_what_is_paid():
    asked, store = Asked(), Store()
    both = source_of(asked)
    reward = oracle_of(both.column("a"), store, max_calls=2)
    constraint = oracle_of(both.column("length"), store, "tuning:constraint:length")
    constraint.score(["A", "C"])
    assert reward.score(["A", "G", "C"]).tolist() == [1.0, 0.0, 0.0]
    assert (constraint.calls, reward.calls, reward.accounts()["cache_hits"]) == (2, 1, 2)
    with pytest.raises(BudgetSpent, match="2 designs are new but 1 of 2 calls are left"):
        reward.score(["T", "TT"])
    assert asked.designs == ["A", "C", "G"]


def test_nan_in_one_column_is_of_that_column_only_and_not_asked_again():
    asked, store = Asked(C={"length": math.nan}, G={"length": NotScored("no pocket")}, T={"length": -math.inf}), Store()
    both = source_of(asked)
    reward, constraint = (
        oracle_of(both.column("a"), store),
        oracle_of(both.column("length"), store, "tuning:constraint:length"),
    )
    designs = ["C", "G", "T", "A"]
    assert reward.score(designs).tolist() == [0.0, 0.0, 0.0, 1.0]
    for _ in range(2):
        assert str(constraint.score(designs).tolist()) == "[nan, nan, -inf, 1.0]"
    assert asked.designs == designs
    assert reasons(constraint) == {"C": "the reward returned NaN", "G": "no pocket", "T": "", "A": ""}
    assert constraint.accounts()["failures"] == 0  # it paid for none


def test_a_design_that_fails_as_a_whole_is_asked_once_and_again_by_the_next_run(tmp_path):
    asked = Asked(C=ValueError("odd valence"), G=None, T=NotScored("no pose"))
    both = source_of(asked)
    store = Store(tmp_path / "oracle.sqlite")
    rewards = [oracle_of(both.column(name), store, f"tuning:{name}") for name in ("a", "length")]
    designs = ["A", "C", "G", "T"]
    found = [str(oracle.score(designs).tolist()) for oracle in rewards]
    assert found == ["[1.0, nan, nan, nan]"] * 2
    assert asked.designs == [*designs, *designs]  # the batch raised, so its designs were asked one by one
    told = {"A": "", "C": "ValueError: odd valence", "T": "no pose"}
    for oracle in rewards:
        assert {d: why for d, why in reasons(oracle).items() if d != "G"} == told
    asked.odd.clear()
    later = oracle_of(both.column("length"), Store(tmp_path / "oracle.sqlite"), "another run")
    assert later.score(designs).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert asked.designs[8:] == ["C", "G", "T"]


def test_a_resumed_run_has_the_accounts_of_an_uninterrupted_one(tmp_path):
    """Killed after the checkpoint: the same requests come again, are not asked again, and are charged as they were."""
    asked = Asked(CC={"length": math.nan}, GG={"a": math.nan})
    both = source_of(asked)

    def oracles(store):
        reward = oracle_of(Sum([both.column("a"), both.column("length")]), store, max_calls=10)
        return reward, oracle_of(both.column("length"), store, "tuning:constraint:length")

    def ledgers(pair):
        return [[(row.position, row.design, str(row.score), row.cached) for row in o.ledger.rows()] for o in pair]

    def second_round(reward, constraint):
        constraint.score(["CC", "AT"])
        reward.score(["AT", "T", "GG", "CC"])
        constraint.score(["GG", "T", "CC"])

    first = oracles(Store(tmp_path / "oracle.sqlite"))
    first[0].score(["A", "AC"])
    states = [oracle.state_dict() for oracle in first]
    second_round(*first)
    expected, calls = ledgers(first), [oracle.calls for oracle in first]
    assert calls == [4, 2] and asked.designs == ["A", "AC", "CC", "AT", "T", "GG"]

    again = oracles(Store(tmp_path / "oracle.sqlite"))
    for oracle, state in zip(again, states):
        oracle.load_state_dict(state)
    second_round(*again)
    assert ledgers(again) == expected and [oracle.calls for oracle in again] == calls
    # what failed after the checkpoint is asked again, once, since its cause may be gone
    assert asked.designs[6:] == ["CC", "GG"]


def test_two_sources_and_a_plain_reward_in_one_sum():
    asked, other, plain = Asked(), Asked(), Asked()
    first, second = source_of(asked), Source(other, "other", "1")
    count = FunctionReward(lambda designs: [r["length"] for r in plain(designs)], "plain")
    store = Store()
    reward = oracle_of(Sum([first.column("a"), second.column("length"), count], [1.0, 10.0, 100.0]), store)
    oracle_of(second.column("a"), store, "earlier").score(["AA"])
    assert reward.score(["AA", "C"]).tolist() == [222.0, 110.0]
    assert (asked.designs, other.designs, plain.designs) == (["AA", "C"], ["AA", "C"], ["AA", "C"])
    assert reward.calls == 2 and reward.accounts()["attempts"] == 5  # "AA" of the other source was known


def test_log_probability_of_a_column():
    both = source_of(Asked())
    oracle = oracle_of(LogProbability(both.column("a"), above=1.0), Store())
    expected = [-math.log1p(math.exp(-1.0)), -math.log(2.0), -math.log1p(math.exp(1.0))]
    assert oracle.score(["AA", "A", "C"]).tolist() == pytest.approx(expected)


class Noisy:
    """The n-th time that a design is asked, both columns are n; every third "length" is missing."""

    def __init__(self):
        self.times: dict[str, int] = {}

    def __call__(self, designs):
        rows = []
        for design in designs:
            n = self.times[design] = self.times.get(design, 0) + 1
            rows.append({"a": n, "length": math.nan if n % 3 == 0 else n})
        return rows


def test_a_noisy_source_is_averaged_by_column_and_is_one_call():
    noisy, store = Noisy(), Store()
    both = Source(noisy, "both", "1", repeats=4)
    reward, constraint = oracle_of(both.column("a"), store), oracle_of(both.column("length"), store, "constraint")
    assert reward.score(["X", "Y"]).tolist() == [2.5, 2.5]
    assert constraint.score(["X", "Y"]).tolist() == [pytest.approx(7 / 3)] * 2
    assert noisy.times == {"X": 4, "Y": 4}
    assert (reward.calls, reward.accounts()["attempts"], reward.accounts()["retries"]) == (2, 8, 0)
    assert both.version != Source(noisy, "both", "1").version


def test_a_pool_asks_once_and_sends_all_columns(tmp_path):
    log = tmp_path / "asked"

    @columns("a", "length", version="1", per_design=True)
    def both(design):
        with log.open("a") as file:
            file.write(design + "\n")
        if design == "BAD":
            raise ValueError("odd valence")
        return {"a": design.count("A"), "length": len(design)}

    store = Store(tmp_path / "oracle.sqlite")
    reward = oracle_of(both.column("a"), store, kind="pool")
    try:
        designs = ["A" * n for n in range(1, 9)] + ["BAD"]
        assert str(reward.score(designs).tolist()) == str([*map(float, range(1, 9)), math.nan])
        constraint = oracle_of(Threshold(both.column("length"), at_least=5), store, "constraint")
        expected = [-math.inf] * 4 + [5.0, 6.0, 7.0, 8.0, math.nan]
        assert str(constraint.score(designs).tolist()) == str(expected)
        assert sorted(log.read_text().split()) == sorted(designs)
    finally:
        reward.close()


def test_a_column_that_is_declared_is_checked_before_anything_is_asked():
    both = source_of(Asked(), columns=("affinity", "logp"))
    with pytest.raises(ConfigError, match=r'reward "both" has no column "afinity"; did you mean "affinity"\?'):
        both.column("afinity")


@pytest.mark.parametrize("wrong", ["reward", "constraint"])
def test_a_column_that_is_not_given_ends_the_run_at_the_first_batch(wrong):
    """Also where it is another oracle that wants it."""
    asked, store = Asked(), Store()
    both = source_of(asked)
    names = {"reward": "a", "constraint": "length"} | {wrong: "lenght"}
    reward = oracle_of(both.column(names["reward"]), store)
    oracle_of(both.column(names["constraint"]), store, "constraint")
    with pytest.raises(RewardError, match=r'reward "both" gives no column "lenght"; did you mean "length"\?'):
        reward.score(["A"])


def test_what_is_no_mapping_is_refused():
    oracle = oracle_of(source_of(Asked(A=3.0)).column("a"), Store())
    with pytest.raises(RewardError, match=r"returned 3\.0 for a design: a reward with columns returns a mapping"):
        oracle.score(["A"])


def test_a_column_of_which_nothing_is_scored_ends_the_run_though_another_oracle_pays():
    store, names = Store(), [f"A{n}" for n in range(20)]
    both = source_of(lambda designs: [{"a": 1.0, "length": math.nan} for _ in designs])
    reward, constraint = oracle_of(both.column("a"), store), oracle_of(both.column("length"), store, "constraint")
    with pytest.raises(NothingScored, match=r"could score none of 64 designs"):
        for n in range(5):
            designs = [f"{name}-{n}" for name in names[:16]]
            reward.score(designs)
            constraint.score(designs)


def test_repeats_above_the_columns_are_refused():
    whole = declare(Sum([source_of(Asked()).column("a")]), repeats=3)
    with pytest.raises(ConfigError, match="repeats = 3 must stand where its columns are named"):
        plan(whole)


def test_a_column_by_itself_asks_its_source():
    column = Column(source_of(Asked()), "length")
    assert column(["AC", "G"]) == [2.0, 1.0]
    with pytest.raises(RewardError, match='gives no column "lenght"; did you mean "length"'):
        Column(source_of(Asked()), "lenght")(["AC"])
