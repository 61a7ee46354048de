"""The oracle stands between algorithms and a reward: it scores each design once, counts, and survives."""

from __future__ import annotations

import math
import reprlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from biotilt.core.protocols import Reward
from biotilt.errors import BiotiltError, BudgetSpent, CheckpointError, DataError, RewardError
from biotilt.oracle.ledger import Ledger
from biotilt.oracle.store import Row, Score, Store

FIRST_BATCH = 16  # a first batch of at least so many designs, none of which can be scored, ends the run
LONGEST_REASON = 500  # some programs print pages
LARGEST = torch.finfo(torch.float32).max


class Oracle:
    """Score designs with a reward, each once, within a budget of `max_calls` (`None`: without end).

    Scores come from `store` where they are known. `calls` counts the designs that were new to this run, which
    `run_id` names. A design that an earlier run scored is free; one that this run scored after its last
    checkpoint, before it was killed, is not asked again but counts again, so that a resumed run has exactly
    the accounts of one that was never interrupted. Failures are remembered for the rest of a run; other runs
    and resumed runs ask again.

    `decode` turns states `(B, L)` into B designs. The reward gets at most `batch_size` designs at a time. The
    run ends when `patience` designs were asked for and none could be scored.
    """

    def __init__(
        self,
        reward: Reward,
        *,
        store: Store,
        max_calls: int | None,
        decode: Callable[[Tensor], list[str]],
        run_id: str,
        batch_size: int = 1024,
        patience: int = 256,
    ) -> None:
        self.reward = reward
        self.max_calls = max_calls
        self.ledger = Ledger(store, run_id, reward.name)
        self._store = store
        self._decode = decode
        self._run = run_id
        self._batch_size = batch_size
        self._patience = patience
        self._read_ledger()

    @property
    def calls(self) -> int:
        """The number of designs that cost this run a call."""
        return self._calls

    @property
    def remaining(self) -> int | None:
        """The number of calls that are left, or `None` when there is no limit."""
        return None if self.max_calls is None else max(0, self.max_calls - self._calls)

    def __call__(self, states: Tensor) -> Tensor:
        """Return the scores `(B,)`, float32, on the device of the states `(B, L)`; see `score`."""
        return self.score(self._decode(states)).to(states.device, torch.float32)

    def relaxed(self, designs: Tensor) -> Tensor:
        """Return differentiable scores `(B,)` of relaxed designs `(B, L, V)`, of a differentiable reward.

        They are charged by their most likely letters, which are scored as well, as the ledger and the budget need:
        letters that are new to the run cost a call. Mixtures of letters that share their most likely ones cost a
        single call, so a sampler that differentiates at expected designs asks the reward more often than it is charged.

        Raises `BudgetSpent` as `score` does.
        """
        self.score(self._decode(designs.argmax(-1).to(torch.int8)))
        return self.reward.score_one_hot(designs)  # type: ignore[attr-defined]  # `needs_gradient` made sure

    def score(self, designs: Sequence[str]) -> Tensor:
        """Return the scores `(B,)`, float64, of B designs: NaN = could not be scored, -inf = infeasible.

        All is on disk before this returns. A design whose scoring raises becomes NaN, with the reason in the
        ledger; errors that no single design causes (those of biotilt, except `DataError`) are passed on.

        Raises `BudgetSpent`, before anything is scored, when more designs are new than calls are left, and
        `RewardError` when the reward returns another number of scores or none of its scores can be used.
        """
        known = self._store.known(self.reward.name, self.reward.version, list(dict.fromkeys(designs)))
        known = {design: score for design, score in known.items() if self._usable(design, score)}
        free = {d for d, score in known.items() if d in self._called or score.run != self._run}
        new = len(set(designs) - free)
        if self.remaining is not None and new > self.remaining:
            raise BudgetSpent(
                f"{new} designs are new but {self.remaining} of {self.max_calls} calls are left; "
                "raise max_calls to go on"
            )
        for piece in _pieces(designs, known.keys(), self._batch_size):
            known |= self._score_piece(piece, known, free)
        return torch.tensor([known[design].value for design in designs], dtype=torch.float64)

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs, as JSON: the position in the ledger, and the calls."""
        return {"position": self._position, "calls": self._calls}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go back to a checkpoint of this run; `{"position": 0, "calls": 0}` starts the run again.

        Raises `CheckpointError` when the ledger is not the one that the checkpoint was saved with.
        """
        if self._position < state["position"]:
            raise CheckpointError(
                f"the checkpoint was saved after {state['position']} requests to the oracle, but "
                f"{self._where()} holds {self._position}: bring that file back, or start the run again"
            )
        calls = self.ledger.calls_before(state["position"])
        if calls != state["calls"]:
            raise CheckpointError(
                f"the checkpoint counts {state['calls']} calls of the oracle, but {self._where()} {calls}: "
                "they are of two runs; bring the right file back, or start the run again"
            )
        self.ledger.rewind(state["position"])
        self._read_ledger()

    def _read_ledger(self) -> None:
        self._position = self.ledger.position
        self._calls = self.ledger.calls
        self._called = self.ledger.called()
        self._any_scored = self.ledger.any_scored

    def _usable(self, design: str, score: Score) -> bool:
        # A failure of another run may have had a cause that is gone, such as a missing program.
        return not score.failed or design in self._called

    def _score_piece(self, designs: Sequence[str], known: Mapping[str, Score], free: set[str]) -> dict[str, Score]:
        """Score, save and return the designs of one piece that are not known; `free` ones cost no call."""
        asked = list(dict.fromkeys(design for design in designs if design not in known))
        fresh = dict(zip(asked, self._ask(asked)))
        rows = []
        for position, design in enumerate(designs, start=self._position):
            score = fresh.get(design) or known[design]
            cached = design in free
            free.add(design)
            rows.append(Row(position, design, score.value, score.reason, 0.0 if cached else score.seconds, cached))
        self._store.record(self._run, self.reward.name, self.reward.version, fresh, rows)

        called = {row.design for row in rows if not row.cached}
        first = self._calls == 0 and len(called) >= FIRST_BATCH
        self._position += len(rows)
        self._calls += len(called)
        self._called |= called
        self._any_scored |= any(not math.isnan(row.score) for row in rows)
        if not self._any_scored and (first or self._calls >= self._patience):
            reasons = "; ".join(f"{reason} ({count} times)" for reason, count in self.ledger.failures())
            raise RewardError(f'reward "{self.reward.name}" could score none of {self._calls} designs: {reasons}')
        return fresh

    def _ask(self, designs: list[str]) -> list[Score]:
        """Ask the reward; when a batch raises, ask one by one, so that only the culprits fail."""
        if not designs:
            return []
        start = time.perf_counter()
        try:
            output = self.reward(list(designs))
        except Exception as error:
            if isinstance(error, BiotiltError) and not isinstance(error, DataError):
                raise
            share = (time.perf_counter() - start) / len(designs)
            if len(designs) == 1:
                reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
                return [Score(math.nan, reason, share, self._run)]
            singly = [score for design in designs for score in self._ask([design])]
            return [replace(score, seconds=score.seconds + share) for score in singly]
        share = (time.perf_counter() - start) / len(designs)
        return [Score(*_read(value), share, self._run) for value in self._listed(output, len(designs))]

    def _listed(self, output: Any, expected: int) -> Sequence[Any]:
        scores = output.tolist() if hasattr(output, "tolist") else output
        if isinstance(scores, list | tuple) and len(scores) == expected:
            return scores
        got = f"{len(scores)} scores" if isinstance(scores, list | tuple) else type(output).__name__
        raise RewardError(
            f'reward "{self.reward.name}" returned {got} for {expected} designs, expected {expected} scores'
        )

    def _where(self) -> str:
        return f"the ledger in {self._store.path or 'memory'}"


def _pieces(designs: Sequence[str], known: Collection[str], size: int) -> Iterator[list[str]]:
    """Cut a request, in its order, into pieces with at most `size` distinct designs that are not known."""
    piece: list[str] = []
    fresh: set[str] = set()
    count = 0
    for design in designs:
        if design not in known and design not in fresh:
            if count == size:
                yield piece
                piece, count = [], 0
            fresh.add(design)
            count += 1
        piece.append(design)
    if piece:
        yield piece


def _read(value: Any) -> tuple[float, str]:
    """Return a score and, when it is NaN, the reason."""
    try:
        # float() would accept "3" and "nan", which are slips, and drop the imaginary part of NumPy's numbers.
        score = None if isinstance(value, str | bytes | complex) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        score = None
    if score is None:
        return math.nan, f"the reward returned {reprlib.repr(value)}, not a number"
    if math.isnan(score):
        return math.nan, getattr(value, "reason", "the reward returned NaN")
    if score > LARGEST:
        return math.nan, f"the reward returned {score:+}"
    return score, ""
