"""What an objective keeps of its rounds: rows of declared columns, typed and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor

Batch = dict[str, Tensor]
Kind = Literal["states", "float", "int", "bool"]
Columns = Mapping[str, Kind]
"""The names of columns, and what they hold. Some mean the same to all: `designs`, or `chain` `(B, K+1, ...)`, whose
last states are designs; `rewards` `(B,)` in units of reward, as the objective saw them; `scored`, which have one.
Weights are derived in `loss`."""


@dataclass
class Replay:
    """The newest `capacity` rows of what was collected: tensors with a common first axis.

    `capacity` None keeps the last round only, which is what an on-policy objective wants. `columns` are those that the
    objective declares; None checks no names.
    """

    capacity: int | None
    rows: Batch = field(default_factory=dict)
    columns: Columns | None = None

    def __len__(self) -> int:
        return len(next(iter(self.rows.values()))) if self.rows else 0

    def add(self, batch: Batch) -> None:
        """Append rows, dropping the oldest beyond the capacity; ValueError for rows that are not as declared."""
        check_rows(batch, self.columns)
        if self.capacity is None or not self.rows:
            self.rows = batch
        else:
            for name, held in self.rows.items():
                if batch[name].dtype != held.dtype:  # joined, they would change type in silence
                    raise ValueError(f'rows of "{name}" are {batch[name].dtype}, those before are {held.dtype}')
            self.rows = {k: torch.cat([self.rows[k], v]) for k, v in batch.items()}
        if self.capacity is not None:
            self.rows = {k: v[-self.capacity :] for k, v in self.rows.items()}

    def draw(self, count: int | None, generator: Generator) -> Batch:
        """Return `count` distinct rows, uniformly (all when there are fewer); with None all, as they are."""
        return self.rows if count is None else draw_rows(self.rows, count, generator)

    def reprice(self, change: Callable[[Tensor], Tensor]) -> int:
        """Add `change(designs)` `(B,)` to the rewards of all scored rows; return how many rows had to be forgotten.

        Rows that do not hold designs with their rewards, such as those of plug-in values, cannot be told what else
        they should hold: all are forgotten. A change that is not finite leaves a reward as it is.
        """
        rows = self.rows
        designs = rows["chain"][:, -1] if "chain" in rows else rows.get("designs")
        if designs is None or "rewards" not in rows:
            forgotten, self.rows = len(self), {}
            return forgotten
        scored = rows.get("scored", torch.ones_like(rows["rewards"], dtype=torch.bool))
        more = change(designs[scored]).to(rows["rewards"])
        new = rows["rewards"].clone()  # a row may be shared
        new[scored] += torch.where(more.isfinite(), more, 0.0)
        self.rows = rows | {"rewards": new}
        return 0


def check_rows(rows: Batch, columns: Columns | None) -> None:
    """Raise ValueError unless rows are as many in each column and, where columns are declared, named and typed so."""
    if len({len(value) for value in rows.values()}) != 1:
        raise ValueError(f"rows differ in number: { {k: len(v) for k, v in rows.items()} }")
    if columns is None:
        return
    if rows.keys() != columns.keys():
        raise ValueError(f"the rows have the columns {', '.join(rows)}, the objective declares {', '.join(columns)}")
    for name, value in rows.items():
        kind = "bool" if value.dtype == torch.bool else "float" if value.is_floating_point() else "int"
        if columns[name] not in ("states", kind):
            raise ValueError(f'the column "{name}" is {value.dtype}, the objective declares {columns[name]}')


def draw_rows(rows: Batch, count: int, generator: Generator) -> Batch:
    """Return `count` distinct rows, uniformly (all of them when there are fewer)."""
    size = len(next(iter(rows.values()))) if rows else 0
    picked = torch.randperm(size, generator=generator, device=generator.device)[:count]
    return {k: v[picked] for k, v in rows.items()}


def drop_unscored(rows: Batch) -> Batch:
    """Drop the rows in which any floating-point entry is NaN: an unscored design teaches nothing."""
    keep = torch.ones(len(next(iter(rows.values()))), dtype=torch.bool)
    for value in rows.values():
        if value.is_floating_point():
            keep = keep.to(value.device) & ~value.reshape(len(value), -1).isnan().any(1)
    return {k: v[keep] for k, v in rows.items()}
