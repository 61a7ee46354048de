"""The rewards that an experiment file can name, and their construction from its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biotilt.errors import ConfigError
from biotilt.registry import Registry
from biotilt.rewards.dna.motifs import Motif
from biotilt.rewards.generic.base import NamedReward
from biotilt.rewards.generic.combine import GeometricMean, Product, Sum, Threshold
from biotilt.rewards.generic.command import Command
from biotilt.rewards.generic.conditional import LogProbability
from biotilt.rewards.generic.ehrlich import Ehrlich
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.rewards.generic.log_density import LogDensity
from biotilt.rewards.generic.python import PythonFunction
from biotilt.rewards.generic.section import FromSection
from biotilt.rewards.image.classifier import ImageClass
from biotilt.rewards.image.properties import Brightness, Contrast, FileSize, NearColour
from biotilt.rewards.molecule.admet import ADMET
from biotilt.rewards.molecule.docking import Vina
from biotilt.rewards.molecule.likeness import Overlay, Pharmacophore
from biotilt.rewards.molecule.pmo import PMO
from biotilt.rewards.molecule.properties import (
    Alerts,
    DrugLikeness,
    HeavyAtoms,
    Lipinski,
    LogP,
    Novelty,
    PolarSurface,
    Similarity,
    Substructure,
    SyntheticAccessibility,
)
from biotilt.rewards.protein.exposure import BackboneSurface
from biotilt.rewards.protein.properties import (
    Aromaticity,
    Gravy,
    Instability,
    IsoelectricPoint,
    MolecularWeight,
    NetCharge,
)
from biotilt.rewards.protein.secondary import SecondaryStructure
from biotilt.rewards.protein.sequence import AvoidedMotifs, Identity, ResidueCount
from biotilt.rewards.protein.structure import (
    PLDDT,
    PTM,
    FoldContent,
    Globularity,
    HydrophobicSurface,
    InterfacePTM,
    ReferenceRMSD,
    Symmetry,
    TMScore,
)
from biotilt.rewards.rna.folding import EnsembleDefect, FreeEnergy, MFEMatch, TargetProbability
from biotilt.rewards.rna.properties import ForbiddenMotifs, GCFraction, Kozak, UpstreamAUG

KINDS: tuple[Any, ...] = (
    *(GCFraction, ForbiddenMotifs, UpstreamAUG, Kozak, Motif),
    *(FreeEnergy, EnsembleDefect, TargetProbability, MFEMatch),
    *(DrugLikeness, SyntheticAccessibility, LogP, PolarSurface, HeavyAtoms, Lipinski, Alerts, Similarity, Novelty),
    *(Substructure, Pharmacophore, Overlay, PMO, Vina, ADMET),
    *(Instability, IsoelectricPoint, Gravy, Aromaticity, MolecularWeight, NetCharge, SecondaryStructure),
    *(ResidueCount, AvoidedMotifs, Identity, BackboneSurface),
    *(PLDDT, PTM, InterfacePTM, FoldContent, Globularity, Symmetry, HydrophobicSurface, ReferenceRMSD, TMScore),
    *(Brightness, Contrast, NearColour, FileSize, ImageClass),
    Ehrlich,
    *(Command, PythonFunction, LogDensity, LearnedReward, Sum, Product, GeometricMean, Threshold, LogProbability),
)
REWARDS: Registry[NamedReward] = Registry(
    "rewards", "reward", KINDS,
    lazy={
        "backbone_likelihood": "biotilt.models.likelihood:BackboneLikelihood",
        "loglik": "biotilt.models.likelihood:Loglik",
    },
)  # fmt: skip
"""What a section's `kind` may be: dataclasses of their options, and kinds that are built from the section itself."""


def build(name: str, options: Mapping[str, Any], where: str = "") -> NamedReward:
    """Build the reward called `name` from the options of an experiment file; errors name `where` they stand.

    Raises `ConfigError`, with the nearest valid name, for an unknown reward or option, and for an option that
    is missing, of the wrong type or out of range.

    >>> build("gc", {"low": 0.4, "high": 0.6})
    GCFraction(low=0.4, high=0.6)
    """
    if issubclass(REWARDS.find(name), FromSection):
        raise ConfigError(f'reward "{name}" is built from more than options: name it in a section of an experiment')
    return REWARDS.build(name, options, where)
