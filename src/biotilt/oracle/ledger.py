"""What one run asked of one reward, in order: the record that counts calls and shows every failure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from biotilt.oracle.store import Row, Store, Work

PAGE = 10_000
INFEASIBLE = "-9e999"  # -inf, as SQLite writes it
NO_REASON = "−inf without a reason"


class Ledger:
    """The rows of the store that belong to one run and one reward, named `reward`; rows are only appended.

    `rewind` forgets the rows after a checkpoint, so that a resumed run repeats them.
    """

    def __init__(self, store: Store, run: str, reward: str) -> None:
        self._store = store
        self._key = (run, reward)

    @property
    def position(self) -> int:
        """The number of rows, which is the position of the next one."""
        return self._one("COALESCE(MAX(position) + 1, 0)", "TRUE")

    @property
    def calls(self) -> int:
        """The number of requests that cost a call."""
        return self._one("COUNT(*)", "NOT cached")

    def calls_before(self, position: int) -> int:
        """Return the number of requests before `position` that cost a call."""
        return self._select("COUNT(*)", "NOT cached AND position < ?", position)[0][0]

    @property
    def any_scored(self) -> bool:
        """Whether any request got a score that is not NaN."""
        return bool(self._one("EXISTS (SELECT 1", "score IS NOT NULL)"))

    @property
    def any_finite(self) -> bool:
        """Whether any request got a score that is neither NaN nor −inf."""
        return bool(self._one("EXISTS (SELECT 1", f"score > {INFEASIBLE})"))

    def without_score(self) -> tuple[int, int]:
        """Return how many designs could not be scored, and how many are infeasible."""
        distinct = "COUNT(DISTINCT design)"
        return self._one(distinct, "score IS NULL"), self._one(distinct, f"score = {INFEASIBLE}")

    def reasons(self, limit: int = 3) -> list[tuple[str, int]]:
        """Return the most common reasons why designs have no finite score, each with its number of designs."""
        said = f"CASE WHEN reason = '' THEN '{NO_REASON}' ELSE reason END"
        order = f"GROUP BY 1 ORDER BY COUNT(DISTINCT design) DESC, 1 LIMIT {limit}"
        where = f"(score IS NULL OR score = {INFEASIBLE})"
        return self._select(f"{said}, COUNT(DISTINCT design)", f"{where} {order}")

    @property
    def failed(self) -> int:
        """The number of calls that gave no score."""
        return self._one("COUNT(*)", "NOT cached AND score IS NULL")

    @property
    def attempts(self) -> int:
        """The number of times that the reward was asked for a design, retries and repeats included."""
        return self._one("COALESCE(SUM(attempts), 0)", "NOT cached")

    def work(self) -> tuple[Work, float]:
        """Return what the run's scoring took (the workers of its last request), and what they could have done.

        The latter is workers × seconds on the clock, summed over the requests.
        """
        sums = "COALESCE(SUM(busy), 0.0), COALESCE(SUM(wall), 0.0), COALESCE(SUM(replaced), 0)"
        capacity = "COALESCE(SUM(wall * workers), 0.0)"
        ((busy, wall, replaced, possible),) = self._select(f"{sums}, {capacity}", "TRUE", table="work")
        last = self._select("workers", "TRUE ORDER BY position DESC LIMIT 1", table="work")
        return Work(busy, wall, last[0][0] if last else 1, replaced), possible

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield the rows from position `start` on, in order; pages keep memory bounded."""
        columns = "position, design, score, reason, seconds, cached, attempts"
        while page := self._select(columns, f"position >= ? ORDER BY position LIMIT {PAGE}", start):
            for position, design, score, reason, seconds, cached, attempts in page:
                value = math.nan if score is None else score
                yield Row(position, design, value, reason, seconds, bool(cached), attempts)
            start = page[-1][0] + 1

    def called(self) -> set[str]:
        """Return the designs that cost this run a call."""
        return {design for (design,) in self._select("design", "NOT cached")}

    def failures(self, limit: int = 3) -> list[tuple[str, int]]:
        """Return the most common reasons for a NaN, each with its number of calls."""
        order = f"GROUP BY reason ORDER BY COUNT(*) DESC, reason LIMIT {limit}"
        return self._select("reason, COUNT(*)", f"NOT cached AND score IS NULL {order}")

    def rewind(self, position: int) -> None:
        """Delete the rows from `position` on."""
        for table in ("ledger", "work"):
            sql = f"DELETE FROM {table} WHERE run = ? AND reward = ? AND position >= ?"
            self._store.query(sql, (*self._key, position))

    def _select(self, columns: str, condition: str, *parameters: int, table: str = "ledger") -> list[tuple]:
        sql = f"SELECT {columns} FROM {table} WHERE run = ? AND reward = ? AND {condition}"
        return self._store.query(sql, (*self._key, *parameters))

    def _one(self, column: str, condition: str) -> int:
        return self._select(column, condition)[0][0]
