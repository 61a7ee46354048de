from __future__ import annotations

import math
from itertools import pairwise

import pytest

from biotilt.errors import ConfigError
from biotilt.rewards.protein.properties import Aromaticity, Gravy, Instability, IsoelectricPoint, MolecularWeight

pytest.importorskip("Bio")
SEQUENCE = "MGHKKDECYWWRRAVIL"
# Kyte and Doolittle 1982, table 2
HYDROPATHY = dict(zip("ARNDCQEGHILKMFPSTWYV", (1.8, -4.5, -3.5, -3.5, 2.5, -3.5, -3.5, -0.4, -3.2, 4.5, 3.8, -3.9, 1.9,
                                               2.8, -1.6, -0.8, -0.7, -0.9, -1.3, 4.2)))  # fmt: skip
# Bjellqvist et al. 1993; the amino end of methionine has a value of its own
POSITIVE = {"K": 10.0, "R": 12.0, "H": 5.98}
NEGATIVE = {"D": 4.05, "E": 4.45, "C": 9.0, "Y": 10.0}
AMINO_END_OF_M, CARBOXYL_END = 7.0, 3.55


def charge(sequence: str, ph: float) -> float:
    """The net charge of a protein that starts with M, by Henderson and Hasselbalch."""
    plus = [AMINO_END_OF_M, *(POSITIVE[r] for r in sequence if r in POSITIVE)]
    minus = [CARBOXYL_END, *(NEGATIVE[r] for r in sequence if r in NEGATIVE)]
    return sum(1 / (1 + 10 ** (ph - pk)) for pk in plus) - sum(1 / (1 + 10 ** (pk - ph)) for pk in minus)


def test_gravy_is_the_mean_of_the_published_values():
    expected = sum(HYDROPATHY[r] for r in SEQUENCE) / len(SEQUENCE)
    assert Gravy()([SEQUENCE, SEQUENCE.lower()]) == pytest.approx([expected, expected])


def test_instability_is_ten_times_the_mean_weight_of_neighbours():
    from Bio.SeqUtils.ProtParamData import DIWV

    total = sum(DIWV[a][b] for a, b in pairwise(SEQUENCE))
    assert Instability()([SEQUENCE])[0] == pytest.approx(-10 / len(SEQUENCE) * total)
    # by hand, of weights as printed: W-W 1.0, W-C 1.0, W-M 24.68
    assert Instability()(["WWM"]) == pytest.approx([-10 / 3 * 25.68])


def test_at_the_isoelectric_point_there_is_no_net_charge():
    (point,) = IsoelectricPoint()([SEQUENCE])
    assert charge(SEQUENCE, point) == pytest.approx(0.0, abs=1e-3)
    assert charge(SEQUENCE, point - 0.1) > 0.01 > -0.01 > charge(SEQUENCE, point + 0.1)


def test_mass_from_the_formula():
    # Gly-Ala, C5H10N2O3, with IUPAC's abridged atomic masses
    assert MolecularWeight()(["GA"]) == pytest.approx([5 * 12.011 + 10 * 1.008 + 2 * 14.007 + 3 * 15.999], abs=0.01)


def test_aromaticity_counts_f_w_and_y():
    assert Aromaticity()(["FWYHAAAA", "GGGG"]) == [3 / 8, 0.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.5, None, -0.125), (None, 0.25, -0.125), (0.1, 0.375, 0.0), (0.75, 1.0, -0.375)]
)
def test_a_range_scores_minus_the_distance(low, high, expected):
    assert Aromaticity(low=low, high=high)(["FWYHAAAA"]) == [expected]


def test_a_range_of_instability_is_one_of_the_index_itself():
    index = -Instability()(["WWM"])[0]
    assert index > 80
    assert Instability(high=40)(["WWM"]) == pytest.approx([40 - index])


def test_what_is_no_protein_is_not_scored():
    scores = Gravy()(["", "AXA", "AA"])
    assert [math.isnan(score) for score in scores] == [True, True, False]
    assert scores[0].reason == "the design is empty"
    assert scores[1].reason.startswith("column 2:")


@pytest.mark.parametrize(
    "options", [{"low": 3.0, "high": 1.0}, {"low": "1"}, {"high": math.nan}, {"low": True}, {"high": math.inf}]
)
def test_ranges_are_checked(options):
    with pytest.raises(ConfigError, match='"gravy"'):
        Gravy(**options)


def test_versions_tell_options_apart_but_not_0_from_0_0():
    assert Gravy(low=0).version == Gravy(low=0.0).version != Gravy(high=0.0).version
    assert Gravy().version != Gravy(low=0.0).version
