"""The training loop, pretraining, regression, and complete checkpoints."""

from biotilt.training.loop import TrainConfig, Trainer
from biotilt.training.pretrain import PretrainConfig, pretrain
from biotilt.training.regression import FitConfig, fit_regressor, predict

__all__ = ["FitConfig", "PretrainConfig", "TrainConfig", "Trainer", "fit_regressor", "predict", "pretrain"]
