"""An objective around another: the same in all but what it overrides."""

from __future__ import annotations

from torch import Tensor

from biotilt.core import Batch, Columns, Context, Metrics, Objective, Round, Value


class Around(Objective):
    """The objective within, to which everything is handed on; a derived one does something before it collects."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.updates = objective.updates

    @property
    def name(self) -> str:
        return self.objective.name

    @property
    def capacity(self) -> int | None:
        return self.objective.capacity

    @property
    def refresh_every(self) -> int:
        return self.objective.refresh_every

    @property
    def batch_size(self) -> int | None:
        return self.objective.batch_size

    def check_calls(self, calls: int) -> None:
        self.objective.check_calls(calls)

    def columns(self, value: Value | None) -> Columns:
        return self.objective.columns(value)

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        return self.objective.loss(context, rows)

    def begun(self, context: Context, designs: Tensor, scores: Tensor) -> Batch:
        return self.objective.begun(context, designs, scores)

    def collect(self, context: Context, calls: int) -> Round:
        return self.objective.collect(context, calls)
