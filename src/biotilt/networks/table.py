"""Networks that are tables of logits: they represent every policy of a small process exactly."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """States `(B,)` and times `(B,)` = 1 − k/K → logits `(B, S)` of the next state, looked up.

    `logits` `(K, S, S)`, indexed by step, state and next state; zeros (a uniform chain) when not given.
    """

    def __init__(self, states: int, horizon: int, logits: Tensor | None = None):
        super().__init__()
        self.horizon = horizon
        shape = (horizon, states, states)
        logits = torch.zeros(shape) if logits is None else logits.clone()
        if logits.shape != shape:
            raise ValueError(f"logits must have shape {shape}, got {tuple(logits.shape)}")
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        k = ((1 - t) * self.horizon).round().long()
        return self.logits[k, x.long()]


class StateTable(nn.Module):
    """Letters and masks `(B, L)` → logits `(B, L, V)`, one row for every one of the (V+1)^L states.

    `logits` `((V+1)^L, L, V)`, states in lexicographic order with the mask as the last letter; zeros (uniform
    letters) when not given. Times are ignored.
    """

    def __init__(self, letters: int, length: int, logits: Tensor | None = None):
        super().__init__()
        self.letters = letters
        shape = ((letters + 1) ** length, length, letters)
        logits = torch.zeros(shape) if logits is None else logits.clone()
        if logits.shape != shape:
            raise ValueError(f"logits must have shape {shape}, got {tuple(logits.shape)}")
        self.logits = nn.Parameter(logits)

    @classmethod
    def of_joint(cls, joint: Tensor, letters: int, length: int) -> Self:
        """Return the conditionals of a law over designs: revealing in any order then draws from that law.

        `joint` `(V^L,)`, positive, designs in lexicographic order; need not be normalised.
        """
        # one more slice an axis, the sum over the letters: entry s is the mass of designs that agree with s
        mass = joint.reshape((letters,) * length)
        for axis in range(length):
            mass = torch.cat([mass, mass.sum(axis, keepdim=True)], dim=axis)
        # revealing i as a moves along axis i alone; where i is shown already, the row is never read
        per_position = [
            mass.narrow(i, 0, letters).movedim(i, -1).unsqueeze(i).expand(*mass.shape, letters) for i in range(length)
        ]
        logits = torch.stack([p.reshape(-1, letters) for p in per_position], dim=1).log()
        return cls(letters, length, logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        powers = (self.letters + 1) ** torch.arange(x.shape[-1] - 1, -1, -1, device=x.device)
        return self.logits[(x.long() * powers).sum(-1)]
