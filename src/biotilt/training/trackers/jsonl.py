"""A plain file: one line of JSON a round, in the run's folder. It needs no package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from biotilt.files import write_text
from biotilt.folder import HISTORY_LINES
from biotilt.training.callbacks import Row, RunInfo
from biotilt.training.trackers.base import Tracker, place_of


@dataclass
class JsonLines(Tracker):
    """`history.jsonl` in the run's folder, a line a round: what `history.json` holds at the end, while the run goes on.

    Figures that are not finite are left out.
    """

    name: ClassVar[str] = "jsonl"
    _path: Path = field(default=Path(), init=False, repr=False)

    def open(self, run: RunInfo) -> None:
        self._path = place_of(run) / HISTORY_LINES
        write_text(self._path, "")
        for row in run.history:  # a resumed run forgets what came after its checkpoint
            self.on_round(row, ())

    def log(self, figures: Row) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures, allow_nan=False) + "\n")


def read_lines(path: Path) -> Sequence[Row]:
    """Return the rows of such a file, without a last line that a kill cut off."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
