from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biotilt.errors import ConfigError
from biotilt.rewards import ForbiddenMotifs, GCFraction, UpstreamAUG

BASES = {"R": "AG", "Y": "CT", "N": "ACGT", "B": "CGT", "A": "A", "C": "C", "G": "G", "T": "T"}


def test_gc_fraction_by_hand():
    assert GCFraction()(["GGCAU", "gcgc", "AAAT"]) == [3 / 5, 1.0, 0.0]


def test_gc_range_by_hand():
    scores = GCFraction(low=0.5, high=0.75)(["AAAA", "ACAA", "GCAT", "GCCA", "GGGG"])
    assert scores == [-0.5, -0.25, 0.0, 0.0, -0.25]


def test_gc_range_may_be_open():
    assert GCFraction(high=0.25)(["AAAA", "GGGA"]) == [0.0, -0.5]
    assert GCFraction(low=0.5)(["AAAA", "GGGG"]) == [-0.5, 0.0]


def test_an_empty_design_has_no_gc_fraction():
    (score,) = GCFraction()([""])
    assert math.isnan(score)
    assert getattr(score, "reason", None) == "the design is empty"


@pytest.mark.parametrize(
    "options",
    [
        {"low": -0.1},
        {"high": 1.5},
        {"low": 0.7, "high": 0.3},
        {"low": "0.5"},
        {"low": True},
        {"low": math.nan},
    ],
)
def test_gc_range_is_checked(options):
    with pytest.raises(ConfigError, match='"gc"'):
        GCFraction(**options)


def test_motifs_overlap_and_letters_are_forgiving():
    motifs = ForbiddenMotifs(["AAA", "gaattc"], penalty=0.5)
    assert motifs(["AAAAA", "ccGAAUUCcc", "AAGAATTCAAA", "CCC"]) == [-1.5, -0.5, -1.0, 0.0]


def test_a_motif_listed_twice_counts_once():
    assert ForbiddenMotifs(["UAU", "TAT"])(["TATAT"]) == [-2.0]


@given(st.text("ACGT", max_size=12), st.text("".join(BASES), min_size=1, max_size=3))
def test_motifs_agree_with_enumeration(design, motif):
    words = {"".join(word) for word in itertools.product(*(BASES[letter] for letter in motif))}
    count = sum(design[i : i + len(motif)] in words for i in range(len(design)))
    assert ForbiddenMotifs([motif], penalty=3.0)([design]) == [-3.0 * count]


@pytest.mark.parametrize("motifs", ["GAATTC", [], [""], ["GAXTTC"], [7]])
def test_motifs_are_checked(motifs):
    with pytest.raises(ConfigError, match='"forbidden_motifs"'):
        ForbiddenMotifs(motifs)


@pytest.mark.parametrize("penalty", [-1.0, math.inf, math.nan, "1", None])
@pytest.mark.parametrize("make", [UpstreamAUG, lambda penalty: ForbiddenMotifs(["A"], penalty)])
def test_penalties_are_checked(make, penalty):
    with pytest.raises(ConfigError, match="penalty"):
        make(penalty)


def test_upstream_augs_in_every_frame():
    assert UpstreamAUG(penalty=2.0)(["AUGCAUGAATG", "auga", "GUAGUA"]) == [-6.0, -2.0, 0.0]


def test_a_perfect_design_scores_plus_zero():
    assert math.copysign(1, UpstreamAUG()(["C"])[0]) == 1
    assert math.copysign(1, ForbiddenMotifs(["G"])(["C"])[0]) == 1


def test_options_are_part_of_the_version():
    rewards = [GCFraction(), GCFraction(low=0), GCFraction(high=0), GCFraction(low=0, high=1)]
    rewards += [ForbiddenMotifs(["A"]), ForbiddenMotifs(["C"]), ForbiddenMotifs(["A"], 2)]
    assert len({reward.version for reward in rewards}) == len(rewards)
    assert GCFraction(low=0).version == GCFraction(low=0.0).version
    assert ForbiddenMotifs(["AU"]).version == ForbiddenMotifs(("at",)).version
