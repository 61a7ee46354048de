"""On a GPU operators that repeat are asked for, and only while a run computes; the promise itself wants a card."""

from __future__ import annotations

import os

import pytest
import torch

from biotilt.repeatable import WORKSPACE, repeatable

CARD = torch.device("cuda", 0)


def asked() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_card_is_asked_to_repeat_itself_while_it_computes(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    assert asked() == (False, False)
    with pytest.raises(KeyError, match="stopped"), repeatable(CARD):
        assert asked() == (True, True) and os.environ[WORKSPACE] == ":4096:8"
        raise KeyError("stopped")
    assert asked() == (False, False)
    with repeatable(torch.device("cpu")):
        assert asked() == (False, False)


def test_what_the_user_asked_for_stays(monkeypatch):
    monkeypatch.setenv(WORKSPACE, ":16:8")
    torch.use_deterministic_algorithms(True)
    try:
        with repeatable(CARD):
            assert asked() == (True, False), "operators that do not repeat are still refused, not only told of"
        assert asked() == (True, False) and os.environ[WORKSPACE] == ":16:8"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_sums_of_rows_on_a_card_are_the_same_twice():
    generator = torch.Generator(CARD).manual_seed(0)
    rows = torch.randint(50, (100_000,), device=CARD, generator=generator)
    values = torch.randn(100_000, 8, device=CARD, generator=generator)
    with repeatable(CARD):
        sums = [torch.zeros(50, 8, device=CARD).index_add_(0, rows, values) for _ in range(5)]
    assert all(torch.equal(sums[0], other) for other in sums)
