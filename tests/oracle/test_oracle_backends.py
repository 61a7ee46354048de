"""A pool of processes gives the scores of one process, whatever happens to its workers."""

from __future__ import annotations

import math
import sys
import time

import pytest
import torch
from oracle_samples import oracle_of, reasons
from pool_samples import Deadly, Faulty, Loaded, Long, Misled, Reasoned, Unloadable, expected

from biotilt.errors import BudgetSpent, ConfigError, RewardError
from biotilt.oracle import Store, build_backend
from biotilt.rewards import load_function, reward


def rows(oracle):
    """What the ledger says, but for the seconds; NaN as a text, since NaN equals nothing."""
    return [(r.position, r.design, str(r.score), r.reason, r.cached, r.attempts) for r in oracle.ledger.rows()]


MIXED = ["AC", "V1", "GAT", "N1", "AC", "I1", "TTAA", "V2", *("CA" * n for n in range(2, 30)), "X1", "GAT", "CCA"]


@pytest.mark.parametrize("batched", [False, True])
def test_a_pool_writes_the_ledger_of_one_process(pool, batched):
    inline = oracle_of(Faulty(batched))
    pooled = pool(Faulty(batched))
    wanted = inline.score(MIXED)
    assert torch.equal(pooled.score(MIXED).nan_to_num(-1), wanted.nan_to_num(-1))
    assert rows(pooled) == rows(inline)
    assert [v for d, v in zip(MIXED, wanted.tolist()) if d[0] not in "VNIX"] == [
        expected(d) for d in MIXED if d[0] not in "VNIX"
    ]
    assert reasons(inline)["V2"] == "ValueError: odd valence of V2"
    assert reasons(inline)["X1"] == "SystemExit: 3"
    assert pooled.calls == inline.calls == len(set(MIXED))
    assert pooled.accounts()["failures"] == 4


def test_each_design_is_asked_once_also_across_pieces(pool, tmp_path):
    reward = Faulty(folder=tmp_path)
    designs = ["A", "C", "A", "G", "AA", "C", "T", "A"]
    backend = build_backend("pool", reward, workers=2)
    oracle = oracle_of(reward, backend=backend, batch_size=2)
    assert oracle.score(designs).tolist() == [expected(d) for d in designs]
    assert {d: reward.asked(d) for d in designs} == dict.fromkeys(designs, 1)
    assert [row.cached for row in oracle.ledger.rows()] == [False, False, True, False, False, True, False, True]
    oracle.close()


def test_the_budget_ends_before_a_worker_is_asked(pool, tmp_path):
    reward = Faulty(folder=tmp_path)
    oracle = pool(reward, max_calls=3)
    oracle.score(["A", "C", "A"])
    with pytest.raises(BudgetSpent, match="2 designs are new but 1 of 3"):
        oracle.score(["G", "T", "A"])
    assert oracle.score(["T", "C"]).tolist() == [1.0, 1.0]
    assert not (tmp_path / "G").exists()
    assert oracle.remaining == 0


def test_a_resumed_run_has_the_accounts_of_an_uninterrupted_one(pool, tmp_path):
    requests = [["A", "V1", "CA"], ["CA", "GG", "L1"], ["GG", "V2", "AAA", "A"]]
    reward = Faulty(folder=tmp_path)
    first = pool(reward, store := Store(tmp_path / "o.sqlite"))
    first.score(requests[0])
    checkpoint = first.state_dict()
    first.score(requests[1])
    store.close()

    resumed = pool(reward, Store(tmp_path / "o.sqlite"))
    resumed.load_state_dict(checkpoint)
    whole = oracle_of(Faulty(folder=tmp_path / "whole"), max_unscored=1.0)
    (tmp_path / "whole").mkdir()
    for request in requests:
        whole.score(request)
    for request in requests[1:]:
        resumed.score(request)
    assert rows(resumed) == rows(whole)
    same = ("calls", "cache_hits", "failures", "attempts", "retries")
    assert [resumed.accounts()[key] for key in same] == [whole.accounts()[key] for key in same] == [7, 3, 2, 8, 1]
    assert reward.asked("GG") == 1, "it was on disk"


@pytest.mark.parametrize("batched", [False, True])
def test_every_fault_costs_its_own_design_only(pool, tmp_path, batched):
    reward = Faulty(batched, folder=tmp_path)
    designs = ["AA", "C", "H1", "GA", "K1", "TA", "V1", "O1", "L1", "CCA", "N1", *("C" * n for n in range(2, 20))]
    if not batched:
        designs.append("L2")  # a batch that raises does not say whose error it was, and costs nobody an attempt
    oracle = pool(reward, time_limit=0.5, retries=1, chunk=5 if batched else None)
    scores = dict(zip(designs, oracle.score(designs).tolist()))
    failures = {d: (r.reason, r.attempts) for r in oracle.ledger.rows() if math.isnan(r.score) for d in [r.design]}
    assert failures == {
        "H1": ("took longer than 0.5 s", 1),
        "K1": ("the worker died (signal 9, SIGKILL)", 2),
        "V1": ("ValueError: odd valence of V1", 1),
        "N1": ("the reward returned NaN", 1),
        **({} if batched else {"L2": ("ConnectionError: the server is busy", 2)}),
    }
    good = [d for d in designs if d not in failures]
    assert [scores[d] for d in good] == [expected(d) for d in good]
    if not batched:
        attempts = {row.design: row.attempts for row in oracle.ledger.rows()}
        assert attempts == {d: reward.asked(d) for d in designs}
        assert {d for d, n in attempts.items() if n > 1} == {"K1", "O1", "L1", "L2"}
        accounts = oracle.accounts()
        assert (accounts["retries"], accounts["attempts"]) == (4, len(designs) + 4)
        assert accounts["workers_replaced"] == 4  # H1, K1 twice, O1


def test_a_hang_in_a_batch_that_raised_is_known_to_be_its_own(pool, tmp_path):
    reward = Faulty(batched=True, folder=tmp_path)
    oracle = pool(reward, time_limit=0.3, chunk=3, workers=1)
    oracle.score(["V1", "H1", "A"])
    assert [reward.asked(d) for d in ("V1", "H1", "A")] == [2, 1, 1]  # V1 in the batch, which ended there, and alone
    assert oracle.accounts()["workers_replaced"] == 1


@pytest.mark.parametrize("retries", [0, 3])
def test_retries_are_counted_exactly(pool, tmp_path, retries):
    reward = Faulty(folder=tmp_path)
    pool(reward, retries=retries).score(["A", "K1", "V1"])
    assert [reward.asked(d) for d in ("A", "K1", "V1")] == [1, 1 + retries, 1]


def test_seconds_of_a_killed_design_are_its_time_limit(pool):
    oracle = pool(Faulty(), time_limit=0.4)
    oracle.score(["A", "C", "H1"])
    seconds = {row.design: row.seconds for row in oracle.ledger.rows()}
    assert 0.4 <= seconds["H1"] < 1.0
    assert seconds["A"] < 0.4
    accounts = oracle.accounts()
    assert accounts["scoring_seconds"] == pytest.approx(sum(seconds.values()))
    assert accounts["utilisation"] == pytest.approx(accounts["scoring_seconds"] / (2 * accounts["wall_seconds"]))


@pytest.mark.skipif(sys.platform != "linux", reason="memory_limit is for Linux")
def test_too_much_memory_is_named_and_harms_no_other(pool):
    oracle = pool(Faulty(), memory_limit=100)
    assert oracle.score(["A", "M1", "CA"]).nan_to_num(-1).tolist() == [11.0, -1.0, 12.0]
    assert reasons(oracle)["M1"] == "out of memory: more than 100 MB: MemoryError"
    assert pool(Faulty(), memory_limit=600).score(["M1"]).tolist() == [4e8]


def test_the_first_design_of_a_worker_may_import_what_it_needs(pool):
    oracle = pool(Faulty(seconds=0.4), time_limit=0.1, workers=1)
    # 0.4 s are less than 0.1 + FIRST = 1.1 s, for the first only
    assert oracle.score(["A", "C"]).nan_to_num(-1).tolist() == [11.0, -1.0]


def test_meanwhile_runs_once_while_the_workers_are_busy(pool):
    oracle, times = pool(Faulty(seconds=0.1)), []
    oracle.score(["A"])  # the workers are there

    def train():
        times.append(time.perf_counter())
        time.sleep(0.6)

    start = time.perf_counter()
    assert oracle.score(["C", "G", "T", "CC", "CG", "CT"], train).tolist() == [1.0, 1, 1, 2, 2, 2]
    assert len(times) == 1
    assert time.perf_counter() - start < 0.6 + 0.3, "six designs of 0.1 s on two workers fit into the 0.6 s"
    oracle.score(["C"], train)  # nothing is new
    assert len(times) == 2


def test_without_workers_meanwhile_runs_after_the_scoring():
    order = []

    def noted(designs):
        order.append("scored")
        return [1.0 for _ in designs]

    oracle_of(reward(version="1")(noted)).score(["A"], lambda: order.append("meanwhile"))
    assert order == ["scored", "meanwhile"]


def test_what_was_finished_is_kept_when_the_wait_is_interrupted(pool, tmp_path):
    reward, store = Faulty(folder=tmp_path), Store()

    def interrupt():
        deadline = time.monotonic() + 10
        while not (tmp_path / "H2").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise KeyboardInterrupt

    oracle = pool(reward, store)
    with pytest.raises(KeyboardInterrupt):
        oracle.score(["A", "C", "H1", "G", "H2", "T"], interrupt)
    assert (oracle.calls, oracle.ledger.position) == (0, 0)
    kept = store.known(reward.name, reward.version, ["A", "C"])
    assert {d: s.value for d, s in kept.items()} == {"A": 11.0, "C": 1.0}
    again = pool(reward, store)
    again.score(["A", "C"])
    assert (again.calls, reward.asked("A")) == (2, 1)  # it counts, as it would have, and is not asked again


# Where the reward comes from


@pytest.mark.parametrize("kind", ["file", "module", "closure"])
def test_rewards_of_any_origin_travel(pool, tmp_path, monkeypatch, kind):
    (tmp_path / "beside.py").write_text("def weight(): return 2.0\n")
    (tmp_path / f"rewards_{kind}.py").write_text(
        "from math import sqrt\nfrom beside import weight\n"
        "def count(design): return weight() * sqrt(design.count('A'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    factor = 2.0
    made = {
        "file": lambda: load_function(f"rewards_{kind}.py:count", tmp_path, per_design=True),
        "module": lambda: load_function(f"rewards_{kind}:count", per_design=True),
        "closure": lambda: reward(version="1", per_design=True)(lambda d: factor * math.sqrt(d.count("A"))),
    }[kind]()
    assert pool(made, workers=1).score(["CAAAAC", "G"]).tolist() == [4.0, 0.0]


def test_a_learned_reward_travels(pool):
    from biotilt.rewards.generic.learned import LearnedReward, Regressor, RegressorConfig

    torch.manual_seed(5)
    members = [Regressor(RegressorConfig(letters=4, length=10, channels=8, layers=2, hidden=4)) for _ in range(2)]
    learned = LearnedReward(members, "dna", "judge", "1")
    designs = ["ACGTACGTAC", "GGGGGGGGGG", "TTGACCAGTA"]
    scores = pool(learned, workers=1, chunk=3).score(designs).tolist()
    assert scores == learned(designs)
    assert len(set(scores)) == 3


def test_workers_are_born_with_what_a_reward_will_import(pool):
    made = Loaded()
    made.imports = ("tabnanny", "no_such_module")  # type: ignore[attr-defined]
    assert pool(made, workers=1).score(["tabnanny", "symtable"]).tolist() == [1.0, 0.0]


def test_reasons_travel(pool):
    oracle = pool(Reasoned(), workers=1)
    oracle.score(["C"])
    assert reasons(oracle) == {"C": "no ring"}


def test_a_reward_that_cannot_travel(tmp_path):
    with (tmp_path / "log").open("w") as file:
        made = reward(version="1")(lambda designs: [float(file.write(d)) for d in designs])
        with pytest.raises(RewardError, match=r"cannot be sent to worker processes.*inline"):
            build_backend("pool", made)


def test_a_reward_that_cannot_be_loaded_there(pool):
    with pytest.raises(RewardError, match='"faulty" cannot be loaded in a worker process: ValueError: invalid literal'):
        pool(Unloadable()).score(["A"])


def test_a_reward_that_kills_whoever_loads_it(pool):
    with pytest.raises(RewardError, match=r"cannot be loaded in a worker process: the worker died \(exit code 5\)"):
        pool(Deadly()).score(["A"])


@pytest.mark.parametrize("batched", [False, True])
def test_errors_that_no_design_causes_end_the_run(pool, batched):
    oracle = pool(Misled(batched), chunk=2)
    with pytest.raises(ConfigError, match="no docking box"):
        oracle.score(["A", "C", "G"])
    assert oracle.calls == oracle.ledger.position == 0


@pytest.mark.parametrize("batched", [False, True])
def test_output_of_the_wrong_length_ends_the_run(pool, batched):
    count = 3 if batched else 1
    with pytest.raises(RewardError, match=f"returned {count + 1} scores for {count} designs"):
        pool(Long(batched), chunk=3).score(["A", "C", "G"])


# All faults at once, as in benchmarks/faulty_oracle.py


def test_a_run_survives_a_faulty_reward_and_accounts_for_every_design(pool):
    why = {
        "H": "took longer than 0.5 s",
        "K": "the worker died (signal 9, SIGKILL)",
        "N": "the reward returned NaN",
        "A": "",
    }
    letters = "HHHKKK" + "V" * 15 + "N" * 15 + "A" * 264
    order = torch.randperm(300, generator=torch.Generator().manual_seed(3)).tolist()
    designs = [f"{letters[place]}{n}" for n, place in enumerate(order)]
    oracle = pool(Faulty(seconds=0.002), time_limit=0.5)
    scores = oracle.score(designs)
    assert reasons(oracle) == {d: why.get(d[0], f"ValueError: odd valence of {d}") for d in designs}
    assert [row.design for row in oracle.ledger.rows()] == designs
    assert scores.isfinite().tolist() == [d[0] == "A" for d in designs]
    accounts = oracle.accounts()
    assert [accounts[key] for key in ("calls", "failures", "retries", "workers_replaced")] == [300, 36, 3, 9]
