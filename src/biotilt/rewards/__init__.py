"""Rewards: named functions of designs, higher is better, one family a file."""

from biotilt.rewards.base import FunctionReward, NamedReward, NotScored, reward
from biotilt.rewards.combine import Product, Sum
from biotilt.rewards.conditional import LogProbability
from biotilt.rewards.load import load_function
from biotilt.rewards.registry import REWARDS, build
from biotilt.rewards.rna import ForbiddenMotifs, GCFraction, UpstreamAUG

__all__ = [
    "REWARDS",
    "ForbiddenMotifs",
    "FunctionReward",
    "GCFraction",
    "LogProbability",
    "NamedReward",
    "NotScored",
    "Product",
    "Sum",
    "UpstreamAUG",
    "build",
    "load_function",
    "reward",
]
