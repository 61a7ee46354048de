"""What keeps a search from collapse: likeness, families and ranks, counted by hand and by a plain second program."""

from __future__ import annotations

import itertools

import pytest
import torch

from biotilt.core.selection import (
    best_first,
    first_of_each,
    likeness,
    rank_weights,
    unique_share,
    without_crowds,
)


def grams(word: list[int], width: int) -> set[tuple[int, ...]]:
    return {tuple(word[i : i + width]) for i in range(len(word) - width + 1)}


@pytest.mark.parametrize(("letters", "width"), [(4, 5), (10, 3), (40, 2), (1000, 1)])
@pytest.mark.parametrize("pad", [None, 0])
def test_likeness_is_the_share_of_common_words_of_letters(letters, width, pad):
    """Against sets of tuples; a thousand of words are possible at least: 4⁵, 10³, 40²."""
    generator = torch.Generator().manual_seed(letters)
    tokens = torch.randint(letters, (7, 12), generator=generator)
    tokens[0, 0] = letters - 1  # the number of letters is read off the tokens
    tokens[3:5] = tokens[0]
    tokens[4, 5] = (tokens[4, 5] + 1) % letters
    tokens[5] = torch.where(torch.arange(12) < 2, tokens[5], 0 if pad == 0 else tokens[5])
    found = likeness(tokens.to(torch.int16), pad)
    words = [grams([t for t in row if t != pad], width) for row in tokens.tolist()]
    for i, j in itertools.product(range(7), repeat=2):
        either = len(words[i] | words[j])
        expected = len(words[i] & words[j]) / either if either else float(i == j)
        assert found[i, j].item() == pytest.approx(expected)
    assert found[0, 3] == 1 > found[0, 4]


def test_a_shift_changes_little_where_there_are_pads():
    word = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7]
    tokens = torch.tensor([[*word, 40, 40], [7, *word, 40], [40, 40, *word]])
    found = likeness(tokens, pad=40)
    assert found[0, 2] == 1 and found[0, 1] == pytest.approx(12 / 13)


def test_no_family_has_more_than_its_share_and_the_best_of_it_stay():
    family = torch.tensor([5, 5, 2, 5, 2, 9, 2])
    kept = without_crowds(family == family.unsqueeze(-1), 2)
    assert kept.tolist() == [True, True, True, False, True, True, False]


def test_likeness_makes_no_chain_of_relatives():
    """The first and the third are no relatives: the second, which is like both, is what goes."""
    related = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
    assert without_crowds(related, 1).tolist() == [True, False, True]


def test_ranks_and_keys_by_hand():
    rewards = torch.tensor([0.2, torch.nan, 0.9, -torch.inf, 0.2, 0.5])
    assert best_first(rewards).tolist() == [2, 5, 0, 4]
    expected = torch.tensor([1 / 2, 1 / 3, 1 / 4, 1 / 5])
    torch.testing.assert_close(rank_weights(4, 2.0, expected.device), expected / expected.sum())
    keys = torch.tensor([4, -1, 4, 8, -1])
    assert first_of_each(keys).tolist() == [True, True, False, True, False]
    assert unique_share(keys) == 3 / 5 and unique_share(keys[:0]) == 0
    assert first_of_each(keys[:0]).tolist() == []
