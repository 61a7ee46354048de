"""biotilt: tilt any pretrained diffusion model toward any reward.

The public names are loaded when first used, so that importing biotilt stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Callback": "biotilt.training.callbacks",
    "EarlyStopping": "biotilt.training.stopping",
    "Ended": "biotilt.training.callbacks",
    "Experiment": "biotilt.experiment",
    "Model": "biotilt.model",
    "Run": "biotilt.run",
    "RunInfo": "biotilt.training.callbacks",
    "Stop": "biotilt.training.callbacks",
    "Tracker": "biotilt.training.trackers.base",
    "fit_oracle": "biotilt.fitting",
    "load_model": "biotilt.run",
    "pretrain_model": "biotilt.fitting",
    "resume": "biotilt.run",
    "reward": "biotilt.rewards.generic.base",
    "steer": "biotilt.steering",
    "tune": "biotilt.run",
    "wrap": "biotilt.models.wrap",
}

if TYPE_CHECKING:
    from biotilt.experiment import Experiment
    from biotilt.fitting import fit_oracle, pretrain_model
    from biotilt.model import Model
    from biotilt.models.wrap import wrap
    from biotilt.rewards.generic.base import reward
    from biotilt.run import Run, load_model, resume, tune
    from biotilt.steering import steer
    from biotilt.training.callbacks import Callback, Ended, RunInfo, Stop
    from biotilt.training.stopping import EarlyStopping
    from biotilt.training.trackers.base import Tracker

__all__ = [
    "Callback",
    "EarlyStopping",
    "Ended",
    "Experiment",
    "Model",
    "Run",
    "RunInfo",
    "Stop",
    "Tracker",
    "__version__",
    "fit_oracle",
    "load_model",
    "pretrain_model",
    "resume",
    "reward",
    "steer",
    "tune",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'biotilt' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
