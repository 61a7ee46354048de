"""What all processes of letters share: the size of the designs, held positions, and relaxed states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from biotilt.core.capabilities import Relaxable
from biotilt.core.fixed import Fixed
from biotilt.core.space import token_type
from biotilt.errors import ConfigError
from biotilt.options import Length, Whole, check_options

MOST_LETTERS = 10_000_000


@dataclass(frozen=True)
class LetterProcess(Relaxable, ABC):
    """A process whose designs are `length` L ≥ 1 letters out of `letters` V ≥ 2.

    `fixed` holds positions at given letters: no kernel ever touches them. Where it says which letters others may have,
    kernels give the rest no chance. States are of the smallest integer type that holds V, which stands for a mask.
    """

    length: Length
    letters: Annotated[Whole, Field(ge=2, le=MOST_LETTERS)]
    fixed: Fixed | None = None

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_options(self, self._where)
        if self.fixed is not None and len(self.fixed.mask) != self.length:
            raise ConfigError(f"fixed covers {len(self.fixed.mask)} positions, designs have {self.length}")
        if self.fixed is not None and self.fixed.allowed is not None and self.fixed.allowed.shape[1] != self.letters:
            raise ConfigError(f"fixed allows of {self.fixed.allowed.shape[1]} letters, designs have {self.letters}")

    @property
    def _where(self) -> str:
        return f'process "{self.name}"'

    @property
    @abstractmethod
    def steps(self) -> int: ...

    @property
    def free(self) -> int:
        """The number of coordinates that are designed."""
        return self.length if self.fixed is None else int((~self.fixed.mask).sum())

    @property
    def coordinates(self) -> int:
        return self.length

    @property
    def token_type(self) -> torch.dtype:
        """The type of states."""
        return token_type(self.letters)

    def holding(self, fixed: Fixed | None) -> Self:
        return replace(self, fixed=fixed)

    def relaxed(self, x: Tensor) -> Tensor:
        """Return states `(B, L)`, or relaxed already, as one-hot floats `(B, L, V+1)`, the last one the mask."""
        return x if x.is_floating_point() else one_hot_states(x, self.letters, torch.get_default_dtype())

    def relaxed_design(self, x: Tensor) -> Tensor:
        """Return letter probabilities `(B, L, V)` of complete designs: tokens `(B, L)`, or relaxed states."""
        return self.relaxed(x)[..., : self.letters]

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the tokens of states and, where they are relaxed, the states themselves."""
        return (x.detach().argmax(-1).to(self.token_type), x) if x.is_floating_point() else (x, None)

    def _free_mask(self, device: torch.device) -> Tensor:
        if self.fixed is None:
            return torch.ones(self.length, dtype=torch.bool, device=device)
        return ~self.fixed.mask.to(device)

    def _hold(self, x: Tensor) -> Tensor:
        """Return states `(B, L)` with the held letters in their places."""
        return x if self.fixed is None else torch.where(self._free_mask(x.device), x, self.fixed.letters.to(x))

    def _log_letters(self, output: Tensor) -> Tensor:
        """Return log-probabilities `(B, L, V)` of the letters of the design from the network's logits."""
        return self._logits(output).log_softmax(-1)

    def _logits(self, output: Tensor) -> Tensor:
        """Return the network's logits `(B, L, V)`, with no chance for letters that a position may not have."""
        return output if self.fixed is None else self.fixed.restrict(output)


def one_hot_states(x: Tensor, letters: int, dtype: torch.dtype) -> Tensor:
    """Return tokens `(B, L)`, V the mask, as one-hot floats `(B, L, V+1)`."""
    return F.one_hot(x.long(), letters + 1).to(dtype)
