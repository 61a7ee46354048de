"""Weights & Biases, by its documented interface: `wandb.init`, `run.log`, `run.finish`."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from biotilt.options import Name
from biotilt.training.callbacks import Ended, Row, RunInfo
from biotilt.training.trackers.base import Tracker, own_identifier, place_of


@dataclass
class WeightsAndBiases(Tracker):
    """A run of `project` (of `entity`, in `group`), whose axis is oracle calls; what wandb itself is set to holds."""

    project: Name = "biotilt"
    entity: Name | None = None
    group: Name | None = None

    name: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"
    _run: Any = field(default=None, init=False, repr=False)

    def open(self, run: RunInfo) -> None:
        wandb = import_module("wandb")

        self._run = wandb.init(
            project=self.project, entity=self.entity, group=self.group, name=run.name, dir=str(place_of(run)),
            config=dict(run.settings), id=own_identifier(run, self.name), resume="allow",
        )  # fmt: skip

    def log(self, figures: Row) -> None:
        self._run.log(figures, step=int(figures["calls"]))

    def close(self, ended: Ended) -> None:
        if ended.how == "stopped":
            self._run.summary["stopped"] = ended.why
        self._run.finish(exit_code=0 if ended.how in ("finished", "stopped") else 1)
