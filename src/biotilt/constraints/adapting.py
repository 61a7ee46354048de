"""An objective whose constraints adapt while it tunes."""

from __future__ import annotations

from biotilt.constraints.around import Around
from biotilt.constraints.constrained import Constrained
from biotilt.core import Context, Objective, Round


class Adapting(Around):
    """An objective that adapts the multipliers before it collects a round; in all else that objective itself."""

    def __init__(self, objective: Objective, scorer: Constrained) -> None:
        super().__init__(objective)
        self.scorer = scorer

    def collect(self, context: Context, calls: int) -> Round:
        """Adapt, then collect; the figures of both are shown, the mean reward without the prices."""
        figures = self.scorer.adapt(context)
        found = self.objective.collect(context, calls)
        if "reward" in found.metrics and self.scorer.mean_reward is not None:
            figures |= {"reward": self.scorer.mean_reward, "priced_reward": found.metrics["reward"]}
        return Round(found.rows, found.designs, found.metrics | figures)
