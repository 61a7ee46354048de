"""Who pays for a lost worker, and how large chunks are: with workers that follow a script, on a clock of their own."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest

from biotilt.declared import Declaration
from biotilt.oracle import Limits
from biotilt.oracle.workers import scheduler
from biotilt.oracle.workers.scheduler import Answer, Lost, Scheduler
from biotilt.oracle.workers.scoring import Outcome

DIED = Lost("died", 0.5, transient=True, certain=True)
LATE = Lost("late", 0.5, transient=False, certain=True)
UNCERTAIN = Lost("died", 0.5, transient=True, certain=False)


class Scripted:
    """Says 1.0 of every design after `latency` seconds, or what `faults` holds for it, which is used up."""

    def __init__(self, faults=None, latency=0.0, clock=None):
        self.faults = {design: list(answers) for design, answers in (faults or {}).items()}
        self.latency, self.clock = latency, clock
        self.chunks: list[list[str]] = []

    def prepare(self):
        pass

    def run(self, designs: list[str]) -> Iterator[Answer]:
        self.chunks.append(designs)
        for index, design in enumerate(designs):
            if self.clock is not None:
                self.clock.now += self.latency
            answer = self.faults[design].pop(0) if self.faults.get(design) else Outcome(1.0, "", 0.25)
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, Lost):
                yield answer
                return
            yield index, answer

    def close(self):
        pass


def run(worker, designs, *, batched=False, **limits):
    """Return the scores by design, and the scheduler, which is closed."""
    backend = Scheduler([worker], Declaration("r", batched), Limits(**limits), lambda: None)
    ticket = backend.submit(designs)
    assert ticket.wait(10)
    scores = {designs[index]: score for index, score in ticket.finished()}
    backend.close()
    return scores, backend


def test_only_the_design_in_progress_pays_for_a_lost_worker():
    worker = Scripted({"c": [DIED], "d": [LATE]})
    scores, backend = run(worker, list("abcdef"), chunk=4, retries=1)
    assert worker.chunks == [list("abcd"), list("defc"), list("efc")]
    assert {d: (s.attempts, s.reason) for d, s in scores.items()} == {
        "a": (1, ""), "b": (1, ""), "c": (2, ""), "d": (1, "late"), "e": (1, ""), "f": (1, ""),
    }  # fmt: skip
    assert scores["c"].seconds == 0.5 + 0.25
    assert backend.replaced == 2


def test_a_worker_that_dies_again_and_again_ends_with_its_reason():
    scores, backend = run(Scripted({"b": [DIED] * 5}), list("ab"), retries=2)
    assert math.isnan(scores["b"].value)
    assert (scores["b"].attempts, scores["b"].reason, scores["b"].seconds) == (3, "died", 1.5)
    assert backend.replaced == 3


def test_the_designs_of_a_lost_batch_are_asked_alone():
    worker = Scripted({"a": [UNCERTAIN], "b": [DIED, DIED]})
    scores, _ = run(worker, list("abcd"), batched=True, chunk=3, retries=1)
    assert worker.chunks == [list("abc"), ["a"], ["b"], ["c"], ["d"], ["b"]]
    assert [scores[d].attempts for d in "abcd"] == [1, 2, 1, 1]
    assert scores["a"].seconds == pytest.approx(0.25 + 0.5 / 3)


def test_a_transient_fault_is_asked_again_at_the_end():
    busy = Outcome(math.nan, "busy", 1.0, transient=True)
    worker = Scripted({"a": [busy], "b": [busy, busy], "c": [Outcome(math.nan, "odd", 1.0)]})
    scores, backend = run(worker, list("abc"), chunk=1, retries=1)
    assert worker.chunks == [["a"], ["b"], ["c"], ["a"], ["b"]]
    assert [(s.attempts, s.reason) for s in map(scores.get, "abc")] == [(2, ""), (2, "busy"), (1, "odd")]
    assert backend.replaced == 0


def test_a_worker_that_leaves_costs_nobody_an_attempt():
    class Leaving(Scripted):
        def run(self, designs):
            yield next(super().run(designs))

    worker = Leaving()
    scores, _ = run(worker, list("abc"), chunk=3)
    assert worker.chunks == [list("abc"), list("bc"), ["c"]]
    assert [s.attempts for s in scores.values()] == [1, 1, 1]


@pytest.mark.parametrize("chunk", [1, 4])
def test_outcomes_are_those_of_the_designs_they_name(chunk):
    class Confused(Scripted):
        """Answers from the last, each twice, and of designs that nobody asked about."""

        def run(self, designs):
            yield len(designs), Outcome(-1.0)
            yield -1, Outcome(-2.0)
            for index in reversed(range(len(designs))):
                yield index, Outcome(float(ord(designs[index])))
                yield index, Outcome(-3.0)

    scores, backend = run(Confused(), list("abcd"), chunk=chunk)
    assert {design: score.value for design, score in scores.items()} == {"a": 97.0, "b": 98.0, "c": 99.0, "d": 100.0}
    assert backend.replaced == 0


def test_a_worker_that_is_lost_after_its_last_answer_harms_no_design():
    class Tired(Scripted):
        def run(self, designs):
            yield from super().run(designs)
            yield DIED

    scores, backend = run(Tired(), list("ab"), chunk=2, retries=0)
    assert [(score.value, score.attempts) for score in scores.values()] == [(1.0, 1), (1.0, 1)]
    assert backend.replaced == 1


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(("latency", "size"), [(0.001, 200), (0.05, 4), (3.0, 1)])
def test_chunks_take_a_fifth_of_a_second(monkeypatch, latency, size):
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    worker = Scripted(latency=latency, clock=clock)
    run(worker, [f"d{n}" for n in range(500)] if latency < 0.01 else [f"d{n}" for n in range(20)])
    sizes = [len(chunk) for chunk in worker.chunks]
    assert sizes[0] == 1, "nothing is measured yet"
    assert max(sizes) in (size - 1, size)  # floating point
    assert sum(sizes[:2]) >= size


def test_a_batch_takes_at_most_half_the_time_limit(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    worker = Scripted(latency=0.01, clock=clock)
    run(worker, [f"d{n}" for n in range(60)], batched=True, time_limit=0.25)
    assert max(map(len, worker.chunks)) in (11, 12)


def test_the_last_designs_are_shared_among_the_workers():
    backend = Scheduler([Scripted(), Scripted(), Scripted()], Declaration("r"), Limits(), lambda: None)
    backend._latency = 1e-9
    assert [backend._size(waiting) for waiting in (300, 4, 3, 1)] == [100, 2, 1, 1]


class Blocked(Scripted):
    """Starts its first chunk only when it may."""

    def __init__(self, faults=None):
        super().__init__(faults)
        self.may_go, self.started = threading.Event(), threading.Event()

    def run(self, designs):
        self.started.set()
        assert self.may_go.wait(10)
        yield from super().run(designs)


def test_an_error_of_a_worker_is_raised_where_its_scores_are_waited_for():
    worker = Blocked({"b": [LookupError("lost")]})
    backend = Scheduler([worker], Declaration("r"), Limits(chunk=1), lambda: None)
    ticket, later = backend.submit(list("ab")), backend.submit(["c"])
    worker.may_go.set()
    for waiting in (ticket, later):
        with pytest.raises(LookupError, match="lost"):
            waiting.wait(10)
    assert backend.submit(["d"]).wait(10), "the thread goes on"
    assert worker.chunks == [["a"], ["b"], ["d"]]
    backend.close()


def test_nothing_more_is_started_of_what_was_cancelled():
    worker = Blocked()
    backend = Scheduler([worker], Declaration("r"), Limits(chunk=1), lambda: None)
    first, second = backend.submit(list("ab")), backend.submit(["c"])
    assert worker.started.wait(10)
    first.cancel()
    worker.may_go.set()
    assert second.wait(10)
    backend.close()
    assert worker.chunks == [["a"], ["c"]]
    assert first.finished() == []


def test_a_worker_that_is_not_ready_holds_no_design():
    class Waiting(Scripted):
        """Stands for an actor for which a cluster that lost a node has no place."""

        never = threading.Event()

        def prepare(self):
            self.never.wait(10)

    waiting, ready = Waiting(), Scripted()
    backend = Scheduler([waiting, ready], Declaration("r"), Limits(chunk=1), lambda: None)
    ticket = backend.submit(list("abc"))
    assert ticket.wait(5)
    assert (waiting.chunks, ready.chunks) == ([], [["a"], ["b"], ["c"]])
    waiting.never.set()
    backend.close()


def test_a_worker_that_cannot_be_started_ends_the_work():
    class Broken(Scripted):
        def prepare(self):
            raise LookupError("no weights")

    backend = Scheduler([Broken()], Declaration("r"), Limits(), lambda: None)
    for _ in range(2):
        with pytest.raises(LookupError, match="no weights"):
            backend.submit(["a"]).wait(10)
    backend.close()


def test_an_empty_ticket_is_done():
    backend = Scheduler([Scripted()], Declaration("r"), Limits(), lambda: None)
    assert backend.submit([]).wait(0)
    backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        backend.submit(["a"])
