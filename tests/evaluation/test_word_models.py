"""The best model of short words, against counts by hand."""

from __future__ import annotations

import math
import random

import pytest

from biotilt.evaluation import words
from biotilt.evaluation.words import best_word_model


def by_hand(train, test, letters: int, k: int, pseudo: float) -> float:
    """−log p of a test sequence, by dictionaries of tuples: what shorter words say, `pseudo` times, and counts."""

    def seen(context, letter) -> tuple[int, int]:
        found = [
            row[i]
            for row in train
            for i in range(len(row))
            if tuple([letters] * 9 + list(row[:i]))[9 + i - len(context) :] == context
        ]
        return found.count(letter), len(found)

    total = 0.0
    for row in test:
        for i, letter in enumerate(row):
            p = 1 / letters
            for size in range(k):
                context = tuple([letters] * 9 + list(row[:i]))[9 + i - size :]
                count, every = seen(context, letter)
                p = (count + pseudo * p) / (every + pseudo)
            total -= math.log(p)
    return total / len(test)


def test_each_length_of_words_is_a_prior_for_the_next(monkeypatch):
    random.seed(1)
    train, validation, test = ([random.choices(range(3), (5, 2, 1), k=7) for _ in range(9)] for _ in range(3))
    for k, pseudo in ((1, 0.5), (3, 2.0)):
        monkeypatch.setattr(words, "PSEUDO", (pseudo,))
        monkeypatch.setattr(words, "LONGEST", k)
        found = best_word_model(train, train if k == 3 else validation, test, 3)
        assert found.nats == pytest.approx(by_hand(train, test, 3, found.k, pseudo), rel=1e-9)
        assert found.k == k and found.nats_of_lengths == 0


def test_the_length_counts_where_it_is_free(monkeypatch):
    monkeypatch.setattr(words, "PSEUDO", (1.0,))
    monkeypatch.setattr(words, "LONGEST", 1)
    train, test = [[0], [0], [0, 0, 0]], [[0], [0, 0]]
    # of lengths 1 to 3 with one added to each: 3/6, 1/6, 2/6; the letter is one of one
    lengths = -(math.log(3 / 6) + math.log(1 / 6)) / 2
    assert best_word_model(train, train, test, 1).nats_of_lengths == pytest.approx(lengths)


def test_k_is_chosen_on_validation():
    """A letter is the one two before it, with a tenth of noise: words of three tell that, longer ones no more."""
    random.seed(2)

    def one() -> list[int]:
        row = random.choices(range(4), k=2)
        while len(row) < 60:
            row.append(row[-2] if random.random() < 0.9 else random.randrange(4))
        return row

    train, validation, test = ([one() for _ in range(count)] for count in (400, 100, 400))
    found = best_word_model(train, validation, test, 4)
    right, other = 0.9 + 0.1 / 4, 0.1 / 4
    entropy = -(right * math.log(right) + 3 * other * math.log(other))
    assert found.k == 3
    assert found.nats == pytest.approx(2 * math.log(4) + 58 * entropy, rel=0.04)


def test_what_is_told_of_a_place_is_known_before_its_letter():
    """Places of kind 0 hold letters 0 and 1, of kind 1 only 2: tokens are letter + 3 · kind."""
    random.seed(3)

    def one() -> list[int]:
        kinds = random.choices((0, 1), k=50)
        return [5 if kind else random.choice((0, 1)) for kind in kinds]

    train, validation, test = ([one() for _ in range(100)] for _ in range(3))
    found = best_word_model(train, validation, test, 3, told=2)
    free = sum(token < 3 for row in test for token in row) / 100
    assert found.nats == pytest.approx(free * math.log(2), rel=0.02)
