"""biotilt: tilt any pretrained diffusion model toward any reward.

The public names are loaded when first used, so that importing biotilt stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Alphabet": "biotilt.spaces",
    "AnyOrder": "biotilt.processes",
    "BiotiltError": "biotilt.errors",
    "Callback": "biotilt.training.callbacks",
    "CheckpointError": "biotilt.errors",
    "Codons": "biotilt.spaces",
    "Confidence": "biotilt.processes",
    "ConfigError": "biotilt.errors",
    "DataError": "biotilt.errors",
    "EarlyStopping": "biotilt.training.stopping",
    "Ended": "biotilt.training.callbacks",
    "Experiment": "biotilt.experiment",
    "Flow": "biotilt.processes",
    "Gaussian": "biotilt.processes",
    "Graphs": "biotilt.spaces.graphs",
    "Images": "biotilt.spaces",
    "Letters": "biotilt.spaces",
    "LoRA": "biotilt.models.lora",
    "Loglik": "biotilt.models.likelihood",
    "Masked": "biotilt.processes",
    "Measure": "biotilt.evaluation.measure",
    "Model": "biotilt.model",
    "Padded": "biotilt.spaces",
    "Points": "biotilt.spaces",
    "RandomWalk": "biotilt.processes",
    "RewardError": "biotilt.errors",
    "Run": "biotilt.run",
    "RunInfo": "biotilt.training.callbacks",
    "Safe": "biotilt.spaces.safe",
    "Selfies": "biotilt.spaces.selfies",
    "Simplex": "biotilt.processes",
    "Steered": "biotilt.steering",
    "Stop": "biotilt.training.callbacks",
    "Tokens": "biotilt.spaces",
    "Tracker": "biotilt.training.trackers.base",
    "Uniform": "biotilt.processes",
    "UntrustedRun": "biotilt.errors",
    "alphabet": "biotilt.spaces",
    "finetune": "biotilt.finetuning",
    "fit_oracle": "biotilt.fitting",
    "load_model": "biotilt.run",
    "measure": "biotilt.evaluation.functions",
    "pretrain_model": "biotilt.fitting",
    "resume": "biotilt.run",
    "reward": "biotilt.rewards.generic.functions",
    "steer": "biotilt.steering",
    "tune": "biotilt.run",
    "wrap": "biotilt.models.wrap",
}

if TYPE_CHECKING:
    from biotilt.errors import BiotiltError, CheckpointError, ConfigError, DataError, RewardError, UntrustedRun
    from biotilt.evaluation.functions import measure
    from biotilt.evaluation.measure import Measure
    from biotilt.experiment import Experiment
    from biotilt.finetuning import finetune
    from biotilt.fitting import fit_oracle, pretrain_model
    from biotilt.model import Model
    from biotilt.models.likelihood import Loglik
    from biotilt.models.lora import LoRA
    from biotilt.models.wrap import wrap
    from biotilt.processes import AnyOrder, Confidence, Flow, Gaussian, Masked, RandomWalk, Simplex, Uniform
    from biotilt.rewards.generic.functions import reward
    from biotilt.run import Run, load_model, resume, tune
    from biotilt.spaces import Alphabet, Codons, Images, Letters, Padded, Points, Tokens, alphabet
    from biotilt.spaces.graphs import Graphs
    from biotilt.spaces.safe import Safe
    from biotilt.spaces.selfies import Selfies
    from biotilt.steering import Steered, steer
    from biotilt.training.callbacks import Callback, Ended, RunInfo, Stop
    from biotilt.training.stopping import EarlyStopping
    from biotilt.training.trackers.base import Tracker

__all__ = [
    "Alphabet",
    "AnyOrder",
    "BiotiltError",
    "Callback",
    "CheckpointError",
    "Codons",
    "Confidence",
    "ConfigError",
    "DataError",
    "EarlyStopping",
    "Ended",
    "Experiment",
    "Flow",
    "Gaussian",
    "Graphs",
    "Images",
    "Letters",
    "LoRA",
    "Loglik",
    "Masked",
    "Measure",
    "Model",
    "Padded",
    "Points",
    "RandomWalk",
    "RewardError",
    "Run",
    "RunInfo",
    "Safe",
    "Selfies",
    "Simplex",
    "Steered",
    "Stop",
    "Tokens",
    "Tracker",
    "Uniform",
    "UntrustedRun",
    "__version__",
    "alphabet",
    "finetune",
    "fit_oracle",
    "load_model",
    "measure",
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
