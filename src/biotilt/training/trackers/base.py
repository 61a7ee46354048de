"""What a tracker is: a callback that sends the figures of every round somewhere, by a name that files can say."""

from __future__ import annotations

import math
import uuid
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from biotilt.errors import BiotiltError, CheckpointError, ConfigError, one_line
from biotilt.files import read_json, write_json
from biotilt.folder import TRACKED
from biotilt.training.callbacks import Callback, Ended, Row, RunInfo


class Tracker(Callback):
    """Sends figures somewhere. A dataclass whose fields are its options; a subclass writes `open`, `log` and `close`.

    `name`: what `[train] trackers` calls it. `package`: what must be installed, as pip calls it. A tracker that fails
    while the run goes on is told of no more, with a warning: figures are no reason to end a run.

    >>> class Printed(Tracker):
    ...     name = "printed"
    ...     def open(self, run):
    ...         print("begins:", run.name)
    ...     def log(self, figures):
    ...         print(f"{figures['calls']:g} calls, mean reward {figures['reward']:g}")
    >>> Printed().log({"calls": 64.0, "reward": 1.5})
    64 calls, mean reward 1.5
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""
    _lost = False

    @abstractmethod
    def open(self, run: RunInfo) -> None:
        """Begin, or go on with what was begun when `run.history` is not empty."""

    @abstractmethod
    def log(self, figures: Row) -> None:
        """Send the figures of a round, all of them finite; `calls` is the natural axis, `round` the other one."""

    def close(self, ended: Ended) -> None:
        """End what `open` began."""

    def require(self) -> None:
        """Raise ConfigError when the package is not installed."""
        if self.package and find_spec(self.package) is None:
            raise ConfigError(
                f'train.trackers: "{self.name}" needs the package {self.package}, which is not installed: '
                f"pip install {self.package}"
            )

    def on_start(self, run: RunInfo) -> None:
        self.open(run)

    def on_round(self, row: Row, history: Sequence[Row]) -> None:
        if self._lost:
            return
        try:
            self.log({key: value for key, value in row.items() if math.isfinite(value)})
        except Exception as error:
            self._lost = True
            told = f"{type(error).__name__}: {one_line(error)}"
            warnings.warn(f"the tracker {self.name} failed ({told}); it gets no more figures", stacklevel=2)

    def on_end(self, ended: Ended) -> None:
        self.close(ended)


def place_of(run: RunInfo) -> Path:
    """Return the folder of a run; BiotiltError when it has none."""
    if run.folder is None:
        raise BiotiltError("this run has no folder, where a tracker could keep what it must remember")
    return run.folder


def remembered(run: RunInfo, tracker: str) -> str:
    """Return the identifier by which a tracker elsewhere knows this run, "" for a run not sent there yet."""
    return _known(place_of(run)).get(tracker, "")


def remember(run: RunInfo, tracker: str, identifier: str) -> None:
    """Keep the identifier in the folder of the run, so that a resumed run goes on under it."""
    folder = place_of(run)
    write_json(folder / TRACKED, _known(folder) | {tracker: identifier})


def own_identifier(run: RunInfo, tracker: str) -> str:
    """Return the identifier of this run, a new one when there is none yet."""
    known = remembered(run, tracker)
    if not known:
        known = uuid.uuid4().hex[:12]
        remember(run, tracker, known)
    return known


def _known(folder: Path) -> dict[str, str]:
    try:
        return read_json(folder / TRACKED, dict[str, str])
    except CheckpointError:  # none yet; a damaged one costs a second entry elsewhere, and nothing here
        return {}
