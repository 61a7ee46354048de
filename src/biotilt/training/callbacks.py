"""Callbacks: what is told of a run as it goes, and may end it. Progress, trackers and early stopping are callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from biotilt.errors import CallbackError, one_line

Row = dict[str, float]


@dataclass(frozen=True)
class RunInfo:
    """What a callback is told at the start of a run.

    `rounds`: how many the budget pays for; `history`: the rows of those already made, of a run that goes on.
    `settings`: the keys of the experiment, as plain JSON; empty for a `Trainer` built by hand. `folder` None: nothing
    is kept.

    >>> run = RunInfo("mine", "ppo", 8, 512, None, {}, [{"calls": 64.0}])
    >>> f"{run.name}: {run.calls} of {run.max_calls} calls are spent"
    'mine: 64 of 512 calls are spent'
    """

    name: str
    objective: str
    rounds: int
    max_calls: int
    folder: Path | None
    settings: Mapping[str, Any]
    history: Sequence[Row]

    @property
    def calls(self) -> int:
        """Oracle calls of the rounds already made."""
        return int(self.history[-1]["calls"]) if self.history else 0


@dataclass(frozen=True)
class Stop:
    """The wish to end a run cleanly after this round; `reason` is stored, and shown on the page.

    >>> Stop("two rounds above 8").reason
    'two rounds above 8'
    """

    reason: str


@dataclass(frozen=True)
class OutOfTime(Stop):
    """The wish to end a run since its time is up: one that is given more time goes on, as no other stop does."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: with its budget, by a callback's `Stop` (`why`), by Ctrl-C, or by an error (`why`).

    >>> Ended("stopped", "two rounds above 8")
    Ended(how='stopped', why='two rounds above 8')
    """

    how: Literal["finished", "stopped", "interrupted", "failed"]
    why: str = ""


class Callback:
    """Told of a run as it goes; a subclass overrides what it needs.

    It is told of a round before the round's checkpoint is written, and again after a kill that came in between. Keep
    nothing that `history` can tell: then a run that was killed and resumed stops where it would have stopped.

    >>> class Enough(Callback):
    ...     def on_round(self, row, history):
    ...         return Stop("good enough") if row["reward"] > 7 else None
    """

    def on_start(self, run: RunInfo) -> None:
        """Called before the first round, also of a run that goes on."""

    def on_round(self, row: Row, history: Sequence[Row]) -> Stop | None:
        """Called after every round with its figures, and all rounds so far, this one the last."""

    def on_end(self, ended: Ended) -> None:
        """Called once after `on_start`, however the run ends."""


@dataclass(frozen=True)
class EachRound(Callback):
    """Calls a function with the row of every round."""

    function: Callable[[Row], object]

    def on_round(self, row: Row, history: Sequence[Row]) -> None:
        self.function(row)


class Told:
    """The callbacks of a run, told in order; none can harm the run, and an error names the one at fault."""

    def __init__(self, callbacks: Sequence[Callback], run: RunInfo) -> None:
        self._callbacks, self._run = callbacks, run
        self._started: list[Callback] = []
        self.stopped, self.out_of_time = "", False

    def __enter__(self) -> Told:
        for callback in self._callbacks:
            try:
                callback.on_start(self._run)
            except Exception as error:
                self._end(Ended("failed", one_line(error)))
                raise CallbackError(_fault(callback, "on_start", error)) from error
            self._started.append(callback)
        return self

    def round(self, history: Sequence[Row]) -> CallbackError | None:
        """Tell all of the newest round; set `stopped` to why the run is to end. Returns the first error, for later."""
        first: CallbackError | None = None
        for callback in self._callbacks:
            try:
                answer = callback.on_round(dict(history[-1]), history)
                if not isinstance(answer, Stop | None):
                    raise TypeError(f"it returned {answer!r}, not None or Stop(reason)")
            except Exception as error:
                fault = CallbackError(f"{_fault(callback, 'on_round', error)}. The run is kept up to this round")
                fault.__cause__ = error
                first = first or fault
                continue
            if answer is not None and not self.stopped:
                self.stopped = one_line(answer.reason) or type(callback).__name__
                self.out_of_time = isinstance(answer, OutOfTime)
        return first

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._end(Ended("failed", one_line(error)))
        elif error is not None:
            self._end(Ended("interrupted"))
        else:
            self._end(Ended("stopped", self.stopped) if self.stopped else Ended("finished"))

    def _end(self, ended: Ended) -> None:
        for callback in self._started:
            try:
                callback.on_end(ended)
            except Exception as error:  # what the run came to is more important
                warnings.warn(f"{_fault(callback, 'on_end', error)}; the run itself is whole", stacklevel=3)


def _fault(callback: Callback, where: str, error: Exception) -> str:
    return f"the callback {type(callback).__name__} failed in {where} ({type(error).__name__}: {one_line(error)})"
