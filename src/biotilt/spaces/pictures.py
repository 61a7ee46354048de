"""Pictures of sets of designs, as SVG: the same text for the same designs."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from biotilt.digits import pretty
from biotilt.spaces.array_files import png

COLOURS = ("#7a7a7a", "#0072b2", "#009e73", "#d98200")
_SIDE, _MARGIN, _GAP = 320, 46, 24
_COLUMNS, _ROWS, _THUMB = 8, 6, 44  # of a contact sheet, and the pixels of a thumbnail


def scatter(sets: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str) -> str:
    """Draw sets of points side by side on common axes, each below its title."""
    every = [point for points in sets.values() for point in points] or [(0.0, 0.0)]
    (x_low, x_high), (y_low, y_high) = (_span([point[axis] for point in every]) for axis in (0, 1))
    parts = []
    for place, (title, points) in enumerate(sets.items()):
        left = _MARGIN + place * (_SIDE + _MARGIN + _GAP)
        parts.append(_frame(left, title, (x_low, x_high), (y_low, y_high), x_name, y_name))
        for x, y in points:
            across = left + _SIDE * (x - x_low) / (x_high - x_low)
            down = 28 + _SIDE * (y_high - y) / (y_high - y_low)
            colour = COLOURS[place % len(COLOURS)]
            parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2.6" fill="{colour}" fill-opacity="0.55"/>')
    return _svg(len(sets) * (_SIDE + _MARGIN + _GAP), _SIDE + 70, "".join(parts), f"Scatter plots of {', '.join(sets)}")


def contact_sheet(sets: Mapping[str, Sequence[np.ndarray]]) -> str:
    """Draw sheets of the first 48 images (uint8, `(H, W, C)`) of each set side by side, each below its title."""
    wide = _COLUMNS * (_THUMB + 4)
    parts, lowest = [], 0
    for place, (title, images) in enumerate(sets.items()):
        left = place * (wide + _GAP)
        parts.append(f'<text x="{left}" y="16" font-size="14">{html.escape(title)}</text>')
        for number, image in enumerate(images[: _COLUMNS * _ROWS]):
            row, column = divmod(number, _COLUMNS)
            data = base64.b64encode(png(image)).decode("ascii")
            x, y = left + column * (_THUMB + 4), 26 + row * (_THUMB + 4)
            lowest = max(lowest, y + _THUMB)
            parts.append(
                f'<image x="{x}" y="{y}" width="{_THUMB}" height="{_THUMB}" style="image-rendering:pixelated" '
                f'href="data:image/png;base64,{data}"/>'
            )
    return _svg(len(sets) * (wide + _GAP), lowest + 8, "".join(parts), f"Contact sheets of {', '.join(sets)}")


def _frame(left: int, title: str, x: tuple[float, float], y: tuple[float, float], x_name: str, y_name: str) -> str:
    bottom = 28 + _SIDE
    ends = [
        (left, bottom + 16, "start", pretty(x[0])),
        (left + _SIDE, bottom + 16, "end", pretty(x[1])),
        (left + _SIDE // 2, bottom + 32, "middle", x_name),
        (left - 4, bottom, "end", pretty(y[0])),
        (left - 4, 38, "end", pretty(y[1])),
        (left - 4, 28 + _SIDE // 2, "end", y_name),
    ]
    texts = "".join(
        f'<text x="{a}" y="{b}" text-anchor="{anchor}" font-size="11">{html.escape(text)}</text>'
        for a, b, anchor, text in ends
    )
    box = f'<rect x="{left}" y="28" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#8a8f98"/>'
    return f'<text x="{left}" y="18" font-size="14">{html.escape(title)}</text>{box}{texts}'


def _svg(width: float, height: float, content: str, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="100%" role="img" '
        f'aria-label="{html.escape(label)}" font-family="sans-serif" fill="#30343b">{content}</svg>'
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return an axis on which all values lie inside, by a twentieth."""
    low, high = min(values), max(values)
    margin = (high - low) / 20 or max(abs(low) / 20, 0.5)
    if not math.isfinite(margin):
        return low, high
    return low - margin, high + margin
