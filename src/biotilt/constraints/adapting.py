"""An objective whose constraints adapt while it tunes."""

from __future__ import annotations

from torch import Tensor

from biotilt.constraints.constrained import Constrained
from biotilt.core import Batch, Columns, Context, Metrics, Objective, Round, Value


class Adapting(Objective):
    """An objective that adapts the multipliers before it collects a round; in all else that objective itself."""

    def __init__(self, objective: Objective, scorer: Constrained) -> None:
        self.objective, self.scorer = objective, scorer
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

    def columns(self, value: Value | None) -> Columns:
        return self.objective.columns(value)

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        return self.objective.loss(context, rows)

    def collect(self, context: Context, calls: int) -> Round:
        """Adapt, then collect; the figures of both are shown, the mean reward without the prices."""
        figures = self.scorer.adapt(context)
        found = self.objective.collect(context, calls)
        if "reward" in found.metrics and self.scorer.mean_reward is not None:
            figures |= {"reward": self.scorer.mean_reward, "priced_reward": found.metrics["reward"]}
        return Round(found.rows, found.designs, found.metrics | figures)
