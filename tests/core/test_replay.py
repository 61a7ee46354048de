"""The replay: what it keeps, what it refuses, and how rewards in it follow a change of prices."""

from __future__ import annotations

import pytest
import torch

from biotilt.core import Replay, check_rows

COLUMNS = {"designs": "states", "rewards": "float", "k": "int", "scored": "bool"}


def rows(*rewards: float, **other: torch.Tensor) -> dict[str, torch.Tensor]:
    count = len(rewards)
    return {
        "designs": torch.arange(count, dtype=torch.int8).unsqueeze(-1),
        "rewards": torch.tensor(rewards),
        "k": torch.arange(count),
        "scored": torch.ones(count).bool(),
    } | other


def test_the_newest_rows_are_kept_and_without_a_capacity_the_last_round():
    memory = Replay(3, columns=COLUMNS)
    memory.add(rows(1.0, 2.0))
    memory.add(rows(3.0, 4.0))
    assert memory.rows["rewards"].tolist() == [2.0, 3.0, 4.0] and memory.rows["designs"].flatten().tolist() == [1, 0, 1]
    last = Replay(None, columns=COLUMNS)
    last.add(rows(1.0, 2.0))
    last.add(rows(3.0))
    assert last.rows["rewards"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (rows(1.0, 2.0, k=torch.arange(3)), "differ in number"),
        (
            rows(1.0, weight=torch.zeros(1)),
            "k, scored, weight, the objective declares designs, rewards",
        ),
        (rows(1.0, rewards=torch.tensor([1])), '"rewards" is torch.int64, the objective declares float'),
        (rows(1.0, k=torch.zeros(1)), '"k" is torch.float32, the objective declares int'),
        (rows(1.0, scored=torch.ones(1)), '"scored" is torch.float32, the objective declares bool'),
    ],
)
def test_rows_that_are_not_as_declared_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        Replay(4, columns=COLUMNS).add(batch)
    if "differ" not in message:
        check_rows(batch, None)


def test_rows_of_another_type_than_those_before_are_refused():
    memory = Replay(4, columns=COLUMNS)
    memory.add(rows(1.0))
    with pytest.raises(ValueError, match=r'"rewards" are torch\.float64, those before are torch\.float32'):
        memory.add(rows(1.0, rewards=torch.ones(1).double()))


def test_rewards_follow_a_change_where_designs_were_scored():
    memory = Replay(4, rows(1.0, 2.0, 3.0, scored=torch.tensor([True, False, True])))
    before = memory.rows["rewards"]
    assert memory.reprice(lambda designs: torch.where(designs[:, 0] == 2, torch.inf, 10.0 + designs[:, 0])) == 0
    assert memory.rows["rewards"].tolist() == [11.0, 2.0, 3.0] and before.tolist() == [1.0, 2.0, 3.0]


def test_rows_that_cannot_be_priced_are_forgotten_and_counted():
    memory = Replay(4, {"x": torch.zeros(3, 2), "value_x": torch.zeros(3)})
    assert memory.reprice(lambda designs: torch.zeros(len(designs))) == 3 and len(memory) == 0
