"""How the condition of a chain is written into its states, so that whatever keeps or draws states keeps conditions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Mark:
    """The number c in [0, `conditions`) of a condition, as `width` coordinates more at the end of axis 1 of a state.

    Where states are letters, `(B, L)` integers below `letters`, c is written in the same letters: its digits to the
    base `letters`, which relaxed states `(B, L, C)` have as one-hot. States that are floats (`letters` None), whatever
    their shape, get one coordinate filled with c.

    >>> mark = Mark(5, letters=4)
    >>> mark.write(torch.tensor([[3, 3, 3]]), torch.tensor([4])), mark.read(torch.tensor([[3, 3, 3, 1, 0]]))
    (tensor([[3, 3, 3, 1, 0]]), (tensor([[3, 3, 3]]), tensor([4])))
    """

    conditions: int
    letters: int | None = None

    @property
    def width(self) -> int:
        """The number of coordinates that a mark takes."""
        if self.letters is None:
            return 1
        digits = 1
        while self.letters**digits < self.conditions:
            digits += 1
        return digits

    def write(self, x: Tensor, index: Tensor) -> Tensor:
        """Return states `(B, ...)`, letters, relaxed or points, with the numbers `(B,)` at their end."""
        if self.letters is None:
            tail = index.view(-1, *[1] * (x.dim() - 1)).expand(-1, 1, *x.shape[2:])
        else:
            tail = index.unsqueeze(-1) // self._places(x.device) % self.letters
            tail = F.one_hot(tail, x.shape[-1]) if x.is_floating_point() else tail
        return torch.cat([x, tail.to(x.dtype)], 1)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states without their mark, and the numbers `(B,)`."""
        tail = x[:, -self.width :].detach()
        if self.letters is None:
            return self.without(x), tail.reshape(len(x), -1)[:, 0].round().long()
        digits = tail.argmax(-1) if x.is_floating_point() else tail.long()
        return self.without(x), (digits * self._places(x.device)).sum(-1)

    def without(self, x: Tensor) -> Tensor:
        """Return what is shaped like states without the coordinates of the mark."""
        return x[:, : -self.width]

    def blank(self, values: Tensor) -> Tensor:
        """Return values `(B, L, ...)` of coordinates, with zeros for those of the mark."""
        return torch.cat([values, values.new_zeros(len(values), self.width, *values.shape[2:])], 1)

    def _places(self, device: torch.device) -> Tensor:
        assert self.letters is not None
        return self.letters ** torch.arange(self.width - 1, -1, -1, device=device)
