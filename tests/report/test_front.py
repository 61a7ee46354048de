from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from biotilt.evaluation.pareto import front_summary
from biotilt.report.front import front_caption, front_plot

ROWS = {
    "base": {"gain": [1.0, 2.0, 0.0, float("nan")], "cost": [3.0, 5.0, 9.0, 1.0], "third": [1.0, 2.0, 3.0, 4.0]},
    "tuned": {"gain": [4.0, 4.0, 3.0], "cost": [4.0, 6.0, 2.0], "third": [5.0, 5.0, 5.0]},
}
TWO = {row: {key: scores[key] for key in ("gain", "cost")} for row, scores in ROWS.items()}
DIRECTIONS = {"cost": "minimise"}


def marks(svg: str) -> int:
    return len(re.findall(r"<use ", svg))


def test_every_finite_design_and_every_point_of_a_front_is_drawn():
    """3 + 3 designs and 2 + 2 points of fronts; ticks are marks as well, so two figures are compared."""
    svg = front_plot(TWO, front_summary(TWO, directions=DIRECTIONS), directions=DIRECTIONS)
    ET.fromstring(svg)
    more = {**TWO, "tuned": {"gain": [4.0, 4.0, 3.0, 3.5], "cost": [4.0, 6.0, 2.0, 5.0]}}
    again = front_plot(more, front_summary(more, directions=DIRECTIONS), directions=DIRECTIONS)
    assert marks(again) == marks(svg) + 1  # a dominated design: a point, and no point of a front
    assert "gain (higher is better)" in svg and "cost (lower is better)" in svg
    assert "hypervolume 10.00" in svg and "hypervolume 26.00" in svg


def test_the_edge_turns_with_the_direction():
    """What two points of a front dominate lies to the left when gain is maximised, to the right when minimised."""
    points = {"base": {"a": [1.0, 2.0], "b": [2.0, 1.0]}}
    left = front_plot(points, front_summary(points), directions=None)
    flipped = {"base": {"a": [1.0, 2.0], "b": [1.0, 2.0]}}
    right = front_plot(flipped, front_summary(flipped, directions={"a": "minimise"}), directions={"a": "minimise"})
    # the first line in the row's colour and width; the second is the legend's
    stairs = [re.findall(r'd="(M [^"]*)"[^>]*stroke: #7a7a7a; stroke-width: 1.6', svg) for svg in (left, right)]
    corners = [[tuple(map(float, xy)) for xy in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)] for path, *_ in stairs]
    (x0, y0), (x1, y1), (x2, y2) = corners[0]
    assert x0 == x1 and y1 == y2 and x2 > x1 and y1 > y0  # down first (y grows downward), then right
    (x0, y0), (x1, y1), (x2, y2) = corners[1]
    assert y0 == y1 and x1 == x2 and x1 > x0 and y2 < y1  # right first, then up


def test_a_large_cloud_is_drawn_as_pixels():
    many = {row: {key: scores * 50 for key, scores in found.items()} for row, found in TWO.items()}
    summary = front_summary(many, directions=DIRECTIONS)
    assert "data:image/png" in front_plot(many, summary, directions=DIRECTIONS)
    assert "data:image/png" not in front_plot(TWO, summary, directions=DIRECTIONS)


def test_with_three_objectives_two_are_drawn_without_an_edge():
    summary = front_summary(ROWS, directions=DIRECTIONS)
    svg = front_plot(ROWS, summary, objectives=("third", "gain"), directions=DIRECTIONS)
    assert "third (higher is better)" in svg and "cost" not in svg
    assert "stroke-width: 1.6; stroke-linecap" not in svg


def test_the_caption_says_the_numbers():
    caption = front_caption(front_summary(TWO, directions=DIRECTIONS))
    assert "Untuned" in caption or "Base" in caption
    assert "2 points from 3 designs, hypervolume 10.00" in caption
    assert "reference point (0, 9.000)" in caption
    assert "no Pareto front" in front_caption(front_summary({"base": {"a": [float("nan")], "b": [1.0]}}))


def test_the_same_numbers_give_the_same_bytes():
    summary = front_summary(TWO)
    assert front_plot(TWO, summary) == front_plot(TWO, summary)
