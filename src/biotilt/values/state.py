"""Functions of the state that an objective trains with the policy: a value v_φ(x, k), and log Z, both in units of α."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.core import Constant, Network, Process, SeveralTargets, StateFunction
from biotilt.core.bounded import call, in_parts
from biotilt.options import Layers, Positive, Width, check_options
from biotilt.values.standardised import Standardised


@dataclass(frozen=True)
class StateNetConfig:
    """`lr` > 0 of the value's network; its `width` and `depth` where the generator's does not lend its features."""

    lr: Positive = 3e-3
    width: Width = 96
    depth: Layers = 4

    def __post_init__(self) -> None:
        check_options(self, "value")


@dataclass(frozen=True)
class LogZConfig:
    """`lr` > 0 of the numbers, in units of the spread of r/α: large, as nothing else of it is learned."""

    lr: Positive = 0.03

    def __post_init__(self) -> None:
        check_options(self, "value")


class StateNet(Standardised, StateFunction):
    """v_φ(x, k) `(B,)`, in units of α: the mean output of a network that reads what the generator's reads.

    The network is shown what the process shows the generator at state `x` and step `k` in [0, K), so it works on
    any process, and on relaxed states where the process takes them. With a last layer of zeros
    (`biotilt.networks.value_network`) it starts as a constant: the mean of the first r/α once `set_units` was told
    them.
    """

    name: ClassVar[str] = "state"
    Options: ClassVar[type] = StateNetConfig

    @classmethod
    def build(cls, options: StateNetConfig, process: Process, network: Network) -> StateNet:
        return cls(network(options.width, options.depth), process, options)

    def __init__(self, net: nn.Module, process: Process, config: StateNetConfig | None = None):
        super().__init__()
        self.config = config or StateNetConfig()
        self.net, self.process = net, process

    def forward(self, x: Tensor, k: int | Tensor) -> Tensor:
        """Return values `(B,)` of states `x` `(B, ...)` at step `k`, an int or `(B,)`."""
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        return self.in_units(in_parts(self._mean, self.net, x, k, shown=self.process.inputs(x[:1], k[:1])))

    def _mean(self, x: Tensor, k: Tensor) -> Tensor:
        """One head averaged over outputs, so that Adam's step does not grow with the design's length."""
        return call(self.net, *self.process.inputs(x, k)).flatten(1).mean(1)


class LogZ(Standardised, Constant):
    """log Z as one learned number, or one for each of several `targets`; all start at the mean of the first r/α."""

    name: ClassVar[str] = "log_z"
    Options: ClassVar[type] = LogZConfig

    @classmethod
    def build(cls, options: LogZConfig, process: Process, network: Network) -> LogZ:
        return cls(options, process.targets if isinstance(process, SeveralTargets) else 1)

    def __init__(self, config: LogZConfig | None = None, targets: int = 1):
        super().__init__()
        self.config = config or LogZConfig()
        self.offset = nn.Parameter(torch.zeros(() if targets == 1 else targets))

    def forward(self, target: Tensor | None = None) -> Tensor:
        """Return log Z, `()`, or that of each target `(B,)`."""
        return self.in_units(self.offset if target is None else self.offset[target])
