"""Soft values: plug-ins that ask the oracle, and networks learned from scored designs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from biotilt.core import Process, Reveals, SeveralTargets, Value
from biotilt.values.learned import LearnedQ, LearnedValueConfig
from biotilt.values.learned_state import LearnedV
from biotilt.values.monte_carlo import MonteCarlo
from biotilt.values.posterior_mean import PosteriorMean
from biotilt.values.state import LogZ, LogZConfig, StateNet, StateNetConfig
from biotilt.values.surrogate import SurrogateConfig, SurrogateQ

# What an algorithm may write in its `value`, each with the class of its options.
VALUES: dict[str, type] = {
    "posterior_mean": PosteriorMean,
    "monte_carlo": MonteCarlo,
    "surrogate": SurrogateConfig,
    "return": LearnedValueConfig,
    "bootstrapped": LearnedValueConfig,
    "mixed": LearnedValueConfig,
    "state": StateNetConfig,
    "log_z": LogZConfig,
}


def build_value(kind: str | None, fresh: Callable[[], nn.Module], process: Process, options: Any) -> Value | None:
    """Return the value that an algorithm's `value` names, or None.

    `fresh` makes a network whose outputs are zero (`biotilt.networks.value_network`); `options` are
    an object of the kind's class in `VALUES`. Raises ConfigError when the value does not go with the process.
    """
    if kind is None or kind in ("posterior_mean", "monte_carlo"):  # these are their options
        return None if kind is None else options
    if kind == "log_z":
        return LogZ(options, process.targets if isinstance(process, SeveralTargets) else 1)
    if kind == "state":
        return StateNet(fresh(), process, options)
    if kind == "surrogate":
        return SurrogateQ(fresh(), process, options)
    if kind == "return" and not isinstance(process, Reveals):
        return LearnedV(fresh(), process, options)
    return LearnedQ(fresh(), process, kind, options)


__all__ = [
    "VALUES",
    "LearnedQ",
    "LearnedV",
    "LearnedValueConfig",
    "LogZ",
    "LogZConfig",
    "MonteCarlo",
    "PosteriorMean",
    "StateNet",
    "StateNetConfig",
    "SurrogateConfig",
    "SurrogateQ",
    "build_value",
]
