"""Rewards that record what they were asked, and an oracle around one."""

from __future__ import annotations

from biotilt.oracle import Oracle, Store
from biotilt.testing.spaces import Written


class Letters:
    """Score = 10 · (number of A) + length, and a record of every batch that was asked."""

    differentiable = False

    def __init__(self, name: str = "letters", version: str = "1"):
        self.name, self.version = name, version
        self.batches: list[list[str]] = []

    def __call__(self, designs: list[str]) -> list[float]:
        self.batches.append(designs)
        return [self.one(design) for design in designs]

    def one(self, design: str):
        return 10.0 * design.count("A") + len(design)


class Answers(Letters):
    """What each design gets from a table: a value, or an exception that is raised."""

    def __init__(self, **table):
        super().__init__("answers")
        self.table = table

    def one(self, design):
        answer = self.table.get(design, 1.0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def oracle_of(reward, store=None, *, max_calls=None, run_id="run", **options) -> Oracle:
    def decode(states):
        return ["".join("ACGT"[token] for token in row) for row in states.tolist()]

    store = store or Store()
    return Oracle(reward, store=store, max_calls=max_calls, space=Written(decode), run_id=run_id, **options)


def reasons(oracle: Oracle) -> dict[str, str]:
    return {row.design: row.reason for row in oracle.ledger.rows()}
