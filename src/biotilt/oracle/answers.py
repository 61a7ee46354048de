"""Where an oracle's scores come from: a reward that is asked as a whole, or sources that several rewards read."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from biotilt.core.protocols import Reward
from biotilt.declared import Declaration
from biotilt.errors import RewardError, suggest
from biotilt.oracle.repeats import Repeated
from biotilt.oracle.store import Asked, Row, Score, Store, Work
from biotilt.oracle.workers.backend import Backend, Ticket
from biotilt.oracle.workers.scoring import LARGEST, read_score

# Designs are known by the keys that their space gives them.
Marks = Mapping[str, tuple[float, str]]  # of each column of one design: score and reason
WHOLE = ""  # what is said of a design by no column's name


class Named(Protocol):
    """What the cache knows by a name and a version."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


class Plan(Protocol):
    """What has to be asked for a reward: each of `parts` once a design, of which these columns are `wanted`."""

    @property
    def parts(self) -> Sequence[Named]: ...

    @property
    def wanted(self) -> Sequence[Sequence[str]]: ...

    def combine(self, designs: Sequence[str], answers: Sequence[Mapping[str, Marks]]) -> list[float]: ...


class Answers(ABC):
    """A backend that also knows what was scored before."""

    concurrent: bool
    repeats: int  # attempts at a design that are one call

    @property
    @abstractmethod
    def workers(self) -> int: ...

    @property
    @abstractmethod
    def replaced(self) -> int: ...

    @abstractmethod
    def known(self, keys: Sequence[str]) -> dict[str, Score]:
        """Return the scores that need not be asked for; a failure is known only to the runs that met it."""

    @abstractmethod
    def submit(self, designs: Mapping[str, Any]) -> Ticket:
        """Ask for designs, by key and in this order."""

    @abstractmethod
    def record(self, fresh: Mapping[str, Score], rows: Sequence[Row], work: Work | None = None) -> None:
        """Save new scores, and rows of the ledger."""

    @abstractmethod
    def remember(self, called: set[str]) -> None:
        """Keep the designs that the run called, a set that grows with it."""

    @abstractmethod
    def close(self) -> None: ...


class Whole(Answers):
    """A reward that is asked as a whole, by `backend`: its scores are known by its name and version."""

    def __init__(self, reward: Reward, store: Store, run: str, backend: Backend) -> None:
        self._reward, self._store, self._run = reward, store, run
        self.repeats = Declaration.by(reward).repeats
        self._backend: Backend = backend if self.repeats == 1 else Repeated(backend, self.repeats)
        self.concurrent = backend.concurrent
        self._called: set[str] = set()

    @property
    def workers(self) -> int:
        return self._backend.workers

    @property
    def replaced(self) -> int:
        return self._backend.replaced

    def known(self, designs: Sequence[str]) -> dict[str, Score]:
        known = self._store.known(self._reward.name, self._reward.version, designs)
        known = {design: _checked(score) for design, score in known.items()}
        # A failure of another run may have had a cause that is gone, such as a missing program.
        return {design: score for design, score in known.items() if not score.failed or design in self._called}

    def submit(self, designs: Mapping[str, Any]) -> Ticket:
        return self._backend.submit(list(designs.values()))

    def record(self, fresh: Mapping[str, Score], rows: Sequence[Row], work: Work | None = None) -> None:
        self._store.record(self._run, self._reward.name, self._reward.version, fresh, rows, work)

    def remember(self, called: set[str]) -> None:
        self._called = called

    def close(self) -> None:
        self._backend.close()


class Shared(Answers):
    """A reward made of the columns of sources, by `plan`: a design is asked once, whichever oracle of `store` is first.

    `backends` ask the parts of the plan. The store keeps each column as a score of the name "source.column", and what
    is said of a design as a whole (it raised) under the source's own name; so what one run paid for is free to all.
    """

    def __init__(self, plan: Plan, reward: Reward, store: Store, run: str, backends: Sequence[Backend]) -> None:
        self._plan, self._reward, self._store, self._run = plan, reward, store, run
        self._parts = [_Part(*each, store, run) for each in zip(plan.parts, plan.wanted, backends)]
        self.repeats = sum(part.repeats for part in self._parts)
        self.concurrent = any(part.backend.concurrent for part in self._parts)

    @property
    def workers(self) -> int:
        return sum(part.backend.workers for part in self._parts) if self.concurrent else 1

    @property
    def replaced(self) -> int:
        return sum(part.backend.replaced for part in self._parts)

    def known(self, designs: Sequence[str]) -> dict[str, Score]:
        return self.combined([part.known(designs) for part in self._parts], designs)

    def combined(self, answers: Sequence[Mapping[str, Answer]], designs: Sequence[str]) -> dict[str, Score]:
        """Return the scores of those designs that every part has answered."""
        whole = [design for design in designs if all(design in answer for answer in answers)]
        marks = [{design: answer[design].marks for design in whole} for answer in answers]
        values = self._plan.combine(whole, marks) if whole else []
        found = {}
        for design, value in zip(whole, values):
            own = [answer[design] for answer in answers if answer[design].run == self._run]
            run = self._run if own else answers[0][design].run
            seconds, attempts = math.fsum(a.seconds for a in own), sum(a.attempts for a in own)
            found[design] = Score(*read_score(value), seconds, run, attempts)
        return found

    def submit(self, designs: Mapping[str, Any]) -> Ticket:
        return _Joined(self, self._parts, designs)

    def record(self, fresh: Mapping[str, Score], rows: Sequence[Row], work: Work | None = None) -> None:
        """Save the rows; the columns were saved when they came."""
        if rows:
            self._store.record(self._run, self._reward.name, self._reward.version, {}, rows, work)

    def remember(self, called: set[str]) -> None:
        for part in self._parts:
            part.asked.called[self._run] = called

    def close(self) -> None:
        for part in self._parts:
            part.backend.close()


@dataclass(frozen=True)
class Answer:
    """What a part says of one design: its columns, what they took, and the run that asked."""

    marks: Marks
    seconds: float
    run: str
    attempts: int


class _Part:
    """One thing that is asked: a source, or a reward of one number, whose column has no name."""

    def __init__(self, reward: Named, wanted: Sequence[str], backend: Backend, store: Store, run: str) -> None:
        declared = Declaration.by(reward)
        self.reward, self.wanted, self.store, self.run = reward, tuple(wanted), store, run
        self.repeats = declared.repeats
        self.backend: Backend = backend if declared.repeats == 1 else Repeated(backend, declared.repeats)
        self.asked: Asked = store.asked[reward.name, reward.version]
        self.asked.wanted |= set(wanted)
        self._checked = False

    def known(self, designs: Sequence[str]) -> dict[str, Answer]:
        """Return what is known of designs: failures only of those that an oracle over this store called."""
        called = list(self.asked.called.values())
        return self._stored(designs, lambda design: any(design in each for each in called))

    def _stored(self, designs: Sequence[str], failures: Callable[[str], bool]) -> dict[str, Answer]:
        def known(column: str) -> dict[str, Score]:
            found = self.store.known(self._name(column), self.reward.version, list(dict.fromkeys(designs)))
            read = {design: _checked(score) for design, score in found.items()}
            return {design: score for design, score in read.items() if not score.failed or failures(design)}

        whole = known(WHOLE)
        columns = {name: whole | known(name) for name in self.wanted}
        return {
            design: self._answer({name: columns[name][design] for name in self.wanted})
            for design in dict.fromkeys(designs)
            if all(design in found for found in columns.values())
        }

    def _answer(self, columns: Mapping[str, Score]) -> Answer:
        paid = [score for score in columns.values() if score.run == self.run] or list(columns.values())
        marks = {name: (score.value, score.reason) for name, score in columns.items()}
        return Answer(marks, paid[0].seconds, paid[0].run, paid[0].attempts)

    def keep(self, scored: Mapping[str, Score]) -> dict[str, Answer]:
        """Save what came of designs, all columns at once; return what is known now of those that are wanted."""
        rows: dict[str, dict[str, Score]] = {}
        for design, score in scored.items():
            score = replace(score, run=self.run, columns=())
            named = {name: replace(score, value=value, reason=why) for name, value, why in scored[design].columns}
            self.asked.given |= named.keys()
            if named:
                absent = sorted(self.asked.wanted - named.keys())
                named |= {name: replace(score, value=math.nan, reason=f'no column "{name}"') for name in absent}
            rows[design] = named or {WHOLE: score}
        version = self.reward.version
        self.store.save((self._name(c), version, d, score) for d, row in rows.items() for c, score in row.items())
        return self._stored(list(scored), lambda design: True)

    def check_columns(self) -> None:
        """Raise RewardError when a source that has answered gives no column that any oracle wants of it; said once."""
        given = self.asked.given
        if not given or self._checked:
            return
        self._checked = True
        for name in sorted(self.asked.wanted - given):
            raise RewardError(f'reward "{self.reward.name}" gives no column "{name}"{suggest(name, given)}')

    def _name(self, column: str) -> str:
        return f"{self.reward.name}.{column}" if column else self.reward.name


@dataclass
class _Joined:
    """A `Ticket` of designs that every part is asked about, as far as it is not known already."""

    shared: Shared
    parts: Sequence[_Part]
    designs: Mapping[str, Any]
    _answers: list[dict[str, Answer]] = field(default_factory=list)
    _tickets: list[tuple[_Part, list[str], Ticket, dict[str, Answer]]] = field(default_factory=list)
    _given: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._now = time.perf_counter()
        for part in self.parts:
            answers = part.known(list(self.designs))
            self._answers.append(answers)
            if missing := [key for key in self.designs if key not in answers]:
                ticket = part.backend.submit([self.designs[key] for key in missing])
                self._tickets.append((part, missing, ticket, answers))

    def wait(self, timeout: float) -> bool:
        return all(ticket.wait(timeout) for _, _, ticket, _ in self._tickets)

    def finished(self) -> list[tuple[int, Score]]:
        for part, missing, ticket, answers in self._tickets:
            if scored := {missing[index]: score for index, score in ticket.finished()}:
                answers |= part.keep(scored)
        if self.wait(0):
            for part, _, _, _ in self._tickets:
                part.check_columns()
        new = [design for design in self.designs if design not in self._given]
        found = self.shared.combined(self._answers, new)
        self._given |= found.keys()
        return [(index, found[design]) for index, design in enumerate(self.designs) if design in found]

    def cancel(self) -> None:
        for _, _, ticket, _ in self._tickets:
            ticket.cancel()

    @property
    def wall(self) -> tuple[float, float]:
        walls = [ticket.wall for _, _, ticket, _ in self._tickets] or [(self._now, self._now)]
        return min(start for start, _ in walls), max(end for _, end in walls)


def _checked(score: Score) -> Score:
    """Return a stored score as it is read now: earlier versions stored such as float32 cannot hold."""
    if abs(score.value) <= LARGEST or score.failed:
        return score
    value, reason = read_score(score.value)
    return replace(score, value=value, reason=reason)
