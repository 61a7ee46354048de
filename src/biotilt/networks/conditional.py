"""A network that is told a condition in every call, with classifier-free guidance (Ho & Salimans 2022, 2207.12598)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biotilt.core.marks import Mark
from biotilt.core.protocols import reads_time


class Conditional(nn.Module):
    """States and times → what `net(x, t, condition)` says, with the condition of each chain.

    `table` `(n, ...)`: what the network is told for each of n conditions. With n > 1 the states carry the number of
    theirs (`mark`), which the network is not shown; outputs have zeros in its place. With `guidance` = w > 0 it is

        (1 + w) · out(condition) − w · out(`unconditional`),

    of logits, which the process normalises, or of the parameters of points (eps, x0, velocity): two rows in one call.
    """

    table: Tensor
    unconditional: Tensor | None

    def __init__(
        self, net: nn.Module, table: Tensor, *, unconditional: Tensor | None = None, guidance: float = 0.0,
        mark: Mark | None = None,
    ):  # fmt: skip
        super().__init__()
        self.net, self.guidance, self.mark = net, guidance, mark
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("unconditional", unconditional, persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output = self._guided(*self.shown(x, t))
        return output if self.mark is None else self.mark.blank(output)

    @property
    def reads_time(self) -> bool:
        return reads_time(self.net)

    def shown(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the network is called with: states without their mark, times, and conditions `(B, ...)`."""
        if self.mark is None:
            return x, t, self.table.expand(len(x), *self.table.shape[1:])
        states, index = self.mark.read(x)
        return states, t, self.table[index]

    def _guided(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        if self.guidance == 0 or self.unconditional is None:
            return self.net(x, t, condition)
        nothing = self.unconditional.expand_as(condition)
        both = self.net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([condition, nothing]))
        # of a letter that both rule out −inf − (−inf) would be NaN
        lowest = torch.finfo(both.dtype).min / (4 * (1 + self.guidance))
        told, untold = both.clamp(min=lowest).chunk(2)
        return told + self.guidance * (told - untold)
