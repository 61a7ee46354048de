from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from biotilt.errors import BiotiltError, CheckpointError
from biotilt.oracle import Ledger, Oracle, Row, Score, Store
from biotilt.oracle.store import APPLICATION, Work
from biotilt.testing.spaces import Written


class Length:
    name, version, differentiable = "length", "1", False

    def __call__(self, designs: list[str]) -> list[float]:
        return [float(len(design)) for design in designs]


def oracle_of(store: Store, reward=None) -> Oracle:
    return Oracle(reward or Length(), store=store, max_calls=None, space=Written(lambda states: []), run_id="run")


def test_scores_survive_closing_bit_for_bit(tmp_path):
    path = tmp_path / "new" / "folder" / "oracle.sqlite"
    values = {"A": 0.1 + 0.2, "C": -math.inf, "G": 5e-324, "T": math.nan}
    store = Store(path)
    store.record("run", "r", "1", {d: Score(v, f"why {d}", 0.5, "run") for d, v in values.items()}, [])
    store.close()
    known = Store(path).known("r", "1", ["T", "C", "missing", "A", "G"])
    assert known.keys() == values.keys()
    assert math.isnan(known["T"].value)
    for design in "ACG":
        assert known[design] == Score(values[design], f"why {design}", 0.5, "run")


def test_more_designs_than_one_query_takes():
    store = Store()
    designs = [f"d{n}" for n in range(2500)]
    store.record("run", "r", "1", {d: Score(float(n)) for n, d in enumerate(designs)}, [])
    known = store.known("r", "1", [*designs, "other"])
    assert [known[design].value for design in designs] == list(range(2500))
    assert "other" not in known


def test_a_known_score_stays_and_a_failure_is_replaced():
    store = Store()
    for value in (math.nan, 2.0, 3.0):
        store.record("run", "r", "1", {"A": Score(value)}, [])
    assert store.known("r", "1", ["A"])["A"].value == 2.0


def filled_ledger(store: Store) -> Ledger:
    failures = ["late", "odd", "late", "", "late"]
    rows = [Row(n, f"d{n}", math.nan if why else 7.0, why, 0.25, cached=n == 4) for n, why in enumerate(failures)]
    store.record("run", "r", "1", {}, rows)
    store.record("other", "r", "1", {}, [Row(0, "x", 1.0, "", 0.0, cached=False)])
    return Ledger(store, "run", "r")


def test_ledger_counts_calls_and_failures_of_its_run():
    ledger = filled_ledger(Store())
    assert (ledger.position, ledger.calls) == (5, 4)
    assert ledger.failures() == [("late", 2), ("odd", 1)]  # the cached repetition is not a failure of its own
    assert ledger.failures(limit=1) == [("late", 2)]
    assert ledger.called() == {"d0", "d1", "d2", "d3"}
    assert [row.design for row in ledger.rows(start=3)] == ["d3", "d4"]


def test_rewind_forgets_the_end_of_its_own_rows_only(tmp_path):
    store = Store(tmp_path / "o.sqlite")
    store.record("run", "s", "1", {}, [Row(n, "x", 1.0, "", 0.0, cached=False) for n in range(4)])
    filled_ledger(store).rewind(2)
    store.close()
    store = Store(tmp_path / "o.sqlite")
    assert [row.design for row in Ledger(store, "run", "r").rows()] == ["d0", "d1"]
    assert Ledger(store, "other", "r").position == 1
    assert Ledger(store, "run", "s").position == 4


def test_rows_are_read_in_pages(monkeypatch):
    monkeypatch.setattr("biotilt.oracle.ledger.PAGE", 2)
    assert [row.position for row in filled_ledger(Store()).rows()] == [0, 1, 2, 3, 4]


KILLED = """
import os, signal, sys
from pathlib import Path
from biotilt.oracle import Oracle, Store
from biotilt.testing.spaces import Written

class Deadly:
    name, version, differentiable = "length", "1", False
    def __call__(self, designs):
        if "TTT" in designs:
            os.kill(os.getpid(), signal.SIGKILL)
        return [float(len(design)) for design in designs]

oracle = Oracle(Deadly(), store=Store(Path(sys.argv[1])), max_calls=None, space=Written(list), run_id="run",
                batch_size=2)
oracle.score(["A", "CC"])
oracle.score(["GG", "A", "C", "TTT"])
"""


def test_kill_9_loses_nothing_that_was_scored(tmp_path):
    path = tmp_path / "o.sqlite"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store(path)
    # The second request died in its second piece: its first, GG A C, is on disk.
    assert set(store.known("length", "1", ["A", "CC", "GG", "C", "TTT"])) == {"A", "CC", "GG", "C"}
    oracle = oracle_of(store)
    oracle.load_state_dict({"position": 2, "calls": 2})
    assert oracle.score(["GG", "A", "C", "TTT"]).tolist() == [2.0, 1.0, 1.0, 3.0]
    assert oracle.calls == 5


def test_a_full_disk_is_named_and_loses_nothing(tmp_path):
    path = tmp_path / "o.sqlite"
    store = Store(path)
    oracle = oracle_of(store)
    oracle.score(["A", "CC"])
    # SQLite's own limit gives the very error of a full disk.
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    large = ["G" * 1000 + "ACGT"[n % 4] * n for n in range(100)]
    with pytest.raises(BiotiltError, match=r"cannot write .*o\.sqlite.*full.*free some space"):
        oracle.score(large)
    assert (oracle.calls, oracle.ledger.position) == (2, 2)
    assert set(Store(path).known("length", "1", ["A", "CC", *large])) == {"A", "CC"}
    store._db.execute("PRAGMA max_page_count = 100000")
    assert oracle.score(large).tolist() == [1000.0 + n for n in range(100)]
    assert oracle.calls == 102


def refused_untouched(path: Path, message: str) -> None:
    folder = path.parent
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    with pytest.raises(CheckpointError, match=message):
        Store(path)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "o.sqlite"
    path.write_text("not a database, but long enough to be taken for one" * 20)
    refused_untouched(path, r"o\.sqlite is no file of scores; it was not touched: name another file")


FOREIGN = {
    "tables": ("CREATE TABLE bookmarks (url TEXT)", "bookmarks"),
    "our names": ("CREATE TABLE scores (player TEXT); CREATE TABLE ledger (entry TEXT)", "ledger"),
    "our version": ("CREATE TABLE bookmarks (url TEXT); PRAGMA user_version = 2", "bookmarks"),
    "application": ("PRAGMA application_id = 7", "no tables"),
    "version alone": ("PRAGMA user_version = 99", "no tables"),
    "write-ahead log": ("PRAGMA journal_mode = WAL; CREATE TABLE bookmarks (url TEXT)", "bookmarks"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_the_database_of_another_program_is_refused_untouched(tmp_path, kind):
    script, words = FOREIGN[kind]
    path = tmp_path / "a b?#%.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    refused_untouched(path, f"is another program's SQLite file .*{words}.*it was not touched")


def test_a_journal_that_another_program_left_is_not_played_back(tmp_path):
    """Opened in earnest, the file would be rolled back: the other program's affair."""
    path = tmp_path / "o.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("CREATE TABLE t (x); PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN;")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 900,) for _ in range(300)])
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("o.sqlite", "o.sqlite-journal"):
        (killed / name).write_bytes((tmp_path / name).read_bytes())
    connection.close()
    refused_untouched(killed / "o.sqlite", "another program's")


def test_a_file_that_holds_nothing_is_taken(tmp_path):
    (tmp_path / "empty.sqlite").write_bytes(b"")
    connection = sqlite3.connect(tmp_path / "vacuumed.sqlite")
    connection.execute("VACUUM")  # a database without tables
    connection.close()
    for name in ("empty", "vacuumed"):
        store = Store(tmp_path / f"{name}.sqlite")
        assert oracle_of(store).score(["AC"]).tolist() == [2.0]
        store.close()
        assert Store(tmp_path / f"{name}.sqlite").known("length", "1", ["AC"])["AC"].value == 2.0


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_database(tmp_path, damage):
    path = tmp_path / "o.sqlite"
    store = Store(path)
    store.record("run", "r", "1", {f"{n}" * 200: Score(float(n)) for n in range(500)}, [])
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff" * (0 if damage == "cut" else len(content) // 2))
    with pytest.raises(CheckpointError, match=r"o\.sqlite is damaged .*move it away and resume"):
        Store(path)


def test_a_file_of_a_later_layout_is_refused(tmp_path):
    path = tmp_path / "o.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    refused_untouched(path, r"o\.sqlite has layout 99")


FIRST_LAYOUT = """
CREATE TABLE scores (
    reward TEXT, version TEXT, design TEXT, score REAL, reason TEXT, seconds REAL, run TEXT,
    PRIMARY KEY (reward, version, design)
) WITHOUT ROWID;
CREATE TABLE ledger (
    run TEXT, reward TEXT, position INTEGER,
    design TEXT, score REAL, reason TEXT, seconds REAL, cached INTEGER,
    PRIMARY KEY (run, reward, position)
) WITHOUT ROWID;
INSERT INTO scores VALUES ('length', '1', 'AC', 2.0, '', 0.25, 'run'), ('length', '1', 'G', NULL, 'late', 0.5, 'run');
INSERT INTO ledger VALUES
    ('run', 'length', 0, 'AC', 2.0, '', 0.25, 0),
    ('run', 'length', 1, 'AC', 2.0, '', 0.0, 1),
    ('run', 'length', 2, 'G', NULL, 'late', 0.5, 0);
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_layout_is_brought_up_to_date(tmp_path):
    path = tmp_path / "o.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_LAYOUT)
    connection.close()
    for _ in range(2):  # the second time it is already
        store = Store(path)
        assert store.known("length", "1", ["AC"])["AC"] == Score(2.0, "", 0.25, "run", attempts=1)
        rows = list(Ledger(store, "run", "length").rows())
        assert rows[:2] == [Row(0, "AC", 2.0, "", 0.25, False, 1), Row(1, "AC", 2.0, "", 0.0, True, 1)]
        assert (rows[2].reason, rows[2].attempts) == ("late", 1)
        store.close()
    oracle = oracle_of(Store(path))
    assert oracle.accounts() == {
        "calls": 2, "cache_hits": 1, "failures": 1, "attempts": 2, "retries": 0, "scoring_seconds": 0.0,
        "wall_seconds": 0.0, "utilisation": 0.0, "workers": 1, "workers_replaced": 0,
    }  # fmt: skip
    assert oracle.score(["TTT"]).tolist() == [3.0]
    assert oracle.calls == 3


def test_work_is_forgotten_with_its_rows():
    store = Store()
    for n, busy in enumerate((1.0, 2.0, 4.0)):
        row = Row(2 * n, f"d{n}", 1.0, "", busy, cached=False)
        store.record("run", "r", "1", {}, [row], Work(busy, busy / 2, workers=3, replaced=n))
    ledger = Ledger(store, "run", "r")
    assert ledger.work() == (Work(7.0, 3.5, 3, 3), 10.5)
    ledger.rewind(4)
    assert ledger.work() == (Work(3.0, 1.5, 3, 1), 4.5)
    assert Ledger(store, "other", "r").work() == (Work(0.0, 0.0, 1, 0), 0.0)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BiotiltError, match=r"cannot open .*file/o\.sqlite"):
        Store(tmp_path / "file" / "o.sqlite")


def test_a_path_that_is_a_folder(tmp_path: Path):
    with pytest.raises(BiotiltError, match=f"cannot use {tmp_path}"):
        Store(tmp_path)
