"""The elements of `enhancer`: canonical strands, clusters and a split that shares nothing."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from biotilt.rewards.dna.motifs import reverse_complement
from biotilt.tasks.enhancer.corpus import HEPG2, WTC11, Element, canonical_words, clusters, read_elements, split
from biotilt.tasks.enhancer.generator import both_strands, markov_nats, novelty, top_tenth
from biotilt.tasks.enhancer.oracles import fit_member, motif_filters


def random_dna(count: int, length: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("ACGT", k=length)) for _ in range(count)]


def words_of_both(sequence: str, width: int) -> set[str]:
    strands = (sequence, reverse_complement(sequence))
    return {s[i : i + width] for s in strands for i in range(len(s) - width + 1)}


def test_the_strands_of_a_region_become_one_element(tmp_path):
    text = "cell,seq_id,sequence,log2_rna_dna,region\n"
    text += "HepG2,a,TTGC,1.0,r1\nHepG2,a_r,GCAA,0.5,r1\nWTC11,a,TTGC,-2.0,r1\nWTC11,b,ACCC,0.25,r2\n"
    (tmp_path / "elements.csv").write_text(text)
    found = read_elements(tmp_path / "elements.csv")
    assert found[HEPG2] == [Element("r1", "GCAA", 0.75)]
    assert found[WTC11] == [Element("r1", "GCAA", -2.0), Element("r2", "ACCC", 0.25)]


def test_words_are_one_number_for_both_strands():
    first, second = random_dna(2, 40, 1)
    numbers = canonical_words([first, reverse_complement(first), second], 31)
    assert numbers[0].tolist() == numbers[1].tolist()[::-1]
    assert not set(numbers[0]) & set(numbers[2])
    assert (numbers >= 0).all()  # 31 letters fit into 63 bits


def test_clusters_are_those_of_shared_words():
    sequences = random_dna(40, 14, 2)
    found = clusters(sequences, width=6)
    # a second route: join until nothing changes
    groups = list(range(len(sequences)))
    words = [words_of_both(s, 6) for s in sequences]
    for _ in sequences:
        for a, b in itertools.combinations(range(len(sequences)), 2):
            if words[a] & words[b]:
                groups[a] = groups[b] = min(groups[a], groups[b])
    same = [(found[a] == found[b]) for a, b in itertools.combinations(range(40), 2)]
    assert same == [(groups[a] == groups[b]) for a, b in itertools.combinations(range(40), 2)]
    assert 2 < len(set(groups)) < 38


def test_no_two_parts_share_a_stretch():
    draw = random.Random(5)
    sequences = random_dna(300, 60, 3)
    for i in range(0, 300, 7):  # overlapping elements, on either strand
        piece = sequences[i][10:45]
        piece = piece if draw.random() < 0.5 else reverse_complement(piece)
        sequences[(i + 11) % 300] = piece + sequences[(i + 11) % 300][35:]
    elements = {
        HEPG2: [Element(f"r{i}", s, i / 10) for i, s in enumerate(sequences[:200])],
        WTC11: [Element(f"r{i}", s, -i / 10) for i, s in enumerate(sequences[150:], start=150)],
    }
    parts = split(elements)
    words = {
        name: set().union(*(words_of_both(e.sequence, 30) for group in cells.values() for e in group))
        for name, cells in parts.items()
    }
    for a, b in itertools.combinations(words, 2):
        assert not words[a] & words[b], (a, b)
    for cell, group in elements.items():
        placed = [element for cells in parts.values() for element in cells[cell]]
        assert sorted(e.region for e in placed) == sorted(e.region for e in group)
    shares = [len(cells[HEPG2]) / 200 for cells in parts.values()]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.12)
    assert len(parts["generator"][WTC11]) < 0.25 * 150


def test_novelty_looks_at_both_strands():
    known = random_dna(3, 50, 6)
    fresh = random_dna(2, 50, 7)
    copied = fresh[0][:10] + reverse_complement(known[1])[5:35] + fresh[0][40:]
    assert novelty([*fresh, copied], known) == pytest.approx(2 / 3)
    middle = random_dna(1, 29, 8)[0]  # 29 letters in common are not enough
    assert novelty(["A" * 10 + middle + "A" * 11], ["C" * 10 + middle + "C" * 11]) == 1.0
    assert novelty(["A" * 10 + middle + "G" + "A" * 10], ["C" * 10 + middle + "G" * 11]) == 0.0
    assert novelty([known[2]], known) == 0.0


def test_the_markov_baseline_is_that_of_its_counts():
    train, test = ["AACAA", "ACAAG"], ["AAC"]
    # after A: A 4, C 2, G 1 and one pseudo-count each, of 11; the first letter is uniform
    after_a = {"A": (3 + 1) / (3 + 2 + 1 + 4), "C": (2 + 1) / (3 + 2 + 1 + 4)}
    assert markov_nats(train, test, 1) == pytest.approx(math.log(4) - math.log(after_a["A"]) - math.log(after_a["C"]))


def test_groups_of_elements():
    elements = [Element(f"r{i}", "A" * i + "C", float(i)) for i in range(20)]
    assert [element.activity for element in top_tenth(elements)] == [18.0, 19.0]
    assert both_strands(elements[1:2]) == ["AC", "GT"]


def test_filters_pass_the_best_word_of_their_motif():
    weight, bias = motif_filters("optimised")
    other, _ = motif_filters("held_out")
    best = weight.amax(1).sum(-1) + bias
    assert (best > 0).all() and (weight.mean(1).sum(-1) + bias < 0).all()
    assert weight.shape[1:] == (4, 15) and not torch.equal(weight, other)


def test_a_member_learns_each_cell_type_and_starts_from_the_filters():
    from biotilt.rewards.generic.learned import RegressorConfig

    config = RegressorConfig(
        4, 12, layers=0, hidden=8, motifs=3, motif_width=3, pool=12, both_strands=True, dropout=0.0
    )
    filters = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(3)
    x = torch.nn.functional.one_hot(torch.randint(4, (256, 12), generator=torch.Generator().manual_seed(2)), 4).float()
    first = (x[:, :, 1] + x[:, :, 2]).sum(1)  # G and C: the same on both strands
    data = {HEPG2: ((x[:200], first[:200]), (x[200:], first[200:]))}
    data[WTC11] = ((x[:200], 50 - 5 * first[:200]), (x[200:], 50 - 5 * first[200:]))
    models = fit_member(config, filters, data, seed=4)
    assert models[HEPG2].mean == pytest.approx(first[:200].mean().item())
    assert models[WTC11].mean == pytest.approx((50 - 5 * first[:200]).mean().item())
    for model in models.values():
        assert model.motifs is not None and (model.motifs.weight - filters[0]).abs().max() < 0.5
