"""Trackio, of Hugging Face: a local database, or a Space, by its documented `init`, `log` and `finish`."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from biotilt.options import Name
from biotilt.training.callbacks import Ended, Row, RunInfo
from biotilt.training.trackers.base import Tracker, own_identifier


@dataclass
class Trackio(Tracker):
    """A run of `project`, whose axis is oracle calls: `trackio show` draws it. `space`: a Hugging Face Space to use."""

    project: Name = "biotilt"
    space: Name | None = None

    name: ClassVar[str] = "trackio"
    package: ClassVar[str] = "trackio"
    _run: Any = field(default=None, init=False, repr=False)

    def open(self, run: RunInfo) -> None:
        trackio = import_module("trackio")

        # a run is known by its name there
        name = f"{run.name}-{own_identifier(run, self.name)}"
        self._run = trackio.init(
            project=self.project, name=name, space_id=self.space, config=dict(run.settings), resume="allow", embed=False
        )

    def log(self, figures: Row) -> None:
        self._run.log(figures, step=int(figures["calls"]))

    def close(self, ended: Ended) -> None:
        self._run.finish()
