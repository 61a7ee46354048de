"""Ray actors give the scores of one process, and the loss of an actor costs a retry."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from oracle_samples import oracle_of, reasons
from pool_samples import Faulty, Long, Misled, expected

from biotilt.errors import ConfigError, RewardError
from biotilt.oracle import build_backend
from biotilt.oracle.workers.ray_worker import connect

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One cluster for this file, for which Ray takes about 6 s."""
    close, cores = connect(None, 2)
    assert cores == 2
    yield
    close()


@pytest.fixture
def oracle_on_ray():
    opened = []

    def make(reward, *, workers=2, **limits):
        backend = build_backend("ray", reward, workers=workers, **limits)
        opened.append(oracle_of(reward, backend=backend, max_unscored=1.0))
        return opened[-1]

    yield make
    for oracle in opened:
        oracle.close()


DESIGNS = [("HVNK"[n // 10 % 4] if n % 10 == 3 else "A") + "C" * (n % 5) + str(n) for n in range(60)]


@pytest.mark.parametrize("batched", [False, True])
def test_faults_and_scores_are_those_of_a_pool(oracle_on_ray, batched):
    oracle = oracle_on_ray(Faulty(batched), time_limit=0.5)
    pool = oracle_of(Faulty(batched), backend=build_backend("pool", Faulty(batched), workers=2, time_limit=0.5))
    scores = oracle.score(DESIGNS)
    assert torch.equal(scores.nan_to_num(-1), pool.score(DESIGNS).nan_to_num(-1))
    assert reasons(oracle) == reasons(pool)
    assert {reason for reason in reasons(oracle).values() if not reason.startswith("ValueError")} == {
        "", "took longer than 0.5 s", "the reward returned NaN", "the worker died (signal 9, SIGKILL)",
    }  # fmt: skip
    good = [(d, s) for d, s in zip(DESIGNS, scores.tolist()) if d[0] == "A"]
    assert all(score == expected(design) for design, score in good)
    assert len(good) == 54
    pool.close()


def test_a_killed_actor_costs_its_design_in_flight_a_retry(oracle_on_ray, tmp_path):
    reward = Faulty(seconds=0.05, folder=tmp_path)
    oracle = oracle_on_ray(reward)
    designs = [f"A{n}" for n in range(40)]

    def kill():
        while not ((tmp_path / "A9").exists() and (tmp_path / "A9").read_text()):
            time.sleep(0.01)
        worker = int((tmp_path / "A9").read_text())  # above it are its guard, what bears workers, and the actor
        os.kill(parent_of(parent_of(parent_of(worker))), signal.SIGKILL)

    assert oracle.score(designs, kill).tolist() == [expected(d) for d in designs]
    accounts = oracle.accounts()
    assert (accounts["retries"], accounts["workers_replaced"], accounts["failures"]) == (1, 1, 0)
    assert sorted(row.attempts for row in oracle.ledger.rows()) == [1] * 39 + [2]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_errors_that_no_design_causes_keep_their_kind(oracle_on_ray):
    oracle = oracle_on_ray(Misled())
    with pytest.raises(ConfigError, match=r"^no docking box$"):
        oracle.score(["A", "C"])
    assert oracle.calls == 0


def test_a_reward_that_forks_gives_every_design_its_own_score(oracle_on_ray):
    designs = ["F1", "A", "FA", "CC", "F2", "AAA"]
    oracle = oracle_on_ray(Faulty(), chunk=3)
    assert oracle.score(designs).tolist() == [expected(design) for design in designs]
    assert oracle.accounts()["workers_replaced"] == 0


def test_tuning_and_judging_have_a_place_each(oracle_on_ray):
    tuning, judging = oracle_on_ray(Faulty()), oracle_on_ray(Long())
    assert tuning.score(["AC", "G"]).tolist() == [12.0, 1.0]
    # it would wait for ever if the workers of the first, which do nothing now, held all of the two cores
    with pytest.raises(RewardError, match="returned 2 scores for 1 designs"):
        judging.score(["A"])


def test_a_cluster_of_our_own_listens_on_loopback_only(oracle_on_ray):
    """Ray's ports run code for whoever reaches them."""
    assert oracle_on_ray(Faulty()).score(["AC"]).tolist() == [12.0]  # an actor listens too
    ours = sockets_of(descendants(os.getpid()))
    listening = [line.split() for name in ("tcp", "tcp6") for line in table(name) if line.split()[3] == "0A"]
    addresses = {words[1].partition(":")[0] for words in listening if words[9] in ours}
    # 127.0.0.1, and the same as IPv6; each four bytes are written with the last one first
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert len([words for words in listening if words[9] in ours]) >= 5, "driver, gcs, raylet, agent and actor"


def table(name: str) -> list[str]:
    return Path(f"/proc/net/{name}").read_text().splitlines()[1:]


def descendants(pid: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child in parents if parents[child] == parent]
    return found


def sockets_of(pids: list[int]) -> set[str]:
    """The inode numbers of what these processes have opened as sockets."""
    found = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").glob("*")):
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found
