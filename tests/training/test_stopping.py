"""Early stopping: its rules by hand, and that a run stops at the same round however often it was killed."""

from __future__ import annotations

import math

import pytest
import torch
from test_training_loop import Lookup, ppo, train, trainer_of
from torch import Tensor

from biotilt.errors import ConfigError
from biotilt.training import EachRound, EarlyStopping

NAN = math.nan


def rounds(rewards: list[float], **columns: list[float]) -> list[dict[str, float]]:
    return [
        {"round": i + 1, "reward": reward, "seconds": 10.0 * (i + 1)} | {k: v[i] for k, v in columns.items()}
        for i, reward in enumerate(rewards)
    ]


def stops(rule: EarlyStopping, history: list[dict[str, float]]) -> list[int]:
    """Return the rounds after which the rule would end a run."""
    answers = [(n, rule.on_round(history[n - 1], history[:n])) for n in range(1, len(history) + 1)]
    return [n for n, answer in answers if answer is not None]


@pytest.mark.parametrize(
    ("plateau", "rewards", "expected"),
    [
        (1, [1.0, 2.0, 3.0], []),
        (1, [1.0, 2.0, 2.0, 3.0], [3]),  # no better is not better
        (2, [1.0, 3.0, 2.0, 2.5, 2.9, 4.0, 3.9], [4, 5]),  # better than the round before is not enough
        (2, [NAN, NAN, 1.0, NAN, NAN], [2, 5]),
        (3, [-5.0, -6.0, -7.0], []),
    ],
)
def test_a_plateau_by_hand(plateau, rewards, expected):
    assert stops(EarlyStopping(plateau=plateau), rounds(rewards)) == expected


def test_what_a_plateau_says():
    stop = EarlyStopping(plateau=2).on_round({}, rounds([1.0, 3.0, 2.0, 2.5]))
    assert stop is not None
    assert stop.reason == "plateau: the mean reward has not improved since round 2, for 2 rounds"


def test_the_time_limit():
    rule = EarlyStopping(seconds=25)
    assert stops(rule, rounds([1.0, 2.0, 3.0, 4.0])) == [3, 4]
    stop = rule.on_round({"seconds": 30.0}, [])
    assert stop is not None and stop.reason == "time: 30.00 s are spent, and the limit is 25.00 s"


def test_hacking_by_hand():
    """Gaps 0.5, 1.4, 1.6, 1.7, 1.4, 1.6, 1.7, 1.8; a quarter of the spread 4 is allowed on top of the first: 1.5."""
    held_out = [1.0] * 8
    rewards = [1.5, 2.4, 2.6, 2.7, 2.4, 2.6, 2.7, 2.8]
    history = rounds(rewards, held_out=held_out, held_out_spread=[4.0] + [0.1] * 7)
    assert stops(EarlyStopping(hacking=True), history) == [8]
    stop = EarlyStopping(hacking=True).on_round(history[-1], history)
    assert stop is not None and "held-out one by 1.800" in stop.reason and "at the start by 0.5000" in stop.reason
    assert stops(EarlyStopping(hacking=True), rounds([9.0] * 5)) == [], "no judge, no gap"
    unscored = rounds([9.0] * 5, held_out=[NAN] * 5, held_out_spread=[NAN] * 5)
    assert stops(EarlyStopping(hacking=True), unscored) == []


def test_nothing_set_never_stops():
    assert stops(EarlyStopping(), rounds([1.0] * 50, held_out=[-1e9] * 50, held_out_spread=[1.0] * 50)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plateau": 0}, r"train\.stop\.plateau: must be ≥ 1"),
        ({"seconds": 0}, r"train\.stop\.seconds"),
        ({"hacking": 1}, r"train\.stop\.hacking: must be true or false"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        EarlyStopping(**options)


def test_hacking_needs_a_judge():
    with pytest.raises(ConfigError, match=r"train\.stop\.hacking: there is no held-out oracle"):
        trainer_of(ppo(), train(stop=EarlyStopping(hacking=True)))


class Interrupted(Lookup):
    def __init__(self, after: int):
        super().__init__()
        self.after = after

    def __call__(self, designs: Tensor) -> Tensor:
        if self.calls == self.after:
            raise KeyboardInterrupt
        return super().__call__(designs)


def settled(folder, oracle=None, callbacks=()):
    config = train(max_calls=16 * 40, stop=EarlyStopping(plateau=3), checkpoint_every=2)
    return trainer_of(ppo(), config, oracle, folder=folder, callbacks=callbacks)


def test_a_run_that_was_killed_stops_where_it_would_have_stopped(tmp_path):
    whole = settled(tmp_path / "whole")
    whole.run()
    last = len(whole.history)
    rewards = [row["reward"] for row in whole.history]
    assert 5 < last < 40 and max(rewards) == rewards[last - 4], "it settled, in the middle"
    assert whole.stopped.startswith(f"plateau: the mean reward has not improved since round {last - 3}")

    def interrupt(row):
        if row["round"] == last:
            raise KeyboardInterrupt

    for name, oracle, callbacks in (
        ("in the oracle", Interrupted(16 * (last - 1)), ()),
        ("after the rule spoke", None, [EachRound(interrupt)]),
    ):
        with pytest.raises(KeyboardInterrupt):
            settled(tmp_path / name, oracle, callbacks).run()
        again = settled(tmp_path / name)
        again.resume()
        average = again.run()
        assert torch.equal(average.logits, whole.average.logits)
        assert (again.stopped, again.oracle.calls, len(again.history)) == (whole.stopped, 16 * last, last)
