"""A space of texts that a function writes, for tests of what asks a reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from biotilt.spaces import Text


@dataclass(frozen=True)
class Written(Text):
    """Designs are the texts that `write_as` makes of states `(B, ...)`; they have no states of their own.

    >>> import torch
    >>> Written(lambda states: ["A" * int(n) for n in states]).decode(torch.tensor([2, 1]))
    ['AA', 'A']
    """

    write_as: Callable[[Tensor], Any]

    @property
    def name(self) -> str:
        return "written"

    @property
    def symbols(self) -> tuple[str, ...]:
        return ()

    def encode(self, designs: Sequence[str]) -> Tensor:
        raise NotImplementedError

    def decode(self, states: Tensor) -> list[str]:
        return list(self.write_as(states))

    def spec(self) -> dict[str, Any]:
        return {}
