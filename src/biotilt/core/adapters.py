"""Adapters that change nothing yet: the base has them beside its weights, and need not compute them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Adapted(Protocol):
    """A layer W x + s B A x with the layers of B in `lora_B`, as the package peft makes them."""

    lora_B: nn.ModuleDict

    def enable_adapters(self, enabled: bool) -> None: ...


def rest(net: nn.Module) -> None:
    """Switch off the adapters of a network, which is not to be trained, whose B is zero: its outputs stay the same."""
    for layer in net.modules():
        if isinstance(layer, Adapted) and not any(bool(weight.any()) for weight in layer.lora_B.parameters()):
            layer.enable_adapters(False)
