"""Callbacks: when they are told what, how they end a run, and that none can harm it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_training_loop import Lookup, ppo, train, trainer_of

from biotilt.errors import CallbackError
from biotilt.tensors import load_tensors
from biotilt.training import Callback, EachRound, Ended, RunInfo, Stop


class Diary(Callback):
    """Writes down what it is told; `answers` a round with what is given for it."""

    def __init__(self, **answers: Any) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.answers = answers

    def on_start(self, run: RunInfo) -> None:
        self.told.append(("start", run.objective, run.rounds, run.max_calls, run.calls, len(run.history)))

    def on_round(self, row: dict[str, float], history: Sequence[dict[str, float]]) -> Any:
        self.told.append(("round", row["round"], [r["calls"] for r in history]))
        answer = self.answers.get(f"round{row['round']:.0f}")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def on_end(self, ended: Ended) -> None:
        self.told.append(("end", ended.how, ended.why))


def test_they_are_told_of_the_start_every_round_and_the_end():
    diary = Diary()
    trainer_of(ppo(), train(max_calls=48), callbacks=[diary]).run()
    assert diary.told == [
        ("start", "ppo", 3, 48, 0, 0),
        ("round", 1, [16]),
        ("round", 2, [16, 32]),
        ("round", 3, [16, 32, 48]),
        ("end", "finished", ""),
    ]


def test_a_stop_ends_the_run_after_its_round_and_is_kept(tmp_path):
    first, second = Diary(round2=Stop("enough")), Diary(round2=Stop("too late"))
    trainer = trainer_of(ppo(), train(checkpoint_every=3), folder=tmp_path, callbacks=[first, second])
    average = trainer.run()
    assert average is trainer.average and len(trainer.history) == 2 and trainer.stopped == "enough"
    assert second.told[-2:] == [("round", 2, [16, 32]), ("end", "stopped", "enough")]
    assert load_tensors(trainer.checkpoint)[1]["stopped"] == "enough", "written at once, though not due"
    again = trainer_of(ppo(), train(checkpoint_every=3), folder=tmp_path, callbacks=[diary := Diary()])
    again.resume()
    assert torch.equal(again.run().logits, average.logits) and again.oracle.calls == 32
    assert diary.told == [("start", "ppo", 4, 64, 32, 2), ("end", "stopped", "enough")]


def test_one_that_fails_is_named_and_nothing_is_lost(tmp_path):
    other, whole = Diary(), trainer_of(ppo(), train())
    whole.run()
    broken = trainer_of(
        ppo(), train(checkpoint_every=4), folder=tmp_path, callbacks=[Diary(round2=OSError("no\ndisk")), other]
    )
    with pytest.raises(CallbackError, match=r"callback Diary failed in on_round \(OSError: no disk\)") as caught:
        broken.run()
    assert isinstance(caught.value.__cause__, OSError)
    assert other.told[-2][0] == "round", "the others were told of the round"
    assert other.told[-1] == ("end", "failed", str(caught.value))
    resumed = trainer_of(ppo(), train(checkpoint_every=4), folder=tmp_path)
    resumed.resume()
    assert resumed.round == 2, "the checkpoint of the round itself, though not due"
    assert torch.equal(resumed.run().logits, whole.average.logits)


def test_one_that_fails_at_the_start_costs_no_call():
    class Broken(Callback):
        def on_start(self, run: RunInfo) -> None:
            raise ValueError("no key")

    before, after, oracle = Diary(), Diary(), Lookup()
    with pytest.raises(CallbackError, match=r"callback Broken failed in on_start \(ValueError: no key\)"):
        trainer_of(ppo(), train(), oracle, callbacks=[before, Broken(), after]).run()
    assert oracle.calls == 0 and after.told == []
    assert before.told[-1] == ("end", "failed", "no key")


def test_one_that_fails_at_the_end_is_a_warning():
    class Broken(Callback):
        def on_end(self, ended: Ended) -> None:
            raise ValueError("no network")

    last = Diary()
    trainer = trainer_of(ppo(), train(), callbacks=[Broken(), last])
    with pytest.warns(UserWarning, match=r"callback Broken failed in on_end \(ValueError: no network\).*is whole"):
        trainer.run()
    assert last.told[-1] == ("end", "finished", "") and len(trainer.history) == 4


def test_an_interrupt_is_told_and_passed_on(tmp_path):
    diary = Diary(round3=KeyboardInterrupt())
    trainer = trainer_of(ppo(), train(), folder=tmp_path, callbacks=[diary])
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert diary.told[-1] == ("end", "interrupted", "")
    assert load_tensors(trainer.checkpoint)[1]["round"] == 3


@pytest.mark.parametrize("answer", [True, "stop", 0])
def test_another_answer_than_a_stop_is_refused(answer):
    with pytest.raises(CallbackError, match="not None or Stop"):
        trainer_of(ppo(), train(), callbacks=[Diary(round1=answer)]).run()


def test_a_row_that_is_written_over_changes_nothing():
    trainer = trainer_of(ppo(), train(), callbacks=[EachRound(lambda row: row.clear())])
    trainer.run()
    assert [row["calls"] for row in trainer.history] == [16, 32, 48, 64]
