from __future__ import annotations

import ideal_structures as ideal
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from biotilt.rewards.protein.superposition import best_tm_score, superpose, superposed_rmsd, tm_scale


def moved(places: np.ndarray) -> np.ndarray:
    return places @ ideal.rotation(np.array([1.0, 2.0, -0.5]), 131.0) + np.array([5.0, -30.0, 2.0])


def test_a_moved_copy_comes_back():
    places = ideal.helix(17)
    rotation, shift = superpose(moved(places), places)
    assert np.allclose(moved(places) @ rotation + shift, places, atol=1e-9)
    assert superposed_rmsd(moved(places), places) == pytest.approx(0.0, abs=1e-9)
    assert best_tm_score(moved(places), places) == pytest.approx(1.0, abs=1e-9)


def test_a_mirror_image_does_not():
    places = ideal.helix(17)
    assert superposed_rmsd(places * [1, 1, -1], places) > 1.0


def test_rmsd_agrees_with_scipy():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(11, 3)), random.normal(size=(11, 3))
    _, rssd = Rotation.align_vectors(a - a.mean(0), b - b.mean(0))
    assert superposed_rmsd(b, a) == pytest.approx(rssd / np.sqrt(11))


def test_a_known_rmsd():
    # four corners of a square, two opposite ones lifted by h and two lowered: no motion helps, the RMSD is h
    square = np.array([[10.0, 0, 0], [0, 10, 0], [-10, 0, 0], [0, -10, 0]])
    lifted = square + np.array([[0, 0, 0.3], [0, 0, -0.3], [0, 0, 0.3], [0, 0, -0.3]])
    assert superposed_rmsd(lifted, square) == pytest.approx(0.3)


def test_the_scale_of_tm():
    assert tm_scale(100) == pytest.approx(1.24 * 85 ** (1 / 3) - 1.8)
    assert tm_scale(16) == 0.5


def test_tm_finds_the_part_that_fits():
    random = np.random.default_rng(1)
    fixed = np.cumsum(random.normal(size=(60, 3)) * 2.2, axis=0)
    hinge = fixed + random.normal(size=(60, 3)) * 0.8
    hinge[:17] = hinge[:17] @ ideal.rotation(np.array([0.3, 1.0, 0.0]), 140.0) + 9.0
    hinge[41:] = hinge[41:] @ ideal.rotation(np.array([1.0, 1.0, 0.0]), 100.0) - 9.0
    scale = 1.24 * 45 ** (1 / 3) - 1.8

    def minus_tm(motion: np.ndarray) -> float:
        placed = hinge @ Rotation.from_rotvec(motion[:3]).as_matrix().T + motion[3:]
        return -float((1 / (1 + (((placed - fixed) ** 2).sum(1)) / scale**2)).mean())

    # the identity is on top of the middle: a good start for a climb by another program
    best = -minimize(minus_tm, np.zeros(6), method="Nelder-Mead", options={"maxiter": 4000}).fun
    assert best > 0.3
    assert best_tm_score(moved(hinge), fixed) >= best - 0.003
