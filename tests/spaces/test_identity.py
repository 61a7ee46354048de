"""Clusters of near-duplicates, against the edit distances of all pairs."""

from __future__ import annotations

import itertools
import random

import pytest

from biotilt.errors import ConfigError
from biotilt.rewards.dna.motifs import reverse_complement
from biotilt.spaces import DNA, PROTEIN, RNA, identity
from biotilt.spaces.clusters import linked
from biotilt.spaces.identity import related


def edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1]


def by_all_pairs(sequences: list[str], threshold: float, both_strands: bool) -> list[int]:
    keys: list[list[int | tuple[int, int]]] = [[i] for i in range(len(sequences))]
    for (i, a), (j, b) in itertools.combinations(enumerate(sequences), 2):
        strands = [b, reverse_complement(b)] if both_strands else [b]
        if 1 - min(edits(a, other) for other in strands) / max(len(a), len(b)) >= threshold - 1e-9:
            keys[i].append((i, j))
            keys[j].append((i, j))
    return linked(keys)


def changed(draw: random.Random, sequence: str, letters: str, share: float, gaps: bool) -> str:
    """Return a sequence with a share of its letters substituted, and some inserted and left out."""
    found = list(sequence)
    for _ in range(draw.randint(0, int(share * len(sequence)))):
        place, kind = draw.randrange(len(found)), draw.random() if gaps else 0.0
        if kind < 0.6:
            found[place] = draw.choice(letters)
        elif kind < 0.8:
            found.insert(place, draw.choice(letters))
        else:
            del found[place]
    return "".join(found)


def families(seed: int, letters: str, gaps: bool, both_strands: bool) -> list[str]:
    draw, found = random.Random(seed), []
    for _ in range(8):
        found.append("".join(draw.choices(letters, k=draw.randint(12, 40))))
        for _ in range(3):
            child = changed(draw, draw.choice(found[-2:]), letters, 0.25, gaps)
            found.append(reverse_complement(child) if both_strands and draw.random() < 0.5 else child)
    return found


@pytest.mark.parametrize(("seed", "threshold"), [(1, 0.8), (2, 0.9), (3, 0.7)])
@pytest.mark.parametrize("alphabet", [DNA, PROTEIN], ids=["dna", "protein"])
def test_in_a_small_corpus_every_pair_is_compared(alphabet, seed, threshold):
    sequences = families(seed, alphabet.letters, True, alphabet is DNA)
    expected = by_all_pairs(sequences, threshold, alphabet is DNA)
    assert 8 <= len(set(expected)) < len(sequences)
    assert related(sequences, alphabet, threshold) == expected


@pytest.mark.parametrize(("alphabet", "missed"), [(DNA, 3), (PROTEIN, 3)], ids=["dna", "protein"])
def test_found_by_words_nothing_joins_wrongly_and_hardly_anything_is_missed(alphabet, missed, monkeypatch):
    monkeypatch.setattr(identity, "_EXACT", 0)
    for seed in range(2):
        sequences = families(seed, alphabet.letters, True, alphabet is DNA)
        expected, found = by_all_pairs(sequences, 0.8, alphabet is DNA), related(sequences, alphabet, 0.8)
        whole = {cluster: {expected[i] for i, c in enumerate(found) if c == cluster} for cluster in found}
        assert all(len(members) == 1 for members in whole.values())
        assert len(set(expected)) <= len(set(found)) <= len(set(expected)) + missed


def test_a_large_library_of_one_parent_is_one_cluster_in_little_time():
    """1,000 sequences share every word: they are compared with some of the others only."""
    draw = random.Random(0)
    parent = "".join(draw.choices(PROTEIN.letters, k=60))
    mutants = [changed(draw, parent, PROTEIN.letters, 0.05, False) for _ in range(1000)]
    assert set(related(mutants, PROTEIN, 0.8)) == {0}


def test_a_common_flank_joins_nothing(monkeypatch):
    monkeypatch.setattr(identity, "_EXACT", 0)
    draw = random.Random(0)
    flank = "".join(draw.choices("ACGT", k=10))
    sequences = [flank + "".join(draw.choices("ACGT", k=60)) + flank for _ in range(120)]
    assert len(set(related(sequences, DNA, 0.8))) == 120


def test_copies_and_other_strands_are_one_whatever_the_threshold():
    assert related(["ACCT", "acct", "AGGT", "TTTT", "AAAA", "ACCA"], DNA, 1.0) == [0, 0, 0, 1, 1, 2]
    assert related(["ACCU", "AGGU"], RNA, 1.0) == [0, 0]
    assert related(["ACCT", "AGGT"], PROTEIN, 1.0) == [0, 1], "proteins have one strand"
    assert related(["CCO", "OCC", "CCO"], None, 0.8) == [0, 1, 0], "what is not letters is the same or not"
    assert related([], DNA, 0.8) == []


def test_the_threshold_counts_edits_of_the_longer_sequence():
    """One letter of ten differs, or is one more: 0.9 and 10/11."""
    parent, other, longer = "ACGTTTGCAA", "ACGTATGCAA", "ACGTTTGCAAC"
    for threshold, expected in ((0.9, 0), (0.91, 1)):
        assert related([parent, other], DNA, threshold) == [0, expected]
    assert related([parent, longer], DNA, 0.909) == [0, 0] and related([parent, longer], DNA, 0.91) == [0, 1]


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_no_threshold(threshold):
    with pytest.raises(ConfigError, match="identity"):
        related(["A"], DNA, threshold)
