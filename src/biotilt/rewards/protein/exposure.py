"""Which residues of a backbone are at its surface, and how greasy a design is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from biotilt.errors import ConfigError
from biotilt.options import PathText, Text, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.rewards.protein.backbone import Backbone, beta_carbons, read_backbone
from biotilt.rewards.protein.folded import file_mark

GREASY = "FILMVW"
SURFACE, CORE = 2.0, 5.2  # neighbours in the cone of a residue: as few are at the surface, as many are buried


def neighbours(atoms: Tensor) -> Tensor:
    """Return how many residues stand before the side chain of each, `(N,)`, by N, CA, C `(N, 4, 3)` alone.

    Every other residue counts by a smooth step at 9 Å from Cβ to Cβ and by the angle it is seen at from Cα along
    Cα–Cβ: ((cos θ + 0.5)/1.5)², none behind. The side-chain neighbours of Rosetta's layers (Leaver-Fay et al. 2011).
    """
    beta = beta_carbons(atoms)
    way = torch.nn.functional.normalize(beta - atoms[:, 1], dim=-1)
    apart = beta.unsqueeze(0) - beta.unsqueeze(1)
    distance = apart.norm(dim=-1)
    cosine = (way.unsqueeze(1) * apart).sum(-1) / distance.clamp(min=1e-6)
    seen = ((cosine + 0.5) / 1.5).clamp(min=0) ** 2 / (1 + (distance - 9.0).exp())
    return seen.fill_diagonal_(0).sum(1)


def exposed(atoms: Tensor) -> Tensor:
    """Return how much of each residue is at the surface, `(N,)` in [0, 1]: 1 with 2 neighbours, 0 with 5.2."""
    return ((CORE - neighbours(atoms)) / (CORE - SURFACE)).clamp(0, 1)


@dataclass(frozen=True)
class BackboneSurface:
    """Minus the share of a backbone's surface that is given to F, I, L, M, V or W, in [−1, 0].

    How much of each residue is at the surface is read off the backbone (`exposed`), so designs need not be folded.
    `backbone`, `chains` and `exclude`: as the generator has them; designs of another length are not scored.
    """

    backbone: PathText
    chains: Annotated[tuple[Text, ...], Field(max_length=10_000)] = ()
    exclude: Annotated[tuple[Text, ...], Field(max_length=10_000)] = ()

    name: ClassVar[str] = "backbone_surface"
    units: ClassVar[str] = "share of surface"
    negated: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')
        if not Path(self.backbone).is_file():
            raise ConfigError(f'reward "{self.name}": backbone = "{self.backbone}" is not a file')
        if not len(self._weights):
            raise ConfigError(f'reward "{self.name}": the structure has no residue of chains {", ".join(self.chains)}')

    @property
    def version(self) -> str:
        return f"1-{digest(repr((self.chains, self.exclude)))}-{file_mark(Path(self.backbone))}"

    @cached_property
    def _weights(self) -> list[float]:
        """The part of the surface that each designed residue is."""
        found = self._structure()
        share = exposed(found.atoms)[[not self.chains or chain in self.chains for chain in found.chains]]
        return (share / share.sum().clamp(min=1e-6)).tolist()

    def _structure(self) -> Backbone:
        whole = read_backbone(self.backbone)
        out = {row for said in self.exclude for row in whole.chosen(said, f'reward "{self.name}": exclude')}
        return whole.without(sorted(out)) if out else whole

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(str(design).upper()) for design in designs]

    def _score(self, design: str) -> float:
        if len(design) != len(self._weights):
            return NotScored(f"the design has {len(design)} residues, and the backbone {len(self._weights)}")
        return 0.0 - sum(weight for weight, letter in zip(self._weights, design) if letter in GREASY)
