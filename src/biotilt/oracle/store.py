"""One SQLite file with the scores that are known and the ledger of what each run asked for.

A commit outlives a killed process, so a score is never paid for twice.
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from biotilt.errors import BiotiltError, CheckpointError

SCHEMA = 2
APPLICATION = 0x62696C74  # in the header of our files; those of the first versions have 0
FIRST_TABLES = """
CREATE TABLE IF NOT EXISTS scores (
    reward TEXT, version TEXT, design TEXT, score REAL, reason TEXT, seconds REAL, run TEXT,
    PRIMARY KEY (reward, version, design)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
    run TEXT, reward TEXT, position INTEGER,
    design TEXT, score REAL, reason TEXT, seconds REAL, cached INTEGER,
    PRIMARY KEY (run, reward, position)
) WITHOUT ROWID;
"""
# Layout n to n + 1, so that a file of any earlier biotilt is brought up to date in place.
CHANGES = (
    FIRST_TABLES,
    """
ALTER TABLE scores ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
ALTER TABLE ledger ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
CREATE TABLE work (
    run TEXT, reward TEXT, position INTEGER, busy REAL, wall REAL, workers INTEGER, replaced INTEGER,
    PRIMARY KEY (run, reward, position)
) WITHOUT ROWID;
""",
)


@dataclass(frozen=True)
class Score:
    """What the reward said of a design (NaN: see `reason`), the seconds of all `attempts`, and the run that asked.

    `columns`, (name, score, reason) each, on the way from a source: the store keeps each as a score of its own.
    """

    value: float
    reason: str = ""
    seconds: float = 0.0
    run: str = ""
    attempts: int = 1
    columns: tuple[tuple[str, float, str], ...] = ()

    @property
    def failed(self) -> bool:
        return math.isnan(self.value)


@dataclass(frozen=True)
class Row:
    """One request of a run: `position` counts from 0; `cached` requests cost no call, seconds or attempts."""

    position: int
    design: str
    score: float
    reason: str
    seconds: float
    cached: bool
    attempts: int = 1


@dataclass(frozen=True)
class Work:
    """What scoring took: seconds summed over `workers`, seconds on the clock, and workers that were replaced."""

    busy: float = 0.0
    wall: float = 0.0
    workers: int = 1
    replaced: int = 0


@dataclass
class Asked:
    """What the oracles over one store share about one source: the columns they want, and those it was seen to give.

    `called`: the designs that each run called, so that what failed is not asked again by another.
    """

    wanted: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    called: dict[str, set[str]] = field(default_factory=dict)


class Store:
    """The SQLite file at `path` (made, with its folder, when it is not there), or memory for `None`.

    Raises `CheckpointError` when the file is damaged or is no file of ours, which is then left untouched, and
    `BiotiltError` when it cannot be opened or the disk is full; the messages name the path. What was committed
    before is never lost.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.asked: defaultdict[tuple[str, str], Asked] = defaultdict(Asked)  # by name and version of a source
        with self._errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._refuse_foreign(path)
            self._db = sqlite3.connect(path or ":memory:", timeout=60)
            # Whole at the start: better than a surprise after hours.
            damage = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise self._damaged(damage.splitlines()[-1])
            schema = self._db.execute("PRAGMA user_version").fetchone()[0]
            if not 0 <= schema <= SCHEMA:
                raise CheckpointError(
                    f"{path} has layout {schema}, this version of biotilt reads up to {SCHEMA}: name another file"
                )
            # Commits survive the death of the process in any mode; FULL would also sync for a loss of power.
            self._db.execute("PRAGMA synchronous = NORMAL")
            if schema < SCHEMA:
                self._bring_up_to_date()

    def close(self) -> None:
        self._db.close()

    def _refuse_foreign(self, path: Path) -> None:
        """Raise CheckpointError for a file that is not ours, before SQLite could write a byte into it."""
        if not path.is_file() or path.stat().st_size == 0:
            return
        with path.open("rb") as handle:
            head = handle.read(100)
        application, version = (int.from_bytes(head[at : at + 4], "big") for at in (68, 60))
        if head[:16] == b"SQLite format 3\0" and application == APPLICATION:
            return
        whose = "no file of scores"
        if head[:16] == b"SQLite format 3\0":
            tables = _tables(path)
            ours = "ledger" in tables and "PRIMARY KEY (reward, version, design)" in tables.get("scores", "")
            if application == 0 and (ours or not (tables or version)):
                return
            whose = f"another program's SQLite file (with {', '.join(sorted(tables)) or 'no'} tables)"
        raise CheckpointError(f"{path} is {whose}; it was not touched: name another file, or move this one away")

    def _bring_up_to_date(self) -> None:
        self._db.isolation_level = None  # one transaction of ours, since two runs may open a new file at once
        self._db.execute("BEGIN IMMEDIATE")
        schema = self._db.execute("PRAGMA user_version").fetchone()[0]
        for change in CHANGES[schema:]:
            for statement in change.split(";"):
                self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._db.execute("COMMIT")
        self._db.isolation_level = "DEFERRED"

    def known(self, reward: str, version: str, designs: Sequence[str]) -> dict[str, Score]:
        """Return what is known, of this version of the reward, about these designs."""
        query = "SELECT design, score, reason, seconds, run, attempts FROM scores WHERE reward = ? AND version = ?"
        found: dict[str, Score] = {}
        remaining = iter(designs)
        with self._errors():
            while chunk := list(islice(remaining, 900)):  # SQLite limits the parameters of one query
                marks = ",".join("?" * len(chunk))
                rows = self._db.execute(f"{query} AND design IN ({marks})", (reward, version, *chunk))
                found |= {row[0]: Score(_from_null(row[1]), *row[2:]) for row in rows}
        return found

    def record(
        self,
        run: str,
        reward: str,
        version: str,
        scores: Mapping[str, Score],
        rows: Sequence[Row],
        work: Work | None = None,
    ) -> None:
        """Save new scores and append rows to the ledger of (run, reward), with their work, in one transaction.

        A score that is already known stays, unless it was a failure.
        """
        asked = [
            (run, reward, r.position, r.design, _to_null(r.score), r.reason, r.seconds, r.cached, r.attempts)
            for r in rows
        ]
        with self._errors(), self._db:
            self._insert((reward, version, design, score) for design, score in scores.items())
            self._db.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", asked)
            if rows and work is not None:
                values = (run, reward, rows[0].position, work.busy, work.wall, work.workers, work.replaced)
                self._db.execute("INSERT OR REPLACE INTO work VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def save(self, scores: Iterable[tuple[str, str, str, Score]]) -> None:
        """Save (reward, version, design, score) in one transaction; what is known stays, unless it was a failure."""
        with self._errors(), self._db:
            self._insert(scores)

    def columns(self, source: str, version: str) -> list[str]:
        """Return the names of the columns of a source of which a score is known, in alphabetical order."""
        start = f"{source}."
        sql = "SELECT DISTINCT reward FROM scores WHERE version = ? AND substr(reward, 1, ?) = ? ORDER BY reward"
        return [name.removeprefix(start) for (name,) in self.query(sql, (version, len(start), start))]

    def _insert(self, scores: Iterable[tuple[str, str, str, Score]]) -> None:
        self._db.executemany(
            "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "score = excluded.score, reason = excluded.reason, seconds = excluded.seconds, "
            "run = excluded.run, attempts = excluded.attempts WHERE scores.score IS NULL",
            ((*key, _to_null(s.value), s.reason, s.seconds, s.run, s.attempts) for *key, s in scores),
        )

    def query(self, sql: str, parameters: Sequence[str | int]) -> list[tuple]:
        """Return the rows of a SELECT, or carry out and commit a DELETE."""
        with self._errors(), self._db:
            return self._db.execute(sql, parameters).fetchall()

    def _damaged(self, what: object) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is damaged ({what}): move it away and resume; the run goes on from its checkpoint, "
            "and only the scores in that file are lost"
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without the extended part
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged(error) from error
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise BiotiltError(
                    f"cannot write {self.path} ({error}): free some space and resume; what was saved is safe"
                ) from error
            raise BiotiltError(f"cannot use {self.path}: {error}") from error
        except OSError as error:
            raise BiotiltError(f"cannot open {self.path}: {error.strerror}") from error


def _tables(path: Path) -> dict[str, str]:
    """Return the tables of a database with what made them, reading the file alone: no lock, no journal, no write."""
    name = quote(str(path.absolute()))
    with closing(sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)) as database:
        return dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())


def _to_null(score: float) -> float | None:
    return None if math.isnan(score) else score


def _from_null(score: float | None) -> float:
    return math.nan if score is None else score
