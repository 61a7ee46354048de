"""Algorithms that leave the weights alone, one a file."""

from __future__ import annotations

from biotilt.core import Sampler
from biotilt.registry import Registry
from biotilt.samplers.ancestral import Ancestral
from biotilt.samplers.best_of_n import BestOfN
from biotilt.samplers.evolve import EvolveSampler
from biotilt.samplers.gibbs import SplitGibbs
from biotilt.samplers.guidance import Guidance
from biotilt.samplers.importance import Importance
from biotilt.samplers.logit_guidance import LogitGuidance
from biotilt.samplers.mcmc import MCMC
from biotilt.samplers.refinement import Refinement
from biotilt.samplers.smc import SMC
from biotilt.samplers.svdd import SVDD
from biotilt.samplers.tree import TreeSearch

SAMPLERS: Registry[Sampler] = Registry(
    "samplers",
    "sampler",
    (
        Ancestral,
        BestOfN,
        Importance,
        SVDD,
        SMC,
        Guidance,
        LogitGuidance,
        MCMC,
        Refinement,
        SplitGibbs,
        TreeSearch,
        EvolveSampler,
    ),
    own_files=True,
)

__all__ = [
    "MCMC",
    "SAMPLERS",
    "SMC",
    "SVDD",
    "Ancestral",
    "BestOfN",
    "EvolveSampler",
    "Guidance",
    "Importance",
    "LogitGuidance",
    "Refinement",
    "SplitGibbs",
    "TreeSearch",
]
