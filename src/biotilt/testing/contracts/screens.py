"""The contract of a screen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from biotilt.core import Screen


def check_screen(make: Callable[[], Screen], designs: Tensor, scores: Tensor, count: int = 10) -> None:
    """Check that a screen keeps to what algorithms and checkpoints expect of it; AssertionError says what it breaks.

    `make` makes it anew. It learns half of the designs `(N, ...)`, N ≥ 4 · `count`, with scores `(N,)` some of which
    are taken for not scored and for infeasible, and is asked to choose `count` among all of them.
    """
    screen, scores = make(), scores.clone()
    assert screen.proposals(count) == count, "before it knows anything there is nothing to choose by"
    scores[1::9], scores[2::9] = torch.nan, -torch.inf
    half = len(designs) // 2
    for known, scored in zip(designs[:half].split(count), scores[:half].split(count)):
        screen.learn(known, scored)
    assert screen.proposals(count) >= count, "it must be given as many designs as it is to choose"
    again = make()
    again.load_state({key: value.clone() for key, value in screen.state().items()})
    picked = screen.choose(designs, count, Generator().manual_seed(1))
    assert picked.shape == (count,) and not picked.is_floating_point(), f"choose returned {tuple(picked.shape)}"
    assert len(set(picked.tolist())) == count, "one design was chosen twice"
    assert picked.min() >= 0 and picked.max() < len(designs), "a place was chosen at which there is no design"
    same = again.choose(designs, count, Generator().manual_seed(1))
    assert picked.equal(same), "a screen that was stored and loaded chooses otherwise"
    everything = screen.choose(designs, len(designs), Generator().manual_seed(2))
    assert sorted(everything.tolist()) == list(range(len(designs))), "where all are wanted, all are chosen"
    figures = screen.figures()
    assert all(key.startswith("screen/") for key in figures), 'a figure without "screen/" in front of it'
    assert all(value == value for value in figures.values()), "a figure is NaN: leave out what is not known"
