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

    `nats`: −log p of a test sequence, on average, its length included (frequencies of lengths, one added to each).
    """

    k: int
    pseudo: float
    nats: float


def best_word_model(train: Tokens, validation: Tokens, test: Tokens, letters: int) -> WordModel:
    """Return the word model of `train` that is best on `validation`, of k = 1 … 6, with its −log p of `test`.

    Sequences are of tokens from 0 to `letters` − 1. A letter at the start of a sequence is known to stand there.

    >>> import random
    >>> random.seed(0)
    >>> every = [[i % 2 for i in range(start, start + 40)] for start in random.choices((0, 1), k=60)]
    >>> found = best_word_model(every[:20], every[20:40], every[40:], 2)
    >>> found.k, found.nats < 1.0  # one letter tells the rest: log 2 for the first
    (2, True)
    """
    tables = [_Counts(train, k, letters) for k in range(1, LONGEST + 1)]
    places = {name: [_words(part, k, letters) for k in range(1, LONGEST + 1)] for name, part in
              (("validation", validation), ("test", test))}  # fmt: skip
    nats = {
        (k, pseudo): _nats(tables[:k], places["validation"][:k], letters, pseudo) / len(validation)
        for k, pseudo in product(range(1, LONGEST + 1), PSEUDO)
    }
    k, pseudo = min(nats, key=lambda choice: nats[choice])
    found = _nats(tables[:k], places["test"][:k], letters, pseudo) / len(test)
    return WordModel(k, pseudo, found + _length_nats(train, test))


class _Counts:
    """How often each word of k letters, and each beginning of one, stands in sequences."""

    def __init__(self, sequences: Tokens, k: int, letters: int):
        words = _words(sequences, k, letters)
        self.words, self.of_words = np.unique(words, return_counts=True)
        self.beginnings, self.of_beginnings = np.unique(words // (letters + 1), return_counts=True)

    def next_to(self, words: np.ndarray, letters: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts of words, and of their beginnings."""
        begun = words // (letters + 1)
        return _looked_up(self.words, self.of_words, words), _looked_up(self.beginnings, self.of_beginnings, begun)


def _looked_up(known: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[place] == wanted, counts[place], 0)


def _words(sequences: Tokens, k: int, letters: int) -> np.ndarray:
    """Return as a number the word of k letters that ends at each place; before a start stands one more letter."""
    found = []
    for sequence in sequences:
        filled = np.concatenate([np.full(k - 1, letters), np.asarray(sequence)]).astype(np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(filled, k)
        found.append(windows @ (letters + 1) ** np.arange(k - 1, -1, -1, dtype=np.int64))
    return np.concatenate(found)


def _nats(tables: Sequence[_Counts], words: Sequence[np.ndarray], letters: int, pseudo: float) -> float:
    """Return −log p of all places; each length of words is a prior for the next."""
    p = np.full(len(words[0]), 1 / letters)
    for table, here in zip(tables, words):
        seen, begun = table.next_to(here, letters)
        p = (seen + pseudo * p) / (begun + pseudo)
    return float(-np.log(p).sum())


def _length_nats(train: Tokens, test: Tokens) -> float:
    """Return −log p of the length of a test sequence, on average; 0 where all have one."""
    known, lengths = Counter(map(len, train)), [len(sequence) for sequence in test]
    low, high = min([*known, *lengths]), max([*known, *lengths])
    total = sum(known.values()) + high - low + 1
    return sum(math.log(total / (known[length] + 1)) for length in lengths) / len(lengths)
