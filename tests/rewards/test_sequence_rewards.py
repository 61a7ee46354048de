"""Counts, motifs and likeness of protein sequences, by hand."""

from __future__ import annotations

import math

import pytest

from biotilt.errors import ConfigError
from biotilt.rewards.protein.properties import NetCharge
from biotilt.rewards.protein.sequence import MOTIFS, AvoidedMotifs, Identity, ResidueCount


@pytest.mark.parametrize(
    ("motif", "with_sites", "sites"),
    [
        ("n_glycosylation", "NGSANPTANNTTA", 3),  # NGSA, NNTT and NTTA; after a P there is none
        ("n_glycosylation", "NASP", 0),
        ("tev", "AENLYFQGS", 1),
        ("furin", "RAKRRSKR", 2),
        ("dibasic", "KKRAK", 2),
        ("A[ST].C", "AAATGCAS", 1),
        ("enterokinase", "DDDDDK", 1),
    ],
)
def test_sites_are_counted(motif: str, with_sites: str, sites: int) -> None:
    assert AvoidedMotifs((motif,), penalty=0.5)([with_sites, "G"]) == [-0.5 * sites, 0.0]


def test_sites_of_several_motifs_add_up() -> None:
    assert AvoidedMotifs(("dibasic", "RGD"))(["KKRGD"]) == [-3.0]
    assert {"thrombin", "factor_xa"} <= MOTIFS.keys()


def test_counts_and_ranges() -> None:
    assert ResidueCount("cm")(["ACMC", "G"]) == [3.0, 0.0]
    assert ResidueCount("C", low=1, high=2)(["A", "C", "CCCCC"]) == [-1.0, 0.0, -3.0]
    assert Identity("MKVA", low=0.5, high=0.5)(["MKGG", "MKVA"]) == [0.0, -0.5]


def test_charge_is_what_is_charged() -> None:
    """Ends of opposite charge, and one each of K, R, D and E, at a pH far from the pKa of all."""
    charge = NetCharge(ph=6.0)
    plus, none, minus = charge(["GKRKG", "GKDREG", "GDEEG"])
    assert plus == pytest.approx(3, abs=0.25) and none == pytest.approx(0, abs=0.25)
    assert minus == pytest.approx(-3, abs=0.25)
    acid = NetCharge(ph=2.0)(["GKG"])[0]
    assert acid > charge(["GKG"])[0] and NetCharge(high=0.0, ph=6.0)(["GKRKG"])[0] == pytest.approx(-plus)


def test_what_has_no_score_and_what_is_refused() -> None:
    for reward in (ResidueCount("C"), AvoidedMotifs(), Identity("MKV"), NetCharge()):
        scores = reward(["", "MXV"])
        assert all(math.isnan(score) for score in scores)
    assert math.isnan(Identity("MKV")(["MK"])[0])
    with pytest.raises(ConfigError, match='did you mean "n_glycosylation"'):
        AvoidedMotifs(("n_glycosilation",))
    with pytest.raises(ConfigError, match="residues must be letters"):
        ResidueCount("CX")
    with pytest.raises(ConfigError, match="reference must be"):
        Identity("M1")
    with pytest.raises(ConfigError, match="ph"):
        NetCharge(ph=15)
