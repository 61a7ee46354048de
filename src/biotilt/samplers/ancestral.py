"""Ancestral sampling: one chain a design, from noise to design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from biotilt.core import Context, Draws, Sampler, sample


@dataclass(frozen=True)
class Ancestral(Sampler):
    """x[k+1] ∼ p(·|x[k]) of the proposal, no more: its own law, no oracle call.

    Rewards are NaN: nothing was scored. All weights are equal.
    """

    name: ClassVar[str] = "ancestral"

    def draw(self, context: Context, count: int) -> Draws:
        designs = sample(context.roles.proposal, count, context.generator)
        nothing = torch.zeros(count, device=designs.device)
        return Draws(designs, nothing + torch.nan, nothing)
