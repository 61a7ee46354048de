"""Rewards: named functions of designs, higher is better, one family a file."""

from biotilt.rewards.adapters import from_molscore, from_poli
from biotilt.rewards.base import FunctionReward, Infeasible, NamedReward, NotScored, declare, reward
from biotilt.rewards.combine import GeometricMean, Product, Sum, Threshold
from biotilt.rewards.command import Command
from biotilt.rewards.conditional import LogProbability
from biotilt.rewards.load import load_function
from biotilt.rewards.registry import REWARDS, build
from biotilt.rewards.rna import ForbiddenMotifs, GCFraction, UpstreamAUG

__all__ = [
    "REWARDS",
    "Command",
    "ForbiddenMotifs",
    "FunctionReward",
    "GCFraction",
    "GeometricMean",
    "Infeasible",
    "LogProbability",
    "NamedReward",
    "NotScored",
    "Product",
    "Sum",
    "Threshold",
    "UpstreamAUG",
    "build",
    "declare",
    "from_molscore",
    "from_poli",
    "load_function",
    "reward",
]
