"""Algorithms that change the weights, one a file."""

from __future__ import annotations

from biotilt.core import Objective
from biotilt.objectives.adjoint_matching import AdjointMatching
from biotilt.objectives.backprop import RewardBackprop
from biotilt.objectives.ddpp import DDPP
from biotilt.objectives.discrete_adjoint_matching import DiscreteAdjointMatching
from biotilt.objectives.evolve import Evolve
from biotilt.objectives.path_consistency import PathConsistency
from biotilt.objectives.ppo import PPO
from biotilt.objectives.reward_weighted import RewardWeighted
from biotilt.objectives.score_climbing import ScoreClimbing
from biotilt.objectives.sdpo import SDPO
from biotilt.objectives.spg import SPG
from biotilt.objectives.trajectory_balance import TrajectoryBalance
from biotilt.objectives.vidd import VIDD
from biotilt.objectives.wdce import WDCE
from biotilt.registry import Registry

OBJECTIVES: Registry[Objective] = Registry(
    "objectives",
    "objective",
    (
        VIDD,
        PPO,
        PathConsistency,
        TrajectoryBalance,
        RewardBackprop,
        AdjointMatching,
        DiscreteAdjointMatching,
        RewardWeighted,
        WDCE,
        DDPP,
        SDPO,
        SPG,
        Evolve,
        ScoreClimbing,
    ),
    own_files=True,
)

__all__ = [
    "DDPP",
    "OBJECTIVES",
    "PPO",
    "SDPO",
    "SPG",
    "VIDD",
    "WDCE",
    "AdjointMatching",
    "DiscreteAdjointMatching",
    "Evolve",
    "PathConsistency",
    "RewardBackprop",
    "RewardWeighted",
    "ScoreClimbing",
    "TrajectoryBalance",
]
