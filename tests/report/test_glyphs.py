"""Letters of a logo: where their outlines begin and end."""

from __future__ import annotations

import numpy as np
import pytest

from biotilt.report.glyphs import WIDTH, stacked


def boxes(heights: list[list[float]], letters: str) -> dict[str, list[float]]:
    """Return left, low, right and high end of all that each letter is."""
    found = {letter: path.get_extents() for letter, path in stacked(np.array(heights), letters).items()}
    return {letter: [box.xmin, box.ymin, box.xmax, box.ymax] for letter, box in found.items()}


def test_letters_stand_on_each_other_the_highest_on_top():
    half = WIDTH / 2
    found = boxes([[0.5, 1.25, 0.25]], "ACG")
    assert found["G"] == pytest.approx([1 - half, 0.0, 1 + half, 0.25])
    assert found["A"] == pytest.approx([1 - half, 0.25, 1 + half, 0.75])
    assert found["C"] == pytest.approx([1 - half, 0.75, 1 + half, 2.0])


def test_a_letter_is_one_path_over_its_positions_and_none_where_it_stands_nowhere():
    heights = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    found = boxes(heights, "AC")
    assert list(found) == ["A"]
    assert found["A"] == pytest.approx([2 - WIDTH / 2, 0.0, 4 + WIDTH / 2, 2.0])
    one, two = (np.shape(stacked(np.array(rows), "A")["A"].vertices)[0] for rows in ([[1.0]], [[1.0], [0.5]]))
    assert two == 2 * one
    assert stacked(np.zeros((3, 4)), "ACGT") == {}


def test_a_narrow_letter_stays_narrow():
    low, high = (box[2] - box[0] for box in boxes([[1.0, 2.0]], "IE").values())
    assert high == pytest.approx(WIDTH) and low < 0.7 * WIDTH
    centre = [sum(box[::2]) / 2 for box in boxes([[1.0, 2.0]], "IE").values()]
    assert centre == pytest.approx([1.0, 1.0])
