"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from biotilt.folder import TENSORBOARD
from biotilt.training.callbacks import Ended, Row, RunInfo
from biotilt.training.trackers.base import Tracker, place_of


@dataclass
class TensorBoard(Tracker):
    """Event files in `tensorboard/` of the run's folder: `tensorboard --logdir FOLDER` shows them."""

    name: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboard"
    _writer: Any = field(default=None, init=False, repr=False)

    def open(self, run: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed run wrote after its last checkpoint is hidden
        self._writer = SummaryWriter(place_of(run) / TENSORBOARD, purge_step=run.calls + 1)

    def log(self, figures: Row) -> None:
        for key, value in figures.items():
            if key not in ("round", "calls"):
                self._writer.add_scalar(key, value, int(figures["calls"]))

    def close(self, ended: Ended) -> None:
        self._writer.close()
