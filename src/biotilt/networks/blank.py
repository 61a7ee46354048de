"""Copies of a network whose outputs start at zero: a learned value that begins with the network's features."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def blank_copy(net: Net, last: str) -> Net:
    """Return a copy, trainable as a whole, with zeros in the layer called `last`: its outputs are zero."""
    fresh = copy.deepcopy(net).requires_grad_(True).eval()
    zero(fresh.get_submodule(last))
    return fresh


def zero(layer: nn.Module) -> None:
    """Set every weight of a layer to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
