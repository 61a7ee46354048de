"""Soft values: plug-ins that ask the oracle, and networks learned from scored designs."""

from __future__ import annotations

from biotilt.core import Value
from biotilt.registry import Registry
from biotilt.values.learned import LearnedQ, LearnedValueConfig
from biotilt.values.learned_state import LearnedV
from biotilt.values.monte_carlo import MonteCarlo
from biotilt.values.posterior_mean import PosteriorMean
from biotilt.values.refills import Refills, RefillsConfig
from biotilt.values.reused import Reused
from biotilt.values.runs import Bootstrapped, Mixed, Return
from biotilt.values.soft import SoftValue, SoftValueConfig
from biotilt.values.state import LogZ, LogZConfig, StateNet, StateNetConfig
from biotilt.values.surrogate import SurrogateConfig, SurrogateQ

VALUES: Registry[Value] = Registry(
    "values", "value",
    (PosteriorMean, MonteCarlo, SoftValue, SurrogateQ, Refills, Return, Bootstrapped, Mixed, StateNet, LogZ),
)  # fmt: skip
"""What an algorithm may write in its `value`."""

__all__ = [
    "VALUES",
    "Bootstrapped",
    "LearnedQ",
    "LearnedV",
    "LearnedValueConfig",
    "LogZ",
    "LogZConfig",
    "Mixed",
    "MonteCarlo",
    "PosteriorMean",
    "Refills",
    "RefillsConfig",
    "Return",
    "Reused",
    "SoftValue",
    "SoftValueConfig",
    "StateNet",
    "StateNetConfig",
    "SurrogateConfig",
    "SurrogateQ",
]
