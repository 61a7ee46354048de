"""Exact answers for small processes, shipped so that third-party parts can be checked against them."""

from biotilt.core.rows import RowCounter, Rows
from biotilt.testing.contracts import check_gradients
from biotilt.testing.exact import (
    Space,
    all_designs,
    all_states,
    expected_reward,
    kl,
    law,
    optimal_kernel,
    path_kl_exact,
    push,
    soft_values,
    space,
    tilted_law,
    total_variation,
    transition_matrices,
)
from biotilt.testing.gaussian import Mixture, MixtureDenoiser, affine_law, energy_distance
from biotilt.testing.noise import same_noise
from biotilt.testing.reveal import reveal_law, reveal_soft_values
from biotilt.testing.scorers import FunctionScorer, TableScorer
from biotilt.testing.values import ExactValue

__all__ = [
    "ExactValue",
    "FunctionScorer",
    "Mixture",
    "MixtureDenoiser",
    "RowCounter",
    "Rows",
    "Space",
    "TableScorer",
    "affine_law",
    "all_designs",
    "all_states",
    "check_gradients",
    "energy_distance",
    "expected_reward",
    "kl",
    "law",
    "optimal_kernel",
    "path_kl_exact",
    "push",
    "reveal_law",
    "reveal_soft_values",
    "same_noise",
    "soft_values",
    "space",
    "tilted_law",
    "total_variation",
    "transition_matrices",
]
