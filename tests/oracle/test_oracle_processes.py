"""Worker processes leave nothing behind, and the run outlives every one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from oracle_samples import oracle_of
from pool_samples import Faulty, Noise, expected

from biotilt.errors import RewardError
from biotilt.oracle import build_backend

SCRIPT = """
import sys, time
sys.path.insert(0, {folder!r})
from pathlib import Path
from pool_samples import Faulty
from biotilt.errors import RewardError
from biotilt.oracle import build_backend

print("script", flush=True)
backend = build_backend("pool", Faulty(folder=Path(sys.argv[1])), workers=2)
ticket = backend.submit(["H1", "D2"])
files = [Path(sys.argv[1]) / name for name in ("H1", "D2", "program")]
while not all(file.exists() and file.read_text().endswith("\\n") for file in files):
    time.sleep(0.01)
print("busy", flush=True)
ticket.wait(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_and_their_daemons_end_with_their_parent(tmp_path, number):
    script = tmp_path / "script.py"  # it has no `if __name__ == "__main__"`
    script.write_text(SCRIPT.format(folder=str(Path(__file__).parent)))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert parent.stdout is not None
    assert [parent.stdout.readline(), parent.stdout.readline()] == ["script\n", "busy\n"]
    workers = [int((tmp_path / name).read_text()) for name in ("H1", "D2", "program")]
    for worker in workers:
        os.kill(worker, 0)  # all are alive
    os.killpg(parent.pid, number)
    _, errors = parent.communicate(timeout=20)
    for worker in workers:
        assert_dead(worker)
    assert errors.count("Traceback") == (number == signal.SIGINT), errors  # that of the script itself


def assert_dead(pid: int) -> None:
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return  # dead, but the process it was left to has not heard of it
        except OSError:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is alive")


def test_a_closed_pool_leaves_no_process_even_when_one_hangs(tmp_path):
    made = Faulty(folder=tmp_path)
    backend = build_backend("pool", made, workers=1)
    backend.submit(["H1"])
    while not (tmp_path / "H1").exists() or not (tmp_path / "H1").read_text():
        time.sleep(0.01)
    backend.close()
    assert_dead(int((tmp_path / "H1").read_text()))


def test_an_idle_worker_that_was_killed_costs_nothing(pool, tmp_path):
    made = Faulty(folder=tmp_path)
    oracle = pool(made, workers=1, retries=0)
    oracle.score(["A"])
    os.kill(int((tmp_path / "A").read_text()), signal.SIGKILL)
    time.sleep(0.1)
    assert oracle.score(["C"]).tolist() == [1.0]
    assert oracle.accounts()["retries"] == 0


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(("generations", "retries"), [(1, 1), (2, 2)])
def test_when_the_guard_of_a_worker_or_what_bears_them_is_killed_the_run_goes_on(pool, tmp_path, generations, retries):
    made = Faulty(seconds=0.05, folder=tmp_path)
    oracle = pool(made)
    designs = [f"A{n}" for n in range(20)]

    def kill():
        pid = started(tmp_path / "A5")
        for _ in range(generations):
            pid = parent_of(pid)
        os.kill(pid, signal.SIGKILL)

    assert oracle.score(designs, kill).tolist() == [expected(d) for d in designs]
    assert oracle.accounts()["retries"] == retries, "one design in flight a worker"


def started(file: Path) -> int:
    """Wait for a process that writes its number, and return it."""
    while not file.exists() or not file.read_text().endswith("\n"):
        time.sleep(0.01)
    return int(file.read_text())


@pytest.mark.parametrize("design", ["P1", "D1"])
def test_a_program_that_a_design_started_dies_with_its_worker(pool, tmp_path, design):
    """D: it is a daemon, in a session of its own and with no parent left."""
    pool(Faulty(folder=tmp_path), time_limit=0.5).score(["A", design])
    assert_dead(started(tmp_path / "program"))


@pytest.mark.parametrize("generations", [1, 2])
def test_a_daemon_dies_with_the_guard_of_its_worker_and_with_what_bears_them(pool, tmp_path, generations):
    def kill():
        pid = started(tmp_path / "D1")
        daemon.append(started(tmp_path / "program"))
        for _ in range(generations):
            pid = parent_of(pid)
        os.kill(pid, signal.SIGKILL)

    daemon: list[int] = []
    pool(Faulty(folder=tmp_path), retries=0, workers=1).score(["D1"], kill)
    assert_dead(daemon[0])


def test_a_daemon_lives_as_long_as_its_worker(pool, tmp_path):
    """The death of one worker does not touch what another one started."""
    oracle = pool(Faulty(folder=tmp_path), retries=0, workers=2)
    oracle.score(["B1"])
    daemon = started(tmp_path / "program")
    worker = started(tmp_path / "B1")
    oracle.score(["K1", "K2", "A"])
    assert Path(f"/proc/{worker}").exists() is Path(f"/proc/{daemon}").exists()
    oracle.close()
    assert_dead(daemon)


def test_oracles_that_share_a_pool_have_accounts_of_their_own(tmp_path):
    backend = build_backend("pool", Faulty(), workers=1)
    tuning = oracle_of(Faulty(), backend=backend, max_unscored=1.0)
    tuning.score(["K1"])
    judging = oracle_of(Faulty(), backend=backend)
    judging.score(["A"])
    assert [oracle.accounts()["workers_replaced"] for oracle in (tuning, judging)] == [2, 0]
    with pytest.raises(RewardError):
        oracle_of(Faulty(), backend=backend, patience=1).score(["K2"])
    tuning.score(["A", "K3"])
    judging.score(["C"])
    assert [oracle.accounts()["workers_replaced"] for oracle in (tuning, judging)] == [4, 0]
    backend.close()


def test_the_accounts_of_pieces_that_overlap_add_up():
    made = Faulty(seconds=0.1)
    backend = build_backend("pool", made, workers=2)
    oracle = oracle_of(made, backend=backend, batch_size=2, max_unscored=1.0)
    oracle.score(["A", "C"])  # the workers are there
    before = oracle.accounts()["wall_seconds"]
    oracle.score(["G", "T", "AA", "AC", "AG", "AT"])
    assert oracle.accounts()["wall_seconds"] - before < 0.5, "0.3 s, and not 0.1 + 0.2 + 0.3"
    oracle.score(["K1", "CC", "CG", "CT", "GG", "GT"])
    assert oracle.accounts()["workers_replaced"] == 2
    backend.close()


def test_workers_do_not_all_draw_the_same_noise(pool):
    made = Noise()
    made.imports = ("numpy",)  # type: ignore[attr-defined]
    first, _, second = pool(made, workers=1, retries=0).score(["A", "K", "C"]).tolist()
    assert first != second, "the first draws of two forks of one process"
