"""Algorithms that leave the weights alone, one a file."""

from __future__ import annotations

from biotilt.samplers.ancestral import Ancestral
from biotilt.samplers.best_of_n import BestOfN
from biotilt.samplers.gibbs import SplitGibbs
from biotilt.samplers.guidance import Guidance
from biotilt.samplers.importance import Importance
from biotilt.samplers.logit_guidance import LogitGuidance
from biotilt.samplers.mcmc import MCMC
from biotilt.samplers.refinement import Refinement
from biotilt.samplers.smc import SMC
from biotilt.samplers.svdd import SVDD
from biotilt.samplers.tree import TreeSearch

SAMPLERS: dict[str, type] = {
    s.name: s
    for s in (
        Ancestral, BestOfN, Importance, SVDD, SMC, Guidance, LogitGuidance, MCMC, Refinement, SplitGibbs, TreeSearch,
    )
}  # fmt: skip

__all__ = [
    "MCMC",
    "SAMPLERS",
    "SMC",
    "SVDD",
    "Ancestral",
    "BestOfN",
    "Guidance",
    "Importance",
    "LogitGuidance",
    "Refinement",
    "SplitGibbs",
    "TreeSearch",
]
