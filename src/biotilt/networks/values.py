"""The network of a learned value: never a guess at what the last layer of somebody's network is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from biotilt.core import OfLetters, OfPoints, Policy, Process, Reveals
from biotilt.core.marks import Mark
from biotilt.errors import ConfigError
from biotilt.networks.blank import zero
from biotilt.networks.cnn import CNN, CNNConfig
from biotilt.networks.conditional import Conditional
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.options import Layers, Width, check_options


@dataclass(frozen=True)
class ValueSize:
    """`width` and `depth` of a value's own network, or of its head on a network's features."""

    width: Width = 96
    depth: Layers = 4

    def __post_init__(self) -> None:
        check_options(self, "value")


@runtime_checkable
class Blank(Protocol):
    """A network that returns another by `blank()`: all weights to be trained, and outputs zero whatever the input."""

    def blank(self) -> nn.Module: ...


@runtime_checkable
class Features(Protocol):
    """A network that offers what its last layers read: `features(x, t)`, floats `(B, ..., C)`.

    One that is called with a condition too has it as a third argument here as well.
    """

    def features(self, x: Tensor, t: Tensor) -> Tensor: ...


def value_network(policy: Policy, size: ValueSize | None = None) -> nn.Module:
    """Return a network that reads what the policy's reads, with outputs like its, that starts at zero everywhere.

    A copy that begins with its features where it offers `blank` and can be trained as a whole; a head on its frozen
    features where it offers `features`; else a small network of `size`. Raises ConfigError for states that no small
    network reads.
    """
    net, process, size = policy.net, policy.process, size or ValueSize()
    if isinstance(net, Conditional):
        return _of_conditions(policy.frozen_view().net, net, process, size)
    if isinstance(net, Blank) and _whole(net):
        return net.blank()
    if isinstance(net, Features):
        return FeatureHead(policy.frozen_view().net, process, size)
    return small_network(process, size)


def pooled_features(policy: Policy) -> Callable[[Tensor], Tensor] | None:
    """Return the function of designs `(B, ...)` that gives their features, averaged over coordinates, `(B, C)`.

    None where the network offers none, or is told a condition.
    """
    net, process = policy.net, policy.process
    if not isinstance(net, Features) or isinstance(net, Conditional):
        return None

    @torch.no_grad()
    def embed(designs: Tensor) -> Tensor:
        there = next(policy.net.parameters()).device
        found = net.features(*process.inputs(designs.to(there), process.steps))
        return found.reshape(len(found), -1, found.shape[-1]).mean(1)

    return embed


def _whole(net: nn.Module) -> bool:
    """Return whether a network is trained as a whole, or not at all: with adapters it is too large to be copied."""
    return len({parameter.requires_grad for parameter in net.parameters()}) < 2


def _of_conditions(frozen: nn.Module, net: Conditional, process: Process, size: ValueSize) -> nn.Module:
    """Return the value's network of a generator that is told conditions: told the same, without guidance."""
    mark = net.mark
    if isinstance(net.net, Blank) and _whole(net.net):
        return Conditional(net.net.blank(), net.table, mark=mark)
    if isinstance(net.net, Features) and isinstance(frozen, Conditional):
        return Conditional(FeatureHead(frozen.net, process, size, net), net.table, mark=mark)
    if mark is None:  # the value is of the one condition
        return small_network(process, size)
    return Conditional(small_network(process, size, mark), torch.arange(mark.conditions), mark=mark)


def small_network(process: Process, size: ValueSize, mark: Mark | None = None) -> nn.Module:
    """Return a small network whose outputs start at zero, of the process's states without their mark."""
    fewer, conditions = (0, 0) if mark is None else (mark.width, mark.conditions)
    if isinstance(process, OfLetters):
        # where nothing is masked, the states do not tell how much noise there is in them
        time = not isinstance(process, Reveals)
        length = process.length - fewer
        config = CNNConfig(process.letters, length, size.width, size.depth, time=time, conditions=conditions)
        return CNN(config).blank()
    if isinstance(process, OfPoints):
        config = VectorMLPConfig(process.size - fewer, size.width, size.depth, conditions)
        return VectorMLP(config).blank()
    raise ConfigError(
        f'a learned value needs a network, and none of ours reads states of the process "{process.name}": give '
        "the generator's network a method `blank` or `features` (biotilt.networks.values), or use a value that is not "
        "learned"
    )


class FeatureHead(nn.Module):
    """A trained head on the features of a network that stays as it is, and is neither copied nor stored with it."""

    def __init__(self, net: nn.Module, process: Process, size: ValueSize, told: Conditional | None = None):
        super().__init__()
        self._lent = _Lent(net)
        features, outputs = _probe(net, process, told)
        widths = [features] + [size.width] * 2
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
        self.head = nn.Sequential(nn.LayerNorm(features), *hidden, nn.Linear(size.width, outputs))
        zero(self.head[-1])

    def forward(self, x: Tensor, t: Tensor, *condition: Tensor) -> Tensor:
        # it takes no gradient in its weights, but passes on that of relaxed states
        return self.head(self._lent.net.features(x, t, *condition).to(self.head[-1].weight.dtype))


class _Lent:
    """Somebody else's network: copies of what holds it hold the same one."""

    def __init__(self, net: Any):
        self.net = net

    def __deepcopy__(self, memo: dict[int, object]) -> _Lent:
        return self


@torch.no_grad()
def _probe(net: Any, process: Process, told: Conditional | None) -> tuple[int, int]:
    """Return the numbers of features and of outputs at a coordinate."""
    device = next(net.parameters()).device
    shown: tuple[Tensor, ...] = process.inputs(process.noise(1, torch.Generator(device).manual_seed(0)), 0)
    shown = shown if told is None else told.shown(*shown)
    return net.features(*shown).shape[-1], net(*shown).shape[-1]
