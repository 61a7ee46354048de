"""The best model of short words: what a generator must beat before it knows more than they tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

LONGEST = 6
PSEUDO = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
Tokens = Sequence[Sequence[int]]


@dataclass(frozen=True)
class WordModel:
    """Words of `k` letters: p(letter | the k − 1 before it), with `pseudo` counts of what shorter words say.

    `nats`: −log p of the letters of a test sequence, on average; `nats_of_lengths`: of its length, by the frequencies
    of lengths, one added to each.
    """

    k: int
    pseudo: float
    nats: float
    nats_of_lengths: float


def as_numbers(sequences: Sequence[str], letters: str) -> list[list[int]]:
    """Return each sequence as numbers of its letters.

    >>> as_numbers(["CAT"], "ACGT")
    [[1, 0, 3]]
    """
    number = {letter: i for i, letter in enumerate(letters)}
    return [[number[letter] for letter in sequence] for sequence in sequences]


def best_word_model(train: Tokens, validation: Tokens, test: Tokens, letters: int, told: int = 1) -> WordModel:
    """Return the word model of `train` that is best on `validation`, of k = 1 … 6, with its −log p of `test`.

    Sequences are of tokens from 0 to `letters` − 1. A letter at the start of a sequence is known to stand there.
    `told`: of each letter it is known of which so many kinds its place is; a token is then letter + `letters` · kind.

    >>> import random
    >>> random.seed(0)
    >>> every = [[i % 2 for i in range(start, start + 40)] for start in random.choices((0, 1), k=60)]
    >>> found = best_word_model(every[:20], every[20:40], every[40:], 2)
    >>> found.k > 1, round(found.nats, 1)  # one letter tells the rest: log 2 for the first
    (True, 0.7)
    """
    every = range(1, LONGEST + 1)
    tables = [_Counts(_words(train, k, letters, told), letters) for k in every]
    chosen_by, wanted = ([_words(part, k, letters, told) for k in every] for part in (validation, test))
    nats = {
        (k, pseudo): _nats(tables[:k], chosen_by[:k], letters, pseudo) / len(validation)
        for k, pseudo in product(every, PSEUDO)
    }
    k, pseudo = min(nats, key=lambda choice: nats[choice])
    found = _nats(tables[:k], wanted[:k], letters, pseudo) / len(test)
    return WordModel(k, pseudo, found, _length_nats(train, test))


class _Counts:
    """How often each word, and each beginning of one, stands in sequences."""

    def __init__(self, words: np.ndarray, letters: int):
        self.letters = letters
        self.words, self.of_words = np.unique(words, return_counts=True)
        self.beginnings, self.of_beginnings = np.unique(words // letters, return_counts=True)

    def counted(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts of words, and of their beginnings."""
        begun = words // self.letters
        return _looked_up(self.words, self.of_words, words), _looked_up(self.beginnings, self.of_beginnings, begun)


def _looked_up(known: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[place] == wanted, counts[place], 0)


def _words(sequences: Tokens, k: int, letters: int, told: int) -> np.ndarray:
    """Return as a number the word of k letters that ends at each place; before a start stands one more token.

    Divided by `letters` it is its beginning: the tokens before, and what is told of the place.
    """
    size = letters * told + 1
    found = []
    for sequence in sequences:
        filled = np.concatenate([np.full(k - 1, size - 1), np.asarray(sequence)]).astype(np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(filled, k)
        before = windows[:, :-1] @ size ** np.arange(k - 2, -1, -1, dtype=np.int64)
        kind, letter = np.divmod(windows[:, -1], letters)
        found.append((before * told + kind) * letters + letter)
    return np.concatenate(found)


def _nats(tables: Sequence[_Counts], words: Sequence[np.ndarray], letters: int, pseudo: float) -> float:
    """Return −log p of all places; each length of words is a prior for the next."""
    p = np.full(len(words[0]), 1 / letters)
    for table, here in zip(tables, words):
        seen, begun = table.counted(here)
        p = (seen + pseudo * p) / (begun + pseudo)
    return float(-np.log(p).sum())


def _length_nats(train: Tokens, test: Tokens) -> float:
    """Return −log p of the length of a test sequence, on average; 0 where all have one."""
    known, lengths = Counter(map(len, train)), [len(sequence) for sequence in test]
    low, high = min([*known, *lengths]), max([*known, *lengths])
    total = sum(known.values()) + high - low + 1
    return sum(math.log(total / (known[length] + 1)) for length in lengths) / len(lengths)
