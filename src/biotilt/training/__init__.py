"""The training loop, pretraining, regression, and complete checkpoints."""

from biotilt.training.callbacks import Callback, EachRound, Ended, RunInfo, Stop
from biotilt.training.loop import TrainConfig, Trainer
from biotilt.training.pretrain import PretrainConfig, pretrain
from biotilt.training.pretraining_state import StateFile, resumable
from biotilt.training.regression import FitConfig, fit_regressor, predict
from biotilt.training.stopping import EarlyStopping
from biotilt.training.trackers import TRACKERS, Tracker

__all__ = [
    "TRACKERS",
    "Callback",
    "EachRound",
    "EarlyStopping",
    "Ended",
    "FitConfig",
    "PretrainConfig",
    "RunInfo",
    "StateFile",
    "Stop",
    "Tracker",
    "TrainConfig",
    "Trainer",
    "fit_regressor",
    "predict",
    "pretrain",
    "resumable",
]
