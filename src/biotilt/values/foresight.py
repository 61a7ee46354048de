"""How well a value foresees scores that it has not learned from, and what is said when it does not."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.core import Metrics

NOTHING = 0.9  # part of the variance above which it knows nothing
ENOUGH = 48.0  # scores, of which the older count less, before that is said
ROUNDS = 1.75  # the same of rounds: three of them
KEPT = 0.5  # what a round's scores count one round later


class Foresight(nn.Module):
    """Squared error of predictions that were made before the scores were learned, in units of the scores' variance.

    So every label is held out once, and none is lost. It is part of the value's state.
    """

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.told = False
        # of the newest rounds: number, Σ (score − prediction)², Σ score, Σ score², and of rounds
        self.register_buffer("sums", torch.zeros(5, dtype=torch.float64))
        self.register_load_state_dict_pre_hook(_begun_without)

    def observe(self, predicted: Tensor, scores: Tensor) -> Metrics:
        """Compare predictions `(B,)` with scores `(B,)`, NaN where not scored, and return `value_held_out` once known.

        Warns, once, where it is above `NOTHING`.
        """
        known = scores.isfinite()
        scores, missed = scores[known].double(), (scores - predicted)[known].double()
        new = torch.cat(
            [
                torch.stack([torch.ones_like(scores), missed.square(), scores, scores.square()]).sum(1),
                scores.new_ones(1),
            ]
        )
        self.sums = KEPT * self.sums + new.to(self.sums.device)
        count, error, total, squares, rounds = self.sums.tolist()
        variance = squares / count - (total / count) ** 2 if count else 0.0
        if variance <= 0:
            return {}
        part = error / count / variance
        if part > NOTHING and count >= ENOUGH and rounds >= ROUNDS and not self.told:
            self.told = True
            warnings.warn(
                f"the learned value knows nothing: its error on scores that it had not seen is {part:.2f} of their "
                "variance. Take another value (docs/algorithms.md), or an objective without one, such as ppo or evolve",
                stacklevel=2,
            )
        return {"value_held_out": part}


def _begun_without(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a value be read that was written before it foresaw anything: it has foreseen nothing yet."""
    state.setdefault(f"{prefix}sums", torch.zeros(5, dtype=torch.float64))
