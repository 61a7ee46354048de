from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from report_samples import make_row

from biotilt.report import figures

HISTORY = [
    {"calls": 10, "reward": 1.0, "held_out": 0.5, "kl": 0.0},
    {"calls": 20, "reward": 2.0, "held_out": None, "kl": 0.5},
]


def texts(svg: str) -> list[str]:
    """Parse the SVG, so that a malformed one fails, and return the words in it."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_information_by_hand() -> None:
    # all A: 2 bits; half A, half C: 1 bit, shared; 1/2, 1/4, 1/4: 0.5 bits; all four: none
    sequences = ["AAAA", "AAAC", "ACCG", "ACGU"]
    expected = [[2, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.125, 0.125, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(figures.information(sequences, "ACGU"), expected, atol=1e-12)


def test_information_of_a_protein_reaches_log2_of_twenty() -> None:
    heights = figures.information(["W", "W"], "ACDEFGHIKLMNPQRSTVWY")
    assert heights.max() == pytest.approx(4.321928)


def test_curves_show_both_oracles_and_the_limit() -> None:
    found = texts(figures.reward_curve(HISTORY, 2.1, "load"))
    assert {"optimised oracle", "held-out oracle", "largest value measured", "oracle calls", "load"} <= set(found)


def test_a_far_away_limit_does_not_squeeze_the_data() -> None:
    assert "largest value measured" not in texts(figures.reward_curve(HISTORY, 500.0, "load"))


def test_what_a_screen_is_worth_is_drawn_where_it_is_known() -> None:
    history = [{"calls": 10}, {"calls": 20, "screen/rank": 0.4}, {"calls": 30, "screen/rank": 0.5}]
    found = texts(figures.screen_curve(history))
    assert {"rank correlation", "oracle calls", "designs that it chose"} <= set(found)
    assert "designs at random" not in found
    history[1]["screen/rank_random"] = 0.6
    assert "designs at random" in texts(figures.screen_curve(history))


def test_rounds_without_numbers_are_left_out() -> None:
    nothing = [{"calls": 10, "reward": float("nan"), "held_out": None, "kl": None}]
    found = texts(figures.reward_curve(nothing, None, "load"))
    assert "optimised oracle" not in found and "load" in found


def test_distribution_shares_ignore_what_is_not_finite() -> None:
    # three of three finite scores lie together, so the tallest bar is 100 %, not 60 %
    values = [1.0, 1.0, 1.0, float("nan"), float("-inf")]
    found = texts(figures.distribution({"tuned": values}, 1.2, "load", "held-out"))
    assert "100%" in found and "Tuned" in found


def test_a_distribution_of_nothing_is_an_empty_figure() -> None:
    assert "share of designs" in texts(figures.distribution({"base": []}, None, "load", "optimised"))


def test_frontier_leaves_out_rows_without_a_place() -> None:
    rows = [make_row("base", 6.0), make_row("best_of_n", 7.0, kl_policy_base=None)]
    points = [{"label": "first", "kl": 1.0, "held_out": 6.5}, {"label": "lost", "kl": None, "held_out": 6.5}]
    found = texts(figures.frontier(points, rows, "load"))
    assert "Base" in found and "first" in found
    assert "Best of N" not in found and "lost" not in found


def test_names_are_text_not_formulae_or_markup() -> None:
    name = "$\\frac{1}$ <b>&"
    assert name in texts(figures.distribution({name: [1.0, 2.0]}, None, "load", "optimised"))


def test_figures_are_the_same_bytes_every_time_and_change_no_settings() -> None:
    before = dict(matplotlib.rcParams)
    heights = figures.information(["ACGU", "ACGA", "ACUU"], "ACGU")
    first, again = (figures.logo(heights, "ACGU", 2.0, "x", [True, False, False, False]) for _ in range(2))
    assert first == again
    assert dict(matplotlib.rcParams) == before


def test_a_long_logo_is_drawn_as_pixels() -> None:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGU"), 150)) for _ in range(3)]
    svg = figures.logo(figures.information(sequences, "ACGU"), "ACGU", 2.0, "long")
    assert "data:image/png;base64" in svg and "position" in texts(svg)
    assert len(svg) < 300_000


@pytest.mark.parametrize("letters", ["ACGT", "ACGU", "ACDEFGHIKLMNPQRSTVWY", "XYZ"])
def test_every_letter_has_colours_and_nucleotides_differ(letters: str) -> None:
    colours = figures.letter_colours(letters)
    assert list(colours) == list(letters)
    if len(letters) == 4:
        assert len(set(colours.values())) == 4
