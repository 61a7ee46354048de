"""Strands and motifs of DNA: against Biopython, a naive loop, and enumeration of every word."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch.nn import functional as F

from biotilt.errors import ConfigError, DataError
from biotilt.rewards.dna.motifs import Motif, MotifScan, jaspar_matrix, log_odds, reverse_complement, score_threshold
from biotilt.spaces import DNA

HNF4A, CEBPA, FOXA1 = "MA0114.5", "MA0102.5", "MA0148.5"


def random_dna(count: int, length: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("ACGT", (5, 2, 3, 2), k=length)) for _ in range(count)]


def one_hot(designs: list[str]) -> torch.Tensor:
    return F.one_hot(DNA.encode_many(designs).long(), 4).double()


def random_matrix(width: int, seed: int) -> torch.Tensor:
    """Counts of a matrix of `width` places, the places unlike each other."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(width, 4, generator=generator) ** 3 * 100).round() + 1


def naive_scores(matrix: torch.Tensor, design: str) -> list[float]:
    """The score of each word on the given strand, letter by letter."""
    table = [dict(zip("ACGT", row.tolist())) for row in matrix]
    words = range(len(design) - len(matrix) + 1)
    return [sum(row[design[start + i]] for i, row in enumerate(table)) for start in words]


def test_the_other_strand_is_biopythons():
    from Bio.Seq import Seq

    for sequence in [*random_dna(5, 37, 1), "acgU"]:
        assert reverse_complement(sequence) == str(Seq(sequence).reverse_complement())


@pytest.mark.parametrize("matrix", [HNF4A, CEBPA])
def test_log_odds_are_biopythons(matrix):
    from Bio.motifs.jaspar import calculate_pseudocounts
    from pyjaspar import jaspardb

    motif = jaspardb(release="JASPAR2024").fetch_motif_by_id(matrix)
    assert motif is not None
    motif.pseudocounts = calculate_pseudocounts(motif)
    theirs = torch.tensor([motif.pssm[letter] for letter in "ACGT"]).T
    ours = log_odds(jaspar_matrix(matrix)[1])
    assert (ours - theirs).abs().max() <= 0.00501
    assert torch.allclose((ours * 100).round() / 100, ours, atol=1e-9)


@pytest.mark.parametrize("p_value", [1 / 1024, 0.003, 0.02, 0.5])
def test_the_threshold_is_that_of_all_words(p_value):
    matrix = log_odds(random_matrix(5, 3))
    every = one_hot(["".join(word) for word in itertools.product("ACGT", repeat=5)])
    scores = (every * matrix).sum((1, 2))
    threshold = score_threshold(matrix, p_value)
    assert (scores > threshold).double().mean() <= p_value
    # the next lower score would let too many words pass
    lower = scores[scores < threshold].max()
    assert (scores > lower - 0.005).double().mean() > p_value
    assert (scores - threshold).abs().min() > 0.004  # away from any score


def test_no_word_of_a_short_matrix_is_rare_enough():
    with pytest.raises(ConfigError, match=r"0\.00098, the chance of the best word of 5 letters"):
        score_threshold(log_odds(random_matrix(5, 3)), 1e-4)


def test_the_scan_is_a_loop_over_words_of_both_strands():
    matrices = [log_odds(random_matrix(width, seed)) for width, seed in ((6, 1), (4, 2), (6, 3), (13, 4))]
    designs = random_dna(3, 12, 5)
    found = MotifScan(matrices)(one_hot(designs))
    assert [tuple(scores.shape) for scores in found] == [(3, 2, 7), (3, 2, 9), (3, 2, 7), (3, 2, 0)]
    for matrix, scores in zip(matrices[:3], found):
        for design, (given, other) in zip(designs, scores.tolist()):
            assert given == pytest.approx(naive_scores(matrix, design), abs=1e-4)
            backwards = naive_scores(matrix, reverse_complement(design))
            assert other == pytest.approx(backwards[::-1], abs=1e-4)


def test_one_strand_only():
    matrix = log_odds(random_matrix(4, 2))
    design = random_dna(1, 9, 6)
    assert MotifScan([matrix], both_strands=False)(one_hot(design))[0].shape == (1, 1, 6)
    assert Motif([CEBPA], both_strands=False)(["ATTGCGCAAT"])[0] == pytest.approx(
        max(naive_scores(log_odds(jaspar_matrix(CEBPA)[1]), "ATTGCGCAAT")), abs=1e-4
    )


def test_best_and_count_are_those_of_a_loop():
    designs = [*random_dna(20, 80, 7), "TTGGGTCAAAGTCCAATTTGTTTACTTAGATTGCACAATCC"]
    best, count = Motif([HNF4A, FOXA1])(designs), Motif([HNF4A, FOXA1], score="count", p_value=2e-3)(designs)
    for design, most, hits in zip(designs, best, count):
        expected, number = 0.0, 0
        for matrix in (log_odds(jaspar_matrix(i)[1]) for i in (HNF4A, FOXA1)):
            scores = naive_scores(matrix, design) + naive_scores(matrix, reverse_complement(design))
            expected += max(scores)
            number += sum(score > score_threshold(matrix, 2e-3) for score in scores)
        assert (most, hits) == (pytest.approx(expected, abs=1e-6), number)
    assert len(set(count)) > 2


def test_the_soft_count_adds_up_sigmoids():
    design = random_dna(1, 30, 8)
    matrix = log_odds(jaspar_matrix(HNF4A)[1])
    threshold = score_threshold(matrix, 1e-3)
    words = naive_scores(matrix, design[0]) + naive_scores(matrix, reverse_complement(design[0]))
    expected = sum(1 / (1 + math.exp(threshold - score)) for score in words)
    assert Motif([HNF4A], score="soft_count", p_value=1e-3)(design) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("score", ["best", "soft_count"])
def test_relaxed_designs_have_gradients(score):
    generator = torch.Generator().manual_seed(9)
    x = torch.rand(2, 15, 4, generator=generator, dtype=torch.float64).softmax(-1).requires_grad_()
    motif = Motif([HNF4A, CEBPA], score=score, p_value=1e-3)
    assert motif.differentiable
    assert torch.autograd.gradcheck(motif.score_one_hot, (x,))


def test_both_strands_score_alike():
    designs = random_dna(6, 50, 10)
    others = [reverse_complement(design) for design in designs]
    assert Motif([HNF4A])(designs) == pytest.approx(Motif([HNF4A])(others), abs=1e-9)
    assert Motif([HNF4A], both_strands=False)(designs) != Motif([HNF4A], both_strands=False)(others)


def test_lengths_may_differ_and_short_designs_have_no_best_word():
    designs = ["ACGT", *random_dna(1, 20, 11), "", *random_dna(1, 40, 12)]
    best = Motif([HNF4A])(designs)
    assert [math.isnan(score) for score in best] == [True, False, True, False]
    assert "the design has 4 letters, and a matrix 9" in best[0].reason  # type: ignore[attr-defined]
    assert best[1] == Motif([HNF4A])(designs[1:2])[0]
    assert best[3] == Motif([HNF4A])(designs[3:])[0]
    assert Motif([HNF4A], score="count")(designs)[0::2] == [0.0, 0.0]


def test_the_version_knows_every_option():
    options = [{}, {"score": "count"}, {"both_strands": False}, {"release": "JASPAR2026"}]
    versions = {Motif([HNF4A], **o).version for o in options}  # type: ignore[arg-type]
    versions |= {Motif([CEBPA]).version, Motif([HNF4A, CEBPA]).version}
    versions |= {Motif([HNF4A], score="count", p_value=1e-3).version}
    assert len(versions) == 7
    assert Motif([HNF4A, HNF4A]).version == Motif([HNF4A]).version


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"matrices": ["MA0114"]}, "with its version"),
        ({"matrices": ["MA9999.1"]}, 'no matrix "MA9999.1"'),
        ({"matrices": []}, "matrices has too few values"),
        ({"matrices": HNF4A}, "must be a list"),
        ({"matrices": [HNF4A], "p_value": 0.0}, "p_value must be > 0, got 0"),
        ({"matrices": [HNF4A], "score": "bests"}, 'did you mean "best"'),
        ({"matrices": [HNF4A], "release": "JASPAR2025"}, "JASPAR20"),
        ({"matrices": ["MA0498.3"], "score": "count"}, "chance of the best word of 5 letters"),
    ],
)
def test_what_cannot_work_is_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        Motif(**options)


def test_other_letters_are_refused():
    with pytest.raises(DataError, match="N"):
        Motif([HNF4A])(["ACGTACGTACGTN"])


def test_pyjaspar_is_named_when_it_is_missing(monkeypatch):
    import sys

    from biotilt.rewards.dna import motifs

    for cached in (motifs.jaspar_matrix, motifs._database):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    with pytest.raises(ConfigError, match='pip install "pyjaspar'):
        Motif([HNF4A])
