"""Networks that know a target, such as a structure, and can be had for another."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Targetable(Protocol):
    """A network made for one target, whose weights serve any."""

    def for_target(self, target: str) -> nn.Module:
        """Return the network of another target, with the same weights."""
        ...
