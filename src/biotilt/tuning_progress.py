"""How tuning goes, told round by round: apart from `progress`, which commands load before torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from biotilt.progress import Show, progress
from biotilt.training.callbacks import Callback, Ended, Row, RunInfo

# keys of a row of tuning, in the order shown; an objective has the effective sample size or the clipped part
TUNING = {
    "reward": "reward",
    "held_out": "held-out",
    "kl": "KL",
    "ess": "ESS",
    "clip_fraction": "clipped",
    "calls": "calls",
}


class Progress(Callback):
    """Shows how tuning goes."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._show: Show = lambda done, figures: None

    def on_start(self, run: RunInfo) -> None:
        self._show = self._open.enter_context(progress("round", run.rounds, TUNING))

    def on_round(self, row: Row, history: Sequence[Row]) -> None:
        self._show(int(row["round"]), row)

    def on_end(self, ended: Ended) -> None:
        self._open.close()
