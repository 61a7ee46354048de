"""A reward that forks: its children answer nobody, here and in workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from oracle_samples import oracle_of, reasons
from pool_samples import Faulty, expected

from biotilt.oracle.workers import process

DESIGNS = ["F1", "A", "FA", "CC", "F2", "AAA", "F3", "G"]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("where", ["inline", "pool"])
def test_every_design_keeps_its_own_score(pool, where, batched):
    made = Faulty(batched)
    oracle = oracle_of(made) if where == "inline" else pool(made, chunk=3)
    here = os.getpid()
    assert oracle.score(DESIGNS).tolist() == [expected(design) for design in DESIGNS]
    assert os.getpid() == here, "a child that came back would run on with this test"
    assert [row.attempts for row in oracle.ledger.rows()] == [1] * len(DESIGNS)
    assert oracle.accounts()["workers_replaced"] == 0


@pytest.mark.parametrize("where", ["inline", "pool"])
def test_a_child_that_raises_ends_too(pool, where):
    made = Faulty()
    oracle = oracle_of(made) if where == "inline" else pool(made)
    assert oracle.score(["E1", "C"]).tolist() == [1001.0, 1.0], "its parent sees that it failed"


def test_a_child_that_lives_on_does_not_hide_that_its_worker_died(pool):
    oracle = pool(Faulty(), retries=0)  # no time limit: only the end of the connection can tell
    assert oracle.score(["C", "Y1", "A"]).nan_to_num(-1).tolist() == [1.0, -1.0, 11.0]
    assert reasons(oracle)["Y1"] == "the worker died (signal 9, SIGKILL)"


class Talkative(Faulty):
    """Writes messages of its own into the connection of its worker: they are of no request."""

    def one(self, design: str) -> float:
        from multiprocessing.connection import Connection

        for descriptor in range(3, 64):
            try:
                link = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            except OSError:
                continue
            if link.startswith("socket:"):
                stolen = Connection(os.dup(descriptor))
                stolen.send(("forged",) if design == "Z" else (10**6, "scored", (0, None)))
                stolen.close()
        return expected(design)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_messages_of_other_requests_are_dropped(pool):
    oracle = pool(Talkative(), workers=1)
    assert oracle.score(["A", "CC"]).tolist() == [11.0, 2.0]
    assert oracle.accounts()["workers_replaced"] == 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_what_is_no_message_costs_the_worker(pool):
    oracle = pool(Talkative(), workers=1, retries=0)
    assert oracle.score(["Z", "A"]).nan_to_num(-1).tolist() == [-1.0, 11.0]
    assert reasons(oracle)["Z"] == process.UNREADABLE
