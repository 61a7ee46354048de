"""The likelihood of designs on a backbone, under a ProteinMPNN that need not be the one that makes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.errors import DataError
from biotilt.models.proteinmpnn import SOLUBLE, ProteinMPNN, Selections, V, decoder, weights_of
from biotilt.networks.proteinmpnn import BackboneDecoder
from biotilt.options import Few, Flag, PathText, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.rewards.protein.folded import file_mark
from biotilt.spaces import PROTEIN
from biotilt.spaces.residues import Residues

ROWS = 64  # designs that are looked at together


@dataclass(frozen=True)
class BackboneLikelihood:
    """Mean log p of a designed residue given the backbone, nats, ≤ 0, under ProteinMPNN at temperature 1.

    The mean over `orders` random orders of decoding, the same for all designs, in which what is held comes first.
    `weights` ("soluble/v_48_020", …) should be others than the generator's where this is the judge. The other options
    are those of the generator (`[model] options`), so that the same residues are meant.
    """

    backbone: PathText
    weights: PathText = SOLUBLE
    chains: Selections = ()
    fixed: Selections = ()
    exclude: Selections = ()
    symmetric: Flag = False
    tied: tuple[Selections, ...] = ()
    orders: Few = 4

    name: ClassVar[str] = "backbone_likelihood"
    units: ClassVar[str] = "nats a residue"
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')
        _ = self._judge  # what is missing is said before any design is scored

    @property
    def version(self) -> str:
        said = repr((self.chains, self.fixed, self.exclude, self.symmetric, self.tied, self.orders))
        weights = file_mark(Path(self.weights)) if Path(self.weights).is_file() else self.weights
        return f"1-{digest(f'{said} {weights}')}-{file_mark(Path(self.backbone))}"

    @cached_property
    def _judge(self) -> tuple[BackboneDecoder, Residues]:
        source = ProteinMPNN(
            self.backbone, self.weights, self.chains, self.fixed, self.exclude, symmetric=self.symmetric, tied=self.tied
        )
        structure = source.structure()
        owner = source.owners(structure)
        return decoder(weights_of(self.weights), structure, owner).requires_grad_(False), source.space(structure, owner)

    def __call__(self, designs: list[str]) -> list[float]:
        _, space = self._judge
        known: dict[int, Tensor] = {}
        scores: list[float] = [NotScored("the design is not of the backbone's residues")] * len(designs)
        for row, design in enumerate(designs):
            try:
                known[row] = PROTEIN.encode(str(design))
            except DataError as error:
                scores[row] = NotScored(str(error))
        rows = [row for row, tokens in known.items() if len(tokens) == space.length]
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            for row, score in zip(part, self._scores(torch.stack([known[row] for row in part])).tolist()):
                scores[row] = score
        return scores

    @torch.no_grad()
    def _scores(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of designs `(B, L)`."""
        net, space = self._judge
        free = ~space.limits.mask
        placed = net.placed(x)
        total = torch.zeros(len(x))
        for rank in self._ranks(net, free):
            logits = net.of_design(net.logits(placed, rank))[..., :V]
            terms = logits.log_softmax(-1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
            total += terms[:, free].mean(-1)
        return total / self.orders

    def _ranks(self, net: BackboneDecoder, free: Tensor) -> list[Tensor]:
        """Return orders of the residues `(N,)`: chains that are not designed, what is held, and the rest at random."""
        generator = torch.Generator().manual_seed(0)
        owner = net.owner.long()
        found = []
        for _ in range(self.orders):
            place = torch.rand(len(free), generator=generator) + free  # held positions below 1, others above
            rank = torch.where(owner < 0, torch.arange(len(owner)) / len(owner) - 2, place[owner.clamp(min=0)])
            found.append(rank)
        return found
