"""Fixed positions: patterns, tables of positions, and the dataclass that holds them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.spaces import DNA, PROTEIN, RNA, fixed_from_positions, parse_fixed


def read(held):
    """Return which positions are held, and with which letters."""
    mask, letters = held.mask, held.letters
    return mask.tolist(), [token for token, held in zip(letters.tolist(), mask.tolist()) if held]


def test_letters_are_held_and_signs_are_free():
    held = parse_fixed("Ac.-_NnuT", DNA, 9)
    mask, letters = held.mask, held.letters
    assert held.allowed is None
    assert mask.dtype == torch.bool and letters.dtype == torch.int8 and letters.shape == (9,)
    assert mask.tolist() == [True, True, False, False, False, False, False, True, True]
    assert letters[mask].tolist() == [0, 1, 3, 3]


def test_n_is_a_letter_of_proteins_and_x_is_free():
    assert read(parse_fixed("NXxM", PROTEIN, 4)) == ([True, False, False, True], [11, 10])


@given(st.text("ACGT.", min_size=1, max_size=20).filter(lambda text: "." in text))
def test_a_pattern_and_its_table_of_positions_agree(pattern):
    table = {str(place): letter for place, letter in enumerate(pattern, start=1) if letter != "."}
    assert read(parse_fixed(pattern, DNA, len(pattern))) == read(fixed_from_positions(table, DNA, len(pattern)))


def test_ranges_are_one_based_and_inclusive():
    held = fixed_from_positions({"1-3": "GCU", " 6 - 7 ": "A.", "10": "c"}, RNA, 10)
    mask, letters = held.mask, held.letters
    assert mask.nonzero().flatten().tolist() == [0, 1, 2, 5, 9]
    assert letters[mask].tolist() == [2, 1, 3, 0, 1]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("ACG", "fixed pattern has 3 positions, but a design has 4"),
        ("ACGT.", "fixed pattern has 5 positions, but a design has 4"),
        (
            "..X.",
            r"position 3: 'X' is not a letter of dna; valid letters: A, C, G, T; free positions are '\.'",
        ),
        ("A. .", "position 3: ' ' is not a letter"),
        ("ACGT", "every position is held"),
    ],
)
def test_a_wrong_pattern_is_explained(pattern, message):
    with pytest.raises(ConfigError, match=message):
        parse_fixed(pattern, DNA, 4)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"1-3": "AC"}, "fixed positions \"1-3\": 3 positions, but 2 letters: 'AC'"),
        ({"4": "AC"}, "1 positions, but 2 letters"),
        ({"2-4": "ACG", "4": "G"}, 'fixed positions "4" overlaps "2-4" at position 4'),
        ({"0": "A"}, 'fixed positions "0": outside the design, whose positions are 1 to 6'),
        ({"5-7": "ACG"}, "outside the design, whose positions are 1 to 6"),
        ({"4-2": "ACG"}, 'runs backwards; write "2-4"'),
        ({"a": "A"}, 'fixed positions "a": expected a position such as "50" or a range'),
        ({"9" * 5000: "A"}, '9": expected a position such as "50" or a range'),
        ({"-3": "A"}, 'fixed positions "-3": expected'),
        ({"1-": "A"}, 'fixed positions "1-": expected'),
        ({"3-5": "AG!"}, "fixed positions \"3-5\": position 5: '!' is not a letter of dna"),
        ({"1-3": "ACG", "4-6": "TTT"}, "every position is held"),
    ],
)
def test_a_wrong_table_is_explained(table, message):
    with pytest.raises(ConfigError, match=message):
        fixed_from_positions(table, DNA, 6)


def test_a_code_of_some_letters_leaves_the_choice_between_them():
    held = parse_fixed("y.Gw", DNA, 4, symbols=5)  # with a pad
    assert read(held) == ([False, False, True, False], [2])
    assert held.allowed is not None
    assert held.allowed.int().tolist() == [[0, 1, 0, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 0, 0, 1, 0]]
    same = fixed_from_positions({"1": "Y", "3-4": "GW"}, DNA, 4, symbols=5)
    assert same.allowed is not None and read(same) == read(held) and same.allowed.equal(held.allowed)


@pytest.mark.parametrize(
    ("mask", "letters", "message"),
    [
        (
            torch.zeros(2, 2).bool(),
            torch.zeros(2, 2).to(torch.int8),
            r"shape \(L,\), not \(2, 2\) and \(2, 2\)",
        ),
        (torch.zeros(2).bool(), torch.zeros(3).to(torch.int8), r"not \(2,\) and \(3,\)"),
        (torch.zeros(2), torch.zeros(2).to(torch.int8), "mask must be bool .* not torch.float32"),
        (torch.zeros(2).bool(), torch.zeros(2).bool(), "letters integers, .* torch.bool"),
        (torch.ones(2).bool(), torch.zeros(2).to(torch.int8), "nothing to design"),
        (torch.tensor([True, False]), torch.tensor([-1, 0], dtype=torch.int8), "a held letter is negative"),
    ],
)
def test_a_malformed_fixed_is_refused(mask, letters, message):
    with pytest.raises(ConfigError, match=message):
        Fixed(mask, letters)


def test_a_free_letter_may_be_anything():
    held = Fixed(torch.tensor([True, False]), torch.tensor([3, -1], dtype=torch.int8))
    assert held.letters[held.mask].tolist() == [3]
