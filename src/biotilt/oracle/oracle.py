"""The oracle stands between algorithms and a reward: it scores each design once, counts, and survives."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from biotilt.core import needed
from biotilt.core.protocols import Reward
from biotilt.core.space import Space
from biotilt.declared import Declaration
from biotilt.errors import BudgetSpent, CheckpointError, LedgerBehind, NothingScored, RewardError
from biotilt.options import CountFrom0, Share, check_option
from biotilt.oracle.answers import Answers, Whole
from biotilt.oracle.ledger import Ledger
from biotilt.oracle.store import Row, Score, Store, Work
from biotilt.oracle.usable import FIRST_BATCH, counted, enough_failures, enough_infeasible, no_finite_score
from biotilt.oracle.workers.backend import Backend, Inline, Ticket
from biotilt.oracle.workers.scoring import ask_relaxed
from biotilt.schema import checked
from biotilt.spaces.told import ToldText

SAVE_EVERY = 1.0  # seconds between savings of what workers have finished


class Oracle:
    """Score designs with a reward, each once, within a budget of `max_calls` (`None`: without end).

    Scores come from `store` where they are known. `calls` counts the designs that were new to this run, which
    `run_id` names. A design that an earlier run scored is free; one that this run scored after its last
    checkpoint, before it was killed, is not asked again but counts again, so that a resumed run has exactly
    the accounts of one that was never interrupted. Failures are remembered for the rest of a run; other runs
    and resumed runs ask again.

    `space` turns states `(B, ...)` into B designs, and knows each by its key, under which scores and ledger keep it,
    with its condition for a reward that reads that. `decode` and `bare` where states are not what the space reads:
    the designs of states, and relaxed designs as the space has them. The reward gets at most `batch_size` designs
    at a time, in the process or the workers of `backend` (None: in this process), which has to be built for the same
    reward. A reward that declares itself noisy is asked several times (`Repeated`), which is one call. `backend` may be
    `Answers` of their own: a reward made of the columns of sources is `Shared` with other oracles over the same store.

    What is put into `meanwhile` is called once, while the next states are being scored.

    After `patience` calls the run ends when more than the fraction `max_unscored` of them, in [0, 1], could not be
    scored. When none could, it ends already after a first batch of 16, and in smaller batches after 16 calls at the
    default of `max_unscored`. When all that were scored are infeasible, it ends after `patience` calls and a tenth of
    the budget; without a budget it goes on: `require_scores` tells at the end.
    """

    def __init__(
        self,
        reward: Reward,
        *,
        store: Store,
        max_calls: int | None,
        space: Space[Any],
        run_id: str,
        decode: Callable[[Tensor], list[Any]] | None = None,
        bare: Callable[[Tensor], Tensor] = lambda designs: designs,
        batch_size: int = 1024,
        patience: int = 256,
        max_unscored: float = 0.5,
        backend: Backend | Answers | None = None,
    ) -> None:
        check_option(Share, max_unscored, "oracle", "max_unscored")
        self.reward = reward
        self.meanwhile: Callable[[], None] | None = None
        self.max_calls = max_calls
        self.ledger = Ledger(store, run_id, reward.name)
        self._store = store
        self.space = space
        self._decode = decode or (lambda states: space.decode(states.cpu()))
        self._bare = bare
        self._conditional = Declaration.by(reward).conditional
        self._run = run_id
        self._batch_size = batch_size
        self._patience = patience
        self._enough_failures = enough_failures(max_unscored, patience)
        self._enough_infeasible = enough_infeasible(max_calls, patience)
        self._max_unscored = max_unscored
        backend = backend or Inline(reward)
        self._answers = backend if isinstance(backend, Answers) else Whole(reward, store, run_id, backend)
        self._replaced = 0  # workers, before this request: oracles may share a backend
        self._last_end = 0.0  # pieces that were submitted together overlap
        self._lost = 0  # calls whose rows the ledger lost
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
        work, self.meanwhile = self.meanwhile, None
        return self.score(self._decode(states), work).to(states.device, torch.float32)

    def relaxed(self, designs: Tensor) -> Tensor:
        """Return differentiable scores `(B,)` of relaxed designs, `(B, L, V)` or points, of a differentiable reward.

        They are charged by the designs nearest to them, their most likely letters or the points themselves, which are
        scored as well, as the ledger and the budget need: designs that are new to the run cost a call. Mixtures of
        letters that share their most likely ones cost a single call, so a sampler that differentiates at expected
        designs asks the reward more often than it is charged.

        Raises `BudgetSpent` as `score` does, and `RewardError` when the reward raises or returns another shape.
        """
        designs = self._bare(designs)
        self.score(self.space.decode(self.space.nearest(designs).cpu()))
        scores = ask_relaxed(self.reward, self.space.relaxed(designs))
        if scores.shape != designs.shape[:1]:
            raise RewardError(
                f'reward "{self.reward.name}" returned shape {tuple(scores.shape)} for {len(designs)} relaxed designs'
            )
        return scores

    def score(self, designs: Sequence[Any], meanwhile: Callable[[], None] | None = None) -> Tensor:
        """Return the scores `(B,)`, float64, of B designs: NaN = could not be scored, -inf = infeasible.

        All is on disk before this returns. A design whose scoring raises becomes NaN, with the reason in the
        ledger; errors that no single design causes (those of biotilt, except `DataError`) are passed on.
        `meanwhile` is called once, while workers are busy; after the scoring, when this process does it itself.

        Raises `BudgetSpent`, before anything is scored, when more designs are new than calls are left,
        `RewardError` when the reward returns another number of scores or too few of its scores can be used, and
        `NothingScored` when none can.
        """
        keys = [self._key(design) for design in designs]
        by_key = dict(zip(keys, designs))
        known = self._answers.known(list(by_key))
        free = {key for key, score in known.items() if key in self._called or score.run != self._run}
        new = len(by_key.keys() - free)
        if self.remaining is not None and new > self.remaining:
            raise BudgetSpent(
                f"{new} designs are new but {self.remaining} of {self.max_calls} calls are left; "
                "raise max_calls to go on"
            )
        self._replaced = self._answers.replaced
        pieces = _pieces(keys, known.keys(), self._batch_size)
        work: Iterator[tuple[list[str], list[str], Ticket]] = (
            (piece, asked, self._answers.submit({key: by_key[key] for key in asked})) for piece, asked in pieces
        )
        if not self._answers.concurrent:
            self._take_all(work, known, free)
            if meanwhile is not None:
                meanwhile()
        else:
            submitted = list(work)
            try:
                if meanwhile is not None:
                    meanwhile()
                self._take_all(submitted, known, free)
            finally:
                for _, asked, ticket in submitted:
                    ticket.cancel()
                    self._save_finished(asked, ticket)
        return torch.tensor([known[key].value for key in keys], dtype=torch.float64)

    def _key(self, design: Any) -> str:
        return needed(design, ToldText).key if self._conditional else self.space.key(design)

    @property
    def nothing_scored(self) -> str:
        """A sentence that says so, and why, when this run asked for designs and no score was finite; else ""."""
        return no_finite_score(self.reward.name, self.ledger) if self._position and not self._any_finite else ""

    def require_scores(self) -> None:
        """Raise `NothingScored` when this run asked for designs and no score was finite: for the end of a run."""
        if sentence := self.nothing_scored:
            raise NothingScored(sentence)

    def accounts(self) -> dict[str, float]:
        """Return what this run asked of the reward so far, over all resumptions; JSON needs no more.

        `calls`; `cache_hits`: requests that were free; `failures`: calls without a score; `attempts` and `retries`:
        times that the reward was asked for a design, and those after a fault; `scoring_seconds`: summed over
        workers, those of killed attempts included; `wall_seconds`: on the clock, while scores were waited for;
        `utilisation`: what part of workers × wall seconds were scoring seconds; `workers`, and `workers_replaced`.
        """
        work, possible = self.ledger.work()
        attempts = self.ledger.attempts
        return {
            "calls": self._calls,
            "cache_hits": self._position - self._calls,
            "failures": self._failed,
            "attempts": attempts,
            "retries": max(0, attempts - self._answers.repeats * (self._calls - self._lost)),
            "scoring_seconds": work.busy,
            "wall_seconds": work.wall,
            "utilisation": min(1.0, work.busy / possible) if possible > 0 else 0.0,
            "workers": work.workers,
            "workers_replaced": work.replaced,
        }

    def close(self) -> None:
        """End the workers of the backend; what was scored stays readable."""
        self._answers.close()

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs, as JSON: the position in the ledger, the calls, and those it has lost."""
        return {"position": self._position, "calls": self._calls} | ({"lost": self._lost} if self._lost else {})

    def load_state_dict(self, state: Mapping[str, int], *, behind: bool = False) -> None:
        """Go back to a checkpoint of this run; `{"position": 0, "calls": 0}` starts the run again.

        Raises `CheckpointError` when the ledger is not the one that the checkpoint was saved with, and `LedgerBehind`
        when it has lost rows that the checkpoint counts. With `behind` the run goes on from such a ledger: the calls
        stay counted, but a design whose row is lost is new to the run when it comes again.
        """
        state = checked(dict(state), dict[str, CountFrom0], "the account of the oracle", CheckpointError)
        lost = state.get("lost", 0)
        calls = self.ledger.calls_before(state["position"]) + lost
        if self._position < state["position"] and calls <= state["calls"]:
            if not behind:
                raise LedgerBehind(
                    f"the checkpoint was saved after {state['position']} requests to the oracle, but "
                    f"{self._where()} holds {self._position}"
                )
            lost, calls = lost + state["calls"] - calls, state["calls"]
        if calls != state["calls"]:
            raise CheckpointError(
                f"the checkpoint counts {state['calls']} calls of the oracle, but {self._where()} {calls}: "
                "they are of two runs; bring the right file back, or start the run again"
            )
        self.ledger.rewind(state["position"])
        self._lost = lost
        self._read_ledger()
        self._position = state["position"]

    def _read_ledger(self) -> None:
        self._position = self.ledger.position
        self._calls = self.ledger.calls + self._lost
        self._called = self.ledger.called()
        self._answers.remember(self._called)
        self._failed = self.ledger.failed
        self._any_scored = self.ledger.any_scored
        self._any_finite = self.ledger.any_finite

    def _take_all(
        self, work: Iterable[tuple[list[str], list[str], Ticket]], known: dict[str, Score], free: set[str]
    ) -> None:
        """Wait for each piece and write it into the ledger; `known` gets the scores, `free` ones cost no call."""
        for piece, asked, ticket in work:
            fresh = self._gather(asked, ticket)
            known |= fresh
            taken = Work(
                math.fsum(score.seconds for score in fresh.values()),
                ticket.wall[1] - max(ticket.wall[0], self._last_end),
                self._answers.workers,
                self._answers.replaced - self._replaced,
            )
            self._replaced = self._answers.replaced
            self._last_end = ticket.wall[1]
            self._record(piece, known, free, fresh, taken)

    def _gather(self, asked: list[str], ticket: Ticket) -> dict[str, Score]:
        """Return the scores of a piece, which are saved as they come: a kill loses no more than `SAVE_EVERY`."""
        fresh: dict[str, Score] = {}
        while not ticket.wait(SAVE_EVERY):
            fresh |= self._save_finished(asked, ticket)
        return fresh | self._finished(asked, ticket)

    def _save_finished(self, asked: list[str], ticket: Ticket) -> dict[str, Score]:
        """Save the new scores of a piece without rows in the ledger, so that they need not be asked again."""
        found = self._finished(asked, ticket)
        if found:
            self._answers.record(found, [])
        return found

    def _finished(self, asked: list[str], ticket: Ticket) -> dict[str, Score]:
        return {asked[index]: replace(score, run=self._run) for index, score in ticket.finished()}

    def _record(
        self,
        piece: Sequence[str],
        known: Mapping[str, Score],
        free: set[str],
        fresh: Mapping[str, Score],
        work: Work,
    ) -> None:
        """Write a piece into the ledger and count it; stop a run of which too little can be scored."""
        rows = []
        for position, key in enumerate(piece, start=self._position):
            score = known[key]
            cached = key in free
            free.add(key)
            seconds, attempts = (0.0, 0) if cached else (score.seconds, score.attempts)
            rows.append(Row(position, key, score.value, score.reason, seconds, cached, attempts))
        self._answers.record(fresh, rows, work)

        called = [row for row in rows if not row.cached]
        first = self._calls == 0 and len(called) >= FIRST_BATCH
        self._position += len(rows)
        self._calls += len(called)
        self._called.update(row.design for row in called)
        self._failed += sum(math.isnan(row.score) for row in called)
        self._any_scored |= any(not math.isnan(row.score) for row in rows)
        self._any_finite |= any(math.isfinite(row.score) for row in rows)
        self._check_failures(first)

    def _check_failures(self, first: bool) -> None:
        asked = self._calls or self._position  # other oracles may pay for all that this one asks
        if not self._any_scored and (first or asked >= self._enough_failures):
            self.require_scores()
        if not self._any_finite and self._calls >= self._enough_infeasible:
            self.require_scores()
        if self._calls >= self._patience and self._failed > self._max_unscored * self._calls:
            raise RewardError(
                f'reward "{self.reward.name}" could not score {self._failed} of {self._calls} designs, more than '
                f"oracle.max_unscored = {self._max_unscored:g} of them: {counted(self.ledger.failures())}"
            )

    def _where(self) -> str:
        return f"the ledger in {self._store.path or 'memory'}"


def _pieces(keys: Sequence[str], known: Collection[str], size: int) -> Iterator[tuple[list[str], list[str]]]:
    """Cut a request, in its order, into pieces, each with the keys to ask: at most `size`, and each once."""
    piece: list[str] = []
    asked: list[str] = []
    seen: set[str] = set()
    for key in keys:
        if key not in known and key not in seen:
            if len(asked) == size:
                yield piece, asked
                piece, asked = [], []
            seen.add(key)
            asked.append(key)
        piece.append(key)
    if piece:
        yield piece, asked
