"""Pareto fronts of several objectives and the hypervolume below them; every objective is maximised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biotilt.errors import DataError

# points on a front, by the number of objectives, whose hypervolume takes some ten seconds
LARGEST = {1: math.inf, 2: math.inf, 3: 3000, 4: 300, 5: 100}


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Return the rows of the non-dominated points, ascending `(F,)`, of `points` `(N, M)`.

    One point dominates another when it is at least as good in all objectives and better in one; equal points do not
    dominate each other, so both are kept. Rows with NaN or −inf, which is an objective not scored or infeasible,
    never enter. Raises DataError for another shape.

    >>> pareto_front(np.array([[3.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.0, 2.0], [np.nan, 9.0]])).tolist()
    [0, 1, 3]
    """
    points = _as_points(points)
    places = np.flatnonzero(np.isfinite(points).all(1))
    valid = points[places]
    kept: list[int] = []
    # in this order whatever dominates a point, or a point that dominates that, was met and kept before it
    for i in np.lexsort(valid.T[::-1])[::-1]:
        better = valid[kept]
        dominated = (better >= valid[i]).all(1) & (better > valid[i]).any(1)
        if not dominated.any():
            kept.append(int(i))
    return np.sort(places[kept])


def hypervolume(points: np.ndarray, reference: Sequence[float] | np.ndarray) -> float:
    """Return the volume that the points dominate above the reference: of ∪_i Π_m [reference_m, points_im].

    `points` `(N, M)`, M in 1…5; `reference` `(M,)`, finite. Points that are not above the reference in every objective,
    and rows with NaN or −inf, add nothing. Exact: one sweep for M = 2, slices of it for M = 3 (Knowles 2002), and for
    M > 3 WFG, the sum over points of the volume that each adds to those after it (While, Bradstreet & Barone 2012).

    Raises DataError for other shapes, and for a front of more points than `LARGEST` allows.

    >>> hypervolume(np.array([[3.0, 1.0], [1.0, 2.0]]), [0.0, 0.0])
    4.0
    """
    points, corner = _as_points(points), np.asarray(reference, dtype=np.float64)
    if corner.shape != points.shape[1:] or not np.isfinite(corner).all():
        raise DataError(f"the reference point has shape {corner.shape}; it must be {points.shape[1:]} finite numbers")
    if points.shape[1] not in LARGEST:
        raise DataError(f"a hypervolume of {points.shape[1]} objectives; at most {max(LARGEST)} can be computed")
    front = points[pareto_front(points)]
    front = np.unique(front[(front > corner).all(1)] - corner, axis=0)
    if len(front) > LARGEST[points.shape[1]]:
        raise DataError(
            f"a front of {len(front)} points in {points.shape[1]} objectives; at most {LARGEST[points.shape[1]]} can be"
        )
    return _volume(front)


def _volume(front: np.ndarray) -> float:
    """Return the volume that points `(F, M)`, all positive, dominate above 0."""
    if front.shape[1] == 1:
        return float(front.max(initial=0.0))
    ordered = front[np.argsort(-front[:, -1])]
    depth = ordered[:, -1] - np.append(ordered[1:, -1], 0.0)
    if front.shape[1] == 2:
        return float(depth @ np.maximum.accumulate(ordered[:, 0]))
    if front.shape[1] == 3:
        return float(sum(d * _volume(ordered[: i + 1, :2]) for i, d in enumerate(depth)))
    total = 0.0
    for i, point in enumerate(ordered):
        limited = np.minimum(ordered[i + 1 :], point)
        total += float(point.prod()) - _volume(_distinct_front(limited))
    return total


def _distinct_front(points: np.ndarray) -> np.ndarray:
    points = np.unique(points, axis=0)
    return points[pareto_front(points)]


def worst(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the worst finite value of each objective `(M,)` over all sets `(N_i, M)`: a reference point for all.

    A point that is worst in any objective then adds no volume. Raises DataError when no row is finite.
    """
    pooled = np.concatenate([_as_points(points) for points in sets])
    pooled = pooled[np.isfinite(pooled).all(1)]
    if not len(pooled):
        raise DataError("no design has a finite value of every objective, so there is no reference point")
    return pooled.min(0)


def front_summary(
    components: Mapping[str, Mapping[str, Sequence[float]]],
    reference: Sequence[float] | None = None,
    directions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compare the fronts of several sets of designs, as plain JSON for the page.

    Args:
        components: row name -> objective -> scores `(B,)`, as `Sum.components` gives them; of one set of objectives.
        reference: of the hypervolume `(M,)`, in the order of the objectives; default: the worst over all rows.
        directions: objective -> "maximise" (the default) or "minimise", for parts with a negative weight.

    Returns `objectives`, `reference`, and for each row `designs`, `scored` (all objectives finite), `front` (the
    number of distinct points on its front), `hypervolume`, None where it is too costly, and `points`, the front itself
    `(F, M)`, in the order of the first objective. Everything is in the scores' own units and directions. Sets of
    different sizes compare badly: more designs reach further.

    Raises DataError when rows differ in their objectives, or there are fewer than two.
    """
    names = list(next(iter(components.values()), {}))
    for row, scores in components.items():
        if list(scores) != names or len(names) < 2:
            raise DataError(f'row "{row}" has the objectives {", ".join(scores)}; fronts need the same two or more')
    sign = np.array([-1.0 if (directions or {}).get(name) == "minimise" else 1.0 for name in names])
    sets = {row: sign * np.array([scores[n] for n in names], dtype=float).T for row, scores in components.items()}
    finite = {row: points[np.isfinite(points).all(1)] for row, points in sets.items()}
    if not any(map(len, finite.values())):
        return {"objectives": names, "reference": None, "rows": {}}
    corner = worst(list(finite.values())) if reference is None else sign * np.asarray(reference, dtype=np.float64)
    rows = {}
    for row, points in finite.items():
        front = points[pareto_front(points)] if len(points) else points
        front = np.unique(front, axis=0)
        countable = len(front) <= LARGEST.get(len(names), 0)
        rows[row] = {
            "designs": len(sets[row]),
            "scored": len(points),
            "front": len(front),
            "hypervolume": hypervolume(front, corner) if countable and len(front) else (0.0 if countable else None),
            "points": (sign * front).tolist(),
        }
    return {"objectives": names, "reference": (sign * corner).tolist(), "rows": rows}


def _as_points(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2:
        raise DataError(f"points must have shape (N, M), not {points.shape}")
    return points
