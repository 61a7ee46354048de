"""Networks that are tables of logits: they represent every policy of a small process exactly."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.networks.one_hot import as_one_hot


class Table(nn.Module):
    """States `(B,)` and times `(B,)` = 1 − k/K → logits `(B, S)` of the next state, looked up.

    Relaxed states `(B, S)` give log-probabilities: the probabilities of the rows, mixed. That is linear in the state,
    so the slope from one state to another is the difference of what they lead to.

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

    def blank(self) -> ValueTable:
        """Return what learns a value of the same states: a normalised table would not know a constant."""
        return ValueTable(self.logits.shape[-1], self.horizon)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        k = ((1 - t) * self.horizon).round().long()
        if not x.is_floating_point():
            return self.logits[k, x.long()]
        rows = self.logits[k].softmax(-1)
        return _log(torch.einsum("bs,bsy->by", x.to(rows.dtype), rows))


class StateTable(nn.Module):
    """Letters and masks `(B, L)` → logits `(B, L, V)`, one row for every one of the (V+1)^L states.

    `logits` `((V+1)^L, L, V)`, states in lexicographic order with the mask as the last letter; zeros (uniform
    letters) when not given. Times are ignored. Relaxed states `(B, L, V+1)` give log-probabilities: the
    probabilities of all rows, mixed, which is linear in each position; every row is read, so only for small tables.
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
        if x.is_floating_point():
            return self._mixed(x)
        powers = (self.letters + 1) ** torch.arange(x.shape[-1] - 1, -1, -1, device=x.device)
        return self.logits[(x.long() * powers).sum(-1)]

    def _mixed(self, x: Tensor) -> Tensor:
        total = self.logits.softmax(-1).reshape(1, -1)
        for position in F.pad(x.to(total.dtype), (0, self.letters + 1 - x.shape[-1])).unbind(1):
            # the first position left is the slowest to change in the lexicographic order
            total = torch.einsum("bv,bvr->br", position, total.unflatten(1, (self.letters + 1, -1)))
        return _log(total.view(len(x), -1, self.letters))


def _log(probability: Tensor) -> Tensor:
    """Return the log; a probability of 0 counts as the smallest number, so that no gradient is NaN."""
    return probability.clamp(min=torch.finfo(probability.dtype).tiny).log()


class ValueTable(nn.Module):
    """States `(B,)` of a finite chain and times `(B,)` = 1 − k/K → one number `(B, 1)`, looked up; zeros at first.

    Of relaxed states `(B, S)` it is the mean: linear in the state.
    """

    def __init__(self, states: int, horizon: int):
        super().__init__()
        self.horizon = horizon
        self.values = nn.Parameter(torch.zeros(horizon, states))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        rows = self.values[((1 - t) * self.horizon).round().long()]
        one_hot = as_one_hot(x, rows.shape[-1], rows.dtype)
        return (one_hot * rows).sum(-1, keepdim=True)
