"""The letters of a logo as outlines: one path a letter, however many positions it stands at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.path import Path

WIDTH = 0.95  # of a position
_WIDEST = "E"  # no letter is stretched more than this one: an I stays an I


def stacked(heights: np.ndarray, letters: str) -> dict[str, Path]:
    """Return the outline of all that each letter is in a logo; letters that stand nowhere are left out.

    Position i is centred at i + 1. Its letters stand on each other, the highest on top; those of height 0 are left out.

    Args:
        heights: `(L, V)`, at least 0.
        letters: the V letters.
    """
    from matplotlib.path import Path

    order = heights.argsort(1)
    ends = np.take_along_axis(heights, order, 1).cumsum(1)
    floors = np.empty_like(heights)
    np.put_along_axis(floors, order, np.pad(ends, ((0, 0), (1, 0)))[:, :-1], 1)
    found = {}
    for column, letter in enumerate(letters):
        places = heights[:, column].nonzero()[0]
        if not len(places):
            continue
        outline, codes = _outline(letter)
        corner = np.stack([places + 1.0, floors[places, column]], 1)
        size = np.stack([np.ones(len(places)), heights[places, column]], 1)
        vertices = corner[:, None] + outline * size[:, None]
        found[letter] = Path(vertices.reshape(-1, 2), np.tile(codes, len(places)))
    return found


def _outline(letter: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices `(n, 2)` and codes of a letter as high as 1, standing on 0 and centred there."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight="bold")
    path, widest = (TextPath((0, 0), text, size=1, prop=font) for text in (letter, _WIDEST))
    box = path.get_extents()
    stretch = WIDTH / max(box.width, widest.get_extents().width)
    centre = (box.xmin + box.xmax) / 2
    vertices = (np.asarray(path.vertices) - (centre, box.ymin)) * (stretch, 1 / box.height)
    return vertices, np.asarray(path.codes)
