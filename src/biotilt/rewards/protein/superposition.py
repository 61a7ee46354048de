"""Superposing structures: RMSD and TM-score of points that correspond one to one."""

from __future__ import annotations

import numpy as np

_SHORTEST = 4  # points that a superposition is started from
_ROUNDS = 20


def superpose(mobile: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation `(3, 3)` R and shift `(3,)` t, so that `mobile @ R + t` is nearest to `fixed`, both `(N, 3)`.

    A proper rotation, never a mirror image. Source: Kabsch 1976, Acta Cryst A32:922.
    """
    from_, to = mobile.mean(0), fixed.mean(0)
    u, _, v = np.linalg.svd((mobile - from_).T @ (fixed - to))
    u[:, -1] *= np.sign(np.linalg.det(u @ v))
    rotation = u @ v
    return rotation, to - from_ @ rotation


def superposed_rmsd(mobile: np.ndarray, fixed: np.ndarray) -> float:
    """Return the root mean square distance of points `(N, 3)` after the best superposition, in their unit."""
    rotation, shift = superpose(mobile, fixed)
    return float(np.sqrt(((mobile @ rotation + shift - fixed) ** 2).sum(1).mean()))


def tm_scale(length: int) -> float:
    """Return d₀ in Å of the TM-score of `length` residues: 1.24 (L − 15)^⅓ − 1.8, and 0.5 at least."""
    return max(1.24 * float(np.cbrt(length - 15)) - 1.8, 0.5)


def best_tm_score(mobile: np.ndarray, fixed: np.ndarray) -> float:
    """Return mean 1 / (1 + (d/d₀)²) of points `(N, 3)` in Å, at the best superposition that is found; in (0, 1].

    Stretches of N, N/2, N/4, … points are superposed, and each superposition is improved on the points that it brings
    within d₀ + 1 Å until they stay the same. Source: Zhang and Skolnick 2004, Proteins 57:702; its program searches
    the same way with a few more cut-offs.
    """
    length, scale = len(fixed), tm_scale(len(fixed))
    stretches = sorted({max(length >> level, min(_SHORTEST, length)) for level in range(5)}, reverse=True)
    best = 0.0
    for stretch in stretches:
        for start in range(0, length - stretch + 1, max(stretch // 2, 1)):
            chosen = np.zeros(length, bool)
            chosen[start : start + stretch] = True
            for _ in range(_ROUNDS):
                rotation, shift = superpose(mobile[chosen], fixed[chosen])
                distance = np.linalg.norm(mobile @ rotation + shift - fixed, axis=1)
                best = max(best, float((1 / (1 + (distance / scale) ** 2)).mean()))
                close = distance < max(scale + 1.0, np.sort(distance)[min(_SHORTEST, length) - 1] + 1e-9)
                if (close == chosen).all():
                    break
                chosen = close
    return best
