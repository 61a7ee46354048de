"""Units that a learned value speaks in, so that its learning rate depends on neither α nor the unit of reward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biotilt.core import InAlphas


class Standardised(nn.Module, InAlphas):
    """A module whose outputs count from the mean of the first r/α that it was told, in units of their spread."""

    centre: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor(torch.nan))
        self.register_buffer("spread", torch.tensor(1.0))

    def set_units(self, complete: Tensor) -> None:
        """Fix the centre and the spread of values by the first rewards seen, `(B,)`, in units of α."""
        if self.centre.isnan():
            self.centre.copy_(complete.mean())
            # a reward that does not vary teaches nothing; any spread will do
            self.spread.copy_(complete.std(correction=0).clamp(min=1e-3))

    def rescale(self, factor: float) -> None:
        """Bring the values to units of another α; nothing is known before the first rewards."""
        if not self.centre.isnan():
            self.centre.mul_(factor)
            self.spread.mul_(factor)

    def in_units(self, outputs: Tensor) -> Tensor:
        """Return network outputs as values in units of α; unchanged while no reward was seen."""
        return self.centre.nan_to_num() + self.spread * outputs
