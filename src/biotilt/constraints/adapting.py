"""An objective whose constraints adapt while it tunes."""

from __future__ import annotations

from typing import Any

from biotilt.constraints.constrained import Constrained
from biotilt.core import Context, Objective, Round


class Adapting:
    """An objective that adapts the multipliers before it collects a round; in all else that objective itself."""

    def __init__(self, objective: Objective, scorer: Constrained) -> None:
        self.objective, self.scorer = objective, scorer

    def __getattr__(self, name: str) -> Any:
        if name == "objective":
            raise AttributeError(name)
        return getattr(self.objective, name)

    def collect(self, context: Context, calls: int) -> Round:
        """Adapt, then collect; the figures of both are shown, the mean reward without the prices."""
        figures = self.scorer.adapt(context)
        found = self.objective.collect(context, calls)
        if "reward" in found.metrics and self.scorer.mean_reward is not None:
            figures |= {"reward": self.scorer.mean_reward, "priced_reward": found.metrics["reward"]}
        return Round(found.rows, found.designs, found.metrics | figures)
