"""What the 5′ untranslated region of a gene is scored for, by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biotilt.errors import ConfigError
from biotilt.rewards.rna.properties import Kozak, UpstreamAUG


def test_kozak_by_hand():
    best = ["GCCACC", "GCCGCC"]
    assert Kozak()(best) == [1.0, 1.0]
    # a wrong letter at −6, −5, −4, −2 or −1 costs 1 of 8, and at −3 it costs 3
    for place, lost in enumerate((1, 1, 1, 3, 1, 1)):
        wrong = best[0][:place] + "U" + best[0][place + 1 :]
        assert Kozak()([wrong]) == [1 - lost / 8]
    assert Kozak()(["UUUUUU"]) == [0.0]


def test_kozak_reads_the_end_and_forgives_case():
    assert Kozak()(["GCCACCUUUUUU", "uuuugccacc"]) == [0.0, 1.0]


def test_the_best_contexts_are_two():
    words = ["".join(word) for word in itertools.product("ACGU", repeat=6)]
    scores = Kozak()(words)
    assert {word for word, score in zip(words, scores) if score == 1.0} == {"GCCACC", "GCCGCC"}
    assert min(scores) == 0.0


def test_a_short_design_has_no_context():
    (score,) = Kozak()(["CCACC"])
    assert math.isnan(score)
    assert "5 letters" in getattr(score, "reason", "")


@given(st.text("AUG", max_size=15))
def test_frames_share_out_the_start_codons(design):
    # read codon by codon from the gene's end
    reversed_codons = [design[max(end - 3, 0) : end] for end in range(len(design), 0, -3)]
    in_frame = reversed_codons.count("AUG")
    everywhere = sum(design[i : i + 3] == "AUG" for i in range(len(design)))
    assert UpstreamAUG(frame="in", penalty=2.0)([design]) == [-2.0 * in_frame]
    assert UpstreamAUG(frame="out")([design]) == [float(in_frame - everywhere)]
    assert UpstreamAUG()([design]) == [-float(everywhere)]


def test_frames_are_checked_and_tell_versions_apart():
    with pytest.raises(ConfigError, match='"inn"'):
        UpstreamAUG(frame="inn")  # type: ignore[arg-type]
    assert len({UpstreamAUG(frame=frame).version for frame in ("any", "in", "out")}) == 3
