"""Rewards: named functions of designs, higher is better, one family a file."""

from biotilt.rewards.generic.adapters import from_molscore, from_poli
from biotilt.rewards.generic.base import Infeasible, NamedReward, NotScored
from biotilt.rewards.generic.columns import Column, Source, columns
from biotilt.rewards.generic.combine import GeometricMean, Product, Sum, Threshold
from biotilt.rewards.generic.command import Command
from biotilt.rewards.generic.conditional import LogProbability
from biotilt.rewards.generic.declare import declare
from biotilt.rewards.generic.functions import FunctionReward, reward
from biotilt.rewards.generic.gaussian_base import GaussianBase
from biotilt.rewards.generic.load import load_function, load_source
from biotilt.rewards.generic.log_density import LogDensity
from biotilt.rewards.generic.section import FromPart, FromParts, FromSection
from biotilt.rewards.registry import REWARDS, build
from biotilt.rewards.rna.properties import ForbiddenMotifs, GCFraction, UpstreamAUG

__all__ = [
    "REWARDS",
    "Column",
    "Command",
    "ForbiddenMotifs",
    "FromPart",
    "FromParts",
    "FromSection",
    "FunctionReward",
    "GCFraction",
    "GaussianBase",
    "GeometricMean",
    "Infeasible",
    "LogDensity",
    "LogProbability",
    "NamedReward",
    "NotScored",
    "Product",
    "Source",
    "Sum",
    "Threshold",
    "UpstreamAUG",
    "build",
    "columns",
    "declare",
    "from_molscore",
    "from_poli",
    "load_function",
    "load_source",
    "reward",
]
