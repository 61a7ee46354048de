"""The contract of screens passes ours, and sees what breaks it."""

from __future__ import annotations

import pytest
import torch

from biotilt.core import View
from biotilt.screens import GPOptions, GPScreen
from biotilt.spaces import DNA, Letters
from biotilt.testing.contracts import check_screen

SPACE = Letters(DNA)
DESIGNS = torch.randint(4, (120, 10), generator=torch.Generator().manual_seed(0)).to(torch.int8)
SCORES = (DESIGNS == 2).float().mean(-1)


def made(kind=GPScreen):
    return kind.build(GPOptions(start=20), View(SPACE, SPACE.decode))


class Twice(GPScreen):
    def choose(self, designs, count, generator):
        return super().choose(designs, count, generator) // 2


class Forgets(GPScreen):
    def load_state(self, state):
        super().load_state(state | {"scores": -state["scores"].clamp(min=-1)})


class Silent(GPScreen):
    def figures(self):
        return {"screen/rank": float("nan")}


def test_the_gaussian_process_keeps_it():
    check_screen(made, DESIGNS, SCORES)


@pytest.mark.parametrize(
    ("kind", "message"), [(Twice, "chosen twice"), (Forgets, "chooses otherwise"), (Silent, "is NaN")]
)
def test_what_breaks_it_is_seen(kind, message):
    with pytest.raises(AssertionError, match=message):
        check_screen(lambda: made(kind), DESIGNS, SCORES)
