"""Early stopping: ends a run cleanly when it has settled, when it exploits its reward, or when its time is up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from biotilt.digits import pretty
from biotilt.evaluation.common import gap_grew
from biotilt.options import Count, Flag, Positive, check_options
from biotilt.training.callbacks import Callback, OutOfTime, Row, Stop

# A round is a few designs, and its gap is noisy: one that has grown in three rounds on end is no chance.
HACKED_ROUNDS = 3


@dataclass(frozen=True)
class EarlyStopping(Callback):
    """Ends a run before its budget is spent, by what its history says; with nothing set it never does.

    `plateau`: the mean reward of a round has not risen above its best before for so many rounds. `seconds`: the first
    round that ends past them is the last; time before a run was resumed counts. `hacking`: the gap between the mean
    reward and the mean of the held-out oracle has grown, since the first round, whose designs are the base's, by more
    than the panel's check allows, three rounds on end.

    >>> rows = [{"reward": reward, "seconds": 1.0} for reward in (1.0, 2.0, 1.5, 2.0)]
    >>> EarlyStopping(plateau=3).on_round(rows[-1], rows) is None
    True
    >>> EarlyStopping(plateau=2).on_round(rows[-1], rows)
    Stop(reason='plateau: the mean reward has not improved since round 2, for 2 rounds')
    """

    plateau: Count | None = None
    seconds: Positive | None = None
    hacking: Flag = False

    def __post_init__(self) -> None:
        check_options(self, "train.stop")

    def on_round(self, row: Row, history: Sequence[Row]) -> Stop | None:
        reason = self._settled(history) or self._hacked(history)
        return Stop(reason) if reason else self._late(row)

    def _settled(self, history: Sequence[Row]) -> str:
        if self.plateau is None:
            return ""
        best, when = -math.inf, 0
        for number, row in enumerate(history, 1):
            if row.get("reward", math.nan) > best:
                best, when = row["reward"], number
        if len(history) - when < self.plateau:
            return ""
        since = f"round {when}" if when else "the start"
        return f"plateau: the mean reward has not improved since {since}, for {len(history) - when} rounds"

    def _hacked(self, history: Sequence[Row]) -> str:
        if not self.hacking or len(history) <= HACKED_ROUNDS:
            return ""
        before, spread = _gap(history[0]), history[0].get("held_out_spread", math.nan)
        gaps = [_gap(row) for row in history[-HACKED_ROUNDS:]]
        if not all(gap_grew(gap, before, spread) for gap in gaps):
            return ""
        return (
            f"hacking: the optimised oracle scores the designs better than the held-out one by {pretty(gaps[-1])} "
            f"(means of a round), at the start by {pretty(before)}; the gap has grown too far for "
            f"{HACKED_ROUNDS} rounds"
        )

    def _late(self, row: Row) -> OutOfTime | None:
        if self.seconds is None or row["seconds"] < self.seconds:
            return None
        return OutOfTime(f"time: {pretty(row['seconds'])} s are spent, and the limit is {pretty(self.seconds)} s")


def _gap(row: Row) -> float:
    return row.get("reward", math.nan) - row.get("held_out", math.nan)
