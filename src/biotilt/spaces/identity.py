"""Near-duplicates in a corpus: clusters of sequences of which a given part is identical, on either strand.

Two sequences are related when `1 − edits / letters of the longer` is at least the threshold; edits are substitutions,
insertions and deletions of single letters, end to end. Clusters are by single linkage: relatives of relatives are in
one. To compare all pairs would take days for 100,000 sequences, so pairs are found by the words that they share, and
then checked exactly:

1. Every sequence is cut into its overlapping words of k letters. k grows with the corpus, so that words that are shared
   by chance stay few: 4 for a thousand short DNAs, 11 for 100,000 of 125 letters.
2. A shared word at places that allow it (not shifted by more than the edits allowed) says how two sequences lie to each
   other. Their letters are compared in that position: few enough differences make them related.
3. Pairs that agree there by more than chance, but not enough, may have insertions: their edit distance is computed.

In a small corpus (1,000 sequences of 20 letters, 100 of 200) all pairs are compared instead, and nothing is missed.
Otherwise some may be: pairs at the threshold whose differences are spread so evenly that they share no word, and, where
more than 50 sequences share a word, a part of those pairs. A pair below the threshold
never joins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from biotilt.errors import ConfigError
from biotilt.spaces.alphabet import Alphabet
from biotilt.spaces.clusters import linked

_EXACT = 400_000_000  # pairs times letters squared, up to which all pairs are compared
_PAIRS = 20_000_000  # shared words that are looked at, in all
_OTHERS = 50  # with which a sequence is compared for one word
_WORDS = 30_000_000  # that are kept; of a larger corpus a part of the words, the same in every sequence
_LETTERS = 40_000_000  # compared at a time
_FAR = 10_000  # more edits than are ever allowed


def related(sequences: Sequence[str], alphabet: Alphabet | None, identity: float) -> list[int]:
    """Return a cluster number, from 0 by first appearance, for each sequence.

    Args:
        sequences: designs in the letters of `alphabet`, of any lengths.
        alphabet: of nucleic acids, a sequence and its reverse complement are one. None where designs are not
            made of single letters: then only equal ones are related.
        identity: the threshold in (0, 1]; 1 joins equal sequences (and reverse complements) only.

    Raises:
        ConfigError: `identity` is outside (0, 1].

    >>> from biotilt.spaces import DNA
    >>> related(["ACGTTTGCAC", "GTGCAAACGT", "ACGTTTGGAC", "GGGGGCCCCA"], DNA, identity=0.9)
    [0, 0, 0, 1]
    """
    if not 0 < identity <= 1:
        raise ConfigError(f"identity: a threshold in (0, 1] is needed, got {identity}")
    if alphabet is None or not sequences:
        return linked([text] for text in sequences)
    both_strands = alphabet.letters in ("ACGT", "ACGU")
    tokens = [alphabet.encode(text).numpy().astype(np.uint8) for text in sequences]
    names = [_canonical(row) if both_strands else row.tobytes() for row in tokens]
    unique = list(dict.fromkeys(names))
    number = {name: i for i, name in enumerate(unique)}
    labels = np.arange(len(unique))
    if identity < 1 and len(unique) > 1:
        corpus = _Corpus.of([np.frombuffer(name, np.uint8) for name in unique], len(alphabet.letters), both_strands)
        labels = _joined(corpus, identity)
    return linked([int(labels[number[name]])] for name in names)


def _canonical(tokens: np.ndarray) -> bytes:
    return min(tokens.tobytes(), (3 - tokens[::-1]).tobytes())


@dataclass(frozen=True)
class _Corpus:
    """Sequences as bytes in one row, `widest` empty places (255) before and after each; then their other strands."""

    flat: np.ndarray
    starts: np.ndarray  # (N,), or (2N,) with other strands
    lengths: np.ndarray  # (N,)
    letters: int
    both_strands: bool

    @classmethod
    def of(cls, rows: list[np.ndarray], letters: int, both_strands: bool) -> _Corpus:
        lengths = np.array([len(row) for row in rows])
        widest = int(lengths.max())
        every = [*rows, *(3 - row[::-1] for row in rows)] if both_strands else rows
        flat = np.full((len(every) + 1) * 2 * widest, 255, dtype=np.uint8)
        starts = widest + np.arange(len(every)) * 2 * widest
        for start, row in zip(starts, every):
            flat[start : start + len(row)] = row
        return cls(flat, starts, lengths, letters, both_strands)

    @property
    def widest(self) -> int:
        return int(self.lengths.max())

    def letters_at(self, starts: np.ndarray, width: int) -> np.ndarray:
        """Return `(B, width)` letters from places of `flat` on."""
        return np.lib.stride_tricks.sliding_window_view(self.flat, width)[starts]

    def chance(self) -> float:
        """Return the probability that two letters of the corpus are the same."""
        counts = np.bincount(self.flat, minlength=256)[: self.letters]
        return float(((counts / counts.sum()) ** 2).sum())


def _joined(corpus: _Corpus, identity: float) -> np.ndarray:
    """Return a label for each sequence of a corpus of different sequences; relatives share one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(corpus.lengths)
    labels, found = np.arange(size), [np.zeros((2, 0), dtype=np.int64)]
    few = size**2 * corpus.widest**2 <= _EXACT
    chance = corpus.chance()
    width = _word_width(corpus, chance)
    part = max(_LETTERS // corpus.widest, 100)
    for many in _all_pairs(corpus) if few else _candidates(corpus, width, identity):
        for start in range(0, many.shape[1], part):
            a, b, shift = many[:, start : start + part]
            apart = labels[a] != labels[b % size]
            a, b, shift = a[apart], b[apart], shift[apart]
            kept = _related_pairs(corpus, a, b, shift, identity, None if few else (width, chance))
            if kept.any():
                found.append(np.stack([a[kept], b[kept] % size]))
                edges = np.concatenate(found, axis=1)
                graph = coo_array((np.ones(edges.shape[1], dtype=np.int8), (edges[0], edges[1])), shape=(size, size))
                labels = connected_components(graph, directed=False)[1]
    return labels


def _word_width(corpus: _Corpus, chance: float) -> int:
    """Return the letters of a word, so that a corpus of random letters shares no more words than can be looked at."""
    words = min(float(corpus.lengths.sum()), _WORDS)
    strands = 2 if corpus.both_strands else 1
    wanted = math.log(max(strands * words**2 / (2 * _PAIRS), 1)) / -math.log(min(chance, 0.9))
    shortest = 4 if corpus.letters <= 4 else 3
    longest = max(int(np.median(corpus.lengths)) // 2, shortest)
    fits = int(62 / math.log2(corpus.letters + 1))  # in 63 bits
    return min(max(math.ceil(wanted), shortest), longest, fits)


def _words(corpus: _Corpus, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all words as numbers, sorted, with the row and the place of each.

    With two strands a word and its reverse complement are one number; where the latter is the smaller, row and
    place are those of the other strand.
    """
    size = len(corpus.lengths)
    every = max(math.ceil(float(corpus.lengths.sum()) / _WORDS), 1)
    words, rows, places = [], [], []
    powers = corpus.letters ** np.arange(width - 1, -1, -1, dtype=np.int64)
    # in parts of some rows: the numbers of all windows at once would take eight bytes for each letter of each word
    part = max(_LETTERS // (8 * corpus.widest), 1)
    for start in range(0, size, part):
        of = np.arange(start, min(start + part, size))
        numbers = _numbers(corpus, of, width, powers)
        own = np.arange(numbers.shape[1]) <= corpus.lengths[of, None] - width
        row, place = np.broadcast_to(of[:, None], own.shape), np.broadcast_to(np.arange(own.shape[1]), own.shape)
        if corpus.both_strands:
            other = _numbers(corpus, of + size, width, powers)
            mirrored = corpus.lengths[of, None] - width - place
            other = np.take_along_axis(other, np.clip(mirrored, 0, None), 1)
            turned = other < numbers
            numbers = np.where(turned, other, numbers)
            row, place = np.where(turned, row + size, row), np.where(turned, mirrored, place)
        if every > 1:  # a hash, so that which words are kept has nothing to do with their letters
            own &= (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(every) == 0
        words.append(numbers[own])
        rows.append(row[own].astype(np.int32))
        places.append(place[own].astype(np.int32))
    word, row, place = np.concatenate(words), np.concatenate(rows), np.concatenate(places)
    order = np.argsort(word, kind="stable")
    return word[order], row[order], place[order]


def _numbers(corpus: _Corpus, rows: np.ndarray, width: int, powers: np.ndarray) -> np.ndarray:
    """Return the numbers `(B, W)` of the words at each place of some rows; without meaning behind their ends."""
    letters = corpus.letters_at(corpus.starts[rows], corpus.widest).astype(np.int64)
    total = np.zeros((len(rows), max(corpus.widest - width + 1, 0)), dtype=np.int64)
    for offset, power in enumerate(powers):
        total += letters[:, offset : offset + total.shape[1]] * power
    return total


def _all_pairs(corpus: _Corpus) -> Iterator[np.ndarray]:
    """Yield what `_candidates` does, for each pair once (on each strand), not shifted."""
    size = len(corpus.lengths)
    a, b = np.triu_indices(size, 1)
    for row in (b, b + size) if corpus.both_strands else (b,):
        yield np.stack([a, row, np.zeros_like(a)])


def _candidates(corpus: _Corpus, width: int, identity: float) -> Iterator[np.ndarray]:
    """Yield `(3, P)`: sequences a, rows b to compare them with, and where in a the row b begins.

    Sequences that share a word are compared with the next in the list of that word, then with the one after, and so on
    until all pairs of all words had their turn, or `_OTHERS` of each sequence, or `_PAIRS` in all.
    """
    size = len(corpus.lengths)
    word, row, place = _words(corpus, width)
    looked, offset, at = 0, 1, np.arange(len(word))
    while len(at) and looked < _PAIRS and offset <= _OTHERS:
        at = at[at + offset < len(word)]
        at = at[word[at] == word[at + offset]]
        looked += len(at)
        first, second = at, at + offset
        a, b, shift = row[first].astype(np.int64), row[second].astype(np.int64), place[first] - place[second]
        # a on its other strand and b: the same as a and b on its other strand, seen from the other end
        turned = a >= size
        a, b = np.where(turned, a - size, a), np.where(turned, (b + size) % (2 * size), b)
        difference = corpus.lengths[a] - corpus.lengths[b % size]
        shift = np.where(turned, difference - shift, shift)
        longer = np.maximum(corpus.lengths[a], corpus.lengths[b % size])
        edits = np.floor((1 - identity) * longer + 1e-9)
        fits = (np.abs(shift) + np.abs(difference - shift) <= edits) & (a != b % size)
        # two sequences share many words that say the same
        key = (a[fits] * 2 * size + b[fits]) * (2 * corpus.widest + 1) + shift[fits]
        once = np.flatnonzero(fits)[np.unique(key, return_index=True)[1]]
        yield np.stack([a[once], b[once], shift[once]])
        offset += 1


def _related_pairs(
    corpus: _Corpus, a: np.ndarray, b: np.ndarray, shift: np.ndarray, identity: float, drop: tuple[int, float] | None
) -> np.ndarray:
    """Return which pairs `(P,)` are related.

    `drop`: the letters of a word that they share, and the chance that two letters are the same. Pairs that agree no
    more than such chance makes them are dropped without a look at their edit distance.
    """
    if not len(a):
        return np.zeros(0, dtype=bool)
    size = len(corpus.lengths)
    long_a, long_b = corpus.lengths[a], corpus.lengths[b % size]
    longer = np.maximum(long_a, long_b)
    allowed = np.floor((1 - identity) * longer + 1e-9).astype(np.int64)
    own = corpus.letters_at(corpus.starts[a], corpus.widest)
    same = ((own == corpus.letters_at(corpus.starts[b] - shift, corpus.widest)) & (own != 255)).sum(1)
    overlap = np.minimum(long_a, shift + long_b) - np.maximum(shift, 0)
    edits = long_a + long_b - overlap - same
    kept = edits <= allowed
    maybe = ~kept & (allowed >= np.maximum(np.abs(long_a - long_b), 1))
    if drop is not None:
        width, chance = drop
        free = np.maximum(overlap - width, 0)
        more = same > width + chance * free + 3 * np.sqrt(chance * (1 - chance) * free)
        maybe &= more | (longer <= 32)  # short ones are all worth the little time
    kept[maybe] = _within(corpus, a[maybe], b[maybe], allowed[maybe])
    return kept


def _within(corpus: _Corpus, a: np.ndarray, b: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return for which pairs the edit distance is at most `allowed`: its table, in a band, row by row for all."""
    result = np.zeros(len(a), dtype=bool)
    if not len(a):
        return result
    band = int(allowed.max())
    alive = np.arange(len(a))
    long_a = corpus.lengths[a]
    ends = corpus.lengths[b % len(corpus.lengths)] - long_a + band
    step = np.arange(2 * band + 1, dtype=np.int16)
    # entry d of row i: edits between the first i letters of a and the first i + d - band of b
    row = np.where(step >= band, step - band, _FAR).astype(np.int16)[None].repeat(len(a), 0)
    for i in range(int(long_a.max()) + 1):
        done = long_a[alive] == i
        if done.any():
            which = alive[done]
            result[which] = row[done, ends[which]] <= allowed[which]
        going = ~done & (row.min(1) <= allowed[alive])
        alive, row = alive[going], row[going]
        if not len(alive):
            break
        letter = corpus.flat[corpus.starts[a[alive]] + i]
        beside = corpus.letters_at(corpus.starts[b[alive]] + i - band, 2 * band + 1)
        turned = row + (beside != letter[:, None])
        turned[:, :-1] = np.minimum(turned[:, :-1], row[:, 1:] + 1)
        row = np.minimum.accumulate(turned - step, axis=1) + step
    return result
