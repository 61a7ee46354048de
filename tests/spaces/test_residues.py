"""Sequences for a backbone: what is held, what changed, and the picture of it."""

from __future__ import annotations

import re

import pytest
import torch

from biotilt.errors import ConfigError, DataError
from biotilt.spaces.kinds import build_space
from biotilt.spaces.residues import Residues
from biotilt.spaces.traces import blend

SPACE = Residues(
    "MKV", ("A1", "A2", "A5"), held="M..", omitted=("", "CM", ""), owner=(0, 1, -1, 2), chains=("A", "A", "B", "A"),
    trace=(0.0, 0.0, 0.0, 3.8, 0.0, 0.0, 3.8, 3.8, 0.0, 20.0, 1.0, 2.0),
)  # fmt: skip


def test_limits_are_what_is_held_and_omitted() -> None:
    limits = SPACE.limits
    assert limits.mask.tolist() == [True, False, False] and limits.letters[0] == 10  # M of ACDEFGHIKLM…
    assert limits.allowed is not None
    assert [column.sum().item() for column in limits.allowed] == [20, 18, 20]
    assert not limits.allowed[1, 1] and not limits.allowed[1, 10]  # C, M
    assert Residues("MK", ("A1", "A2")).limits.allowed is None


def test_designs_go_and_come_back() -> None:
    states = SPACE.encode(["MRV", "MKW"])
    assert states.tolist() == [[10, 14, 17], [10, 8, 18]] and SPACE.decode(states) == ["MRV", "MKW"]
    assert SPACE.changes("MRW") == ["A2K>R", "A5V>W"] and SPACE.changes("MKV") == []
    with pytest.raises(DataError):
        SPACE.decode(torch.tensor([[10, 20, 3]]))
    with pytest.raises(DataError):
        SPACE.decode(torch.tensor([[10, 2]]))


def test_a_file_brings_it_back() -> None:
    again = build_space(SPACE.spec())
    assert again == SPACE and isinstance(again, Residues) and again.limits.mask.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": ("A1",)}, "one length"),
        ({"held": "MKV"}, "nothing to design"),
        ({"held": "Z.."}, "20 residues"),
        ({"owner": (0, 1)}, "one number of residues"),
        ({"owner": (0, 1, 9, 2)}, "positions of the design"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_space(SPACE.spec() | given)


def test_the_picture_has_a_dot_a_residue_in_the_colour_of_its_change() -> None:
    svg = SPACE.picture({"base": ["MKV", "MRV"], "tuned": ["MRW", "MRW"]})
    dots = re.findall(r'<circle [^>]*fill="(#\w+)"', svg)
    held, other, none, half, every = "#3a3a3a", "#c9ccd1", blend(0), blend(0.5), blend(1)
    assert sorted(dots[:4]) == sorted([held, half, other, none])
    assert sorted(dots[4:]) == sorted([held, every, other, every])
    assert len(re.findall("<line ", svg)) == 2  # A1 to A2, in each; B and what is 16 Å away are not joined
    assert "base: 0.5 of 3 positions" in svg and "tuned: 2.0 of 3 positions" in svg
    assert svg == SPACE.picture({"base": ["MKV", "MRV"], "tuned": ["MRW", "MRW"]})


def test_a_space_without_places_has_no_picture() -> None:
    assert Residues("MK", ("A1", "A2")).picture({"base": ["MK"]}) == ""
