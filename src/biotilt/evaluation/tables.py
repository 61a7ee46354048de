"""Tables of designs: one a row of the panel, ranked, with everything that is known about each design."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biotilt.core.space import Record, Space
from biotilt.digits import exact
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.measure import Values
from biotilt.folder import FASTA, TABLES
from biotilt.spaces import Text
from biotilt.spaces.told import ToldText


@dataclass
class Designs:
    """The designs of one row, B `items` of a space, with what is known about them, one number a design.

    `optimised`, `held_out`: the higher the better, as everywhere; NaN = not scored, −inf = infeasible. `loglik`: bound
    on log p under the base, nats. `columns`: name -> numbers, in the field's own units. `flags`: words about a design.
    `row` is that of the panel, and `judged` the set that it is about. `among`: the optimised scores of all that they
    were chosen from. `guarded`: the judge tells what designs should keep, not what they are to gain.
    """

    name: str
    items: list[Any]
    optimised: list[float]
    held_out: list[float] | None
    loglik: list[float] | None = None
    row: dict[str, Any] = field(default_factory=dict)
    judged: Judged = field(default_factory=Judged)
    columns: dict[str, Values] = field(default_factory=dict)
    flags: list[list[str]] = field(default_factory=list)
    weights: list[float] | None = None
    among: list[float] | None = None
    guarded: bool = False

    @property
    def rank_by(self) -> str:
        """The column that ranks them: the judge's where it scored any, and does not only guard."""
        judged = self.held_out is not None and not self.guarded and not all(map(math.isnan, self.held_out))
        return "held_out" if judged else "optimised"

    def order(self) -> list[int]:
        """Return the places of the designs, the best first; those that were not scored are last."""
        scores = self.held_out if self.rank_by == "held_out" else self.optimised
        assert scores is not None
        both = [(scores[i], self.optimised[i]) for i in range(len(self.items))]
        return sorted(
            range(len(both)), key=lambda i: [-math.inf if math.isnan(s) else s for s in both[i]], reverse=True
        )

    def records(self) -> list[Record[Any]]:
        """Return them as records for a file, ranked, with every digit; a cell is empty where there is no number."""
        known: dict[str, Values | None] = {
            "weight": self.weights, "held_out": self.held_out, "optimised": self.optimised, **self.columns,
            "log_p_base": self.loglik,
        }  # fmt: skip
        records = []
        for rank, i in enumerate(self.order(), 1):
            item = self.items[i]
            values = {"condition": item.condition} if isinstance(item, ToldText) else {}
            values |= {name: _cell(column[i]) for name, column in known.items() if column is not None}
            values["flags"] = ";".join(self.flags[i]) if self.flags else ""
            records.append(Record(f"{_PREFIX.get(self.name, self.name)}_{rank}", self.items[i], values))
        return records


_PREFIX = {"tuned": "design"}


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else exact(value)


def write_table(folder: Path, designs: Designs, space: Space[Any]) -> None:
    """Write the table of a row into the folder of a run; tuned designs as FASTA too, where they are of letters."""
    records = designs.records()
    space.write(folder / TABLES[designs.name], records)
    if designs.name == "tuned" and isinstance(space, Text) and space.written_in is not None:
        space.write(folder / FASTA, records)


def flagged(
    designs: Designs, space: Space[Any], measured_max: float | None, bounds: Mapping[str, Sequence[bool]]
) -> list[list[str]]:
    """Return the flags of each design: what a reader of its row in the table should know.

    `bounds`: name of a constraint -> whether each design keeps it.
    """
    seen: set[str] = set()
    flags: list[list[str]] = []
    for i, design in enumerate(designs.items):
        key = space.key(design)
        optimised = designs.optimised[i]
        held_out = math.nan if designs.held_out is None else designs.held_out[i]
        highest = max((s for s in (optimised, held_out) if not math.isnan(s)), default=math.nan)
        found = {
            "empty": not key,
            "not_scored": math.isnan(optimised),
            "infeasible": optimised == -math.inf,
            "not_judged": designs.held_out is not None and math.isnan(held_out),
            "beyond_measured": measured_max is not None and highest > measured_max,
            "repeat": key in seen,
        }
        found |= {f"breaks_{name}": not kept[i] for name, kept in bounds.items()}
        flags.append([flag for flag, holds in found.items() if holds])
        seen.add(key)
    return flags


COLUMNS = {
    "weight": "weight of the design under the target distribution; they sum to 1",
    "flags": "what to know: empty, not_scored, infeasible, not_judged, beyond_measured, repeat, breaks_CONSTRAINT",
}
"""What the columns mean that are no measure; those of a reward's parts come from the run."""
