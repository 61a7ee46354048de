"""Scorers of exact tests: rewards known for every design, or a function of points; both count their calls."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from biotilt.core.capabilities import needed
from biotilt.core.protocols import Process
from biotilt.processes.insertion import Insertion
from biotilt.processes.letters import LetterProcess
from biotilt.testing.exact import lexicographic_index


class TableScorer:
    """Rewards `(D,)` of all designs, in the order of `space(process)` (lexicographic, where all have one length).

    `relaxed` is their expectation under independent letters `(B, L, V)` or states `(B, S)`: multilinear.
    """

    def __init__(self, process: Process, reward: Tensor):
        self.process, self.reward, self.calls = process, reward, 0

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        if designs.dim() == 1:
            return self.reward[designs.long()]
        if isinstance(self.process, Insertion):
            states, complete = self.process.listed()
            return self.reward[(designs.unsqueeze(1) == states[complete]).all(-1).int().argmax(-1)]
        return self.reward[lexicographic_index(designs, needed(self.process, LetterProcess).letters)]

    def relaxed(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        if designs.dim() == 2:
            return designs @ self.reward.to(designs.dtype)
        letters = needed(self.process, LetterProcess).letters
        total = self.reward.to(designs.dtype).expand(len(designs), -1)
        for i in range(designs.shape[1]):
            # the first position left is the slowest to change in the lexicographic order
            total = torch.einsum("bv,bvr->br", designs[:, i, :letters], total.unflatten(1, (letters, -1)))
        return total.squeeze(-1)


class FunctionScorer:
    """A differentiable function of points `(B, D)` to rewards `(B,)`."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function, self.calls = function, 0

    def __call__(self, designs: Tensor) -> Tensor:
        with torch.no_grad():
            return self.relaxed(designs)

    def relaxed(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        return self.function(designs)
