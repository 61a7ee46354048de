"""Structures as pictures: the trace of the Cα, coloured by what changes."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

_SIDE, _GAP, _TOP = 420, 24, 30
_STOPS = ((0.0, (0x2F, 0x6F, 0xB3)), (0.5, (0xE8, 0xDF, 0xC8)), (1.0, (0xC0, 0x39, 0x2B)))  # blue, sand, red
_HELD, _OTHER = "#3a3a3a", "#c9ccd1"


def traces(
    places: Sequence[Sequence[float]], chains: Sequence[str], owner: Sequence[int],
    shares: Mapping[str, Sequence[float]], held: Sequence[bool],
) -> str:  # fmt: skip
    """Draw a structure once for each set side by side, seen along its thinnest direction, as one SVG.

    Args:
        places: Cα `(N, 3)` in Å.
        chains: of each residue; neighbours of two chains, or more than 4.5 Å apart, are not joined.
        owner: the position of each residue, −1 where it is not designed.
        shares: for each title, a number in [0, 1] a position: 0 is drawn blue, 1 red.
        held: which positions may not change; they are dark, and what is not designed is grey.
    """
    if not len(places):
        return ""
    points, depth = _projected(np.asarray(places, float))
    parts = []
    for number, (title, values) in enumerate(shares.items()):
        colours = [_colour(values, held, at) for at in owner]
        left = number * (_SIDE + _GAP)
        parts.append(f'<g transform="translate({left} {_TOP})">{_trace(places, points, depth, chains, colours)}</g>')
        parts.append(f'<text x="{left}" y="18" font-size="14">{html.escape(title)}: {_meaning(values)}</text>')
    wide, tall = len(shares) * (_SIDE + _GAP), _SIDE + _TOP + 46
    label = f"Structure coloured by change: {', '.join(shares)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="100%" role="img" '
        f'aria-label="{html.escape(label)}" font-family="sans-serif" fill="#30343b">'
        f"{''.join(parts)}{_legend(tall - 30)}</svg>"
    )


def _meaning(values: Sequence[float]) -> str:
    return f"{sum(values):.1f} of {len(values)} positions differ from the structure's own sequence"


def _projected(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where residues are on a square of `_SIDE` `(N, 2)`, and how near they are in [0, 1] `(N,)`."""
    centred = places - places.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(3), np.abs(axes).argmax(1)])  # so that the picture is the same everywhere
    turned = centred @ (axes * signs[:, None]).T
    span = max(float(np.ptp(turned[:, :2], axis=0).max()), 1e-6)
    middle = (turned[:, :2].max(0) + turned[:, :2].min(0)) / 2
    flat = (turned[:, :2] - middle) / span * (_SIDE - 40) + _SIDE / 2
    depth = turned[:, 2] - turned[:, 2].min()
    return flat, depth / max(float(depth.max()), 1e-6)


def _trace(
    places: Sequence[Sequence[float]], points: np.ndarray, depth: np.ndarray, chains: Sequence[str],
    colours: Sequence[str],
) -> str:  # fmt: skip
    """Return lines and dots of a trace, the farthest first."""
    drawn: list[tuple[float, str]] = []
    full = np.asarray(places, float)
    for i, ((x, y), colour) in enumerate(zip(points, colours)):
        size = 3.5 + 3 * depth[i]
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{colour}" stroke="#fff" stroke-width="0.7"/>'
        drawn.append((depth[i] + 1e-6, dot))
        if i + 1 < len(points) and chains[i] == chains[i + 1] and np.linalg.norm(full[i] - full[i + 1]) < 4.5:
            a, b = points[i + 1]
            near = (depth[i] + depth[i + 1]) / 2
            line = (
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{a:.1f}" y2="{b:.1f}" stroke="{colour}" '
                f'stroke-width="{2 + 3 * near:.1f}" stroke-linecap="round"/>'
            )
            drawn.append((near, line))
    return "".join(text for _, text in sorted(drawn, key=lambda part: part[0]))


def _colour(values: Sequence[float], held: Sequence[bool], position: int) -> str:
    if position < 0:
        return _OTHER
    return _HELD if held[position] else blend(values[position])


def blend(share: float) -> str:
    """Return the colour of a share in [0, 1].

    >>> blend(0.0), blend(1.0)
    ('#2f6fb3', '#c0392b')
    """
    share = min(max(share, 0.0), 1.0)
    for (low, first), (high, second) in itertools.pairwise(_STOPS):
        if share <= high:
            part = (share - low) / (high - low)
            return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in zip(first, second))
    raise AssertionError("the last stop is 1")


def _legend(top: float) -> str:
    boxes = "".join(
        f'<rect x="{20 + 14 * i}" y="{top}" width="14" height="10" fill="{blend(i / 10)}"/>' for i in range(11)
    )
    said = "share of designs that differ: none (blue) to all (red); dark: held; grey: not designed"
    return f'{boxes}<text x="186" y="{top + 9}" font-size="12">{said}</text>'
