"""Where figures of a run are sent while it goes on, one tracker a file; each imports its package when it is used."""

from __future__ import annotations

from biotilt.registry import Registry
from biotilt.training.trackers.base import Tracker
from biotilt.training.trackers.jsonl import JsonLines
from biotilt.training.trackers.mlflow import MLflow
from biotilt.training.trackers.tensorboard import TensorBoard
from biotilt.training.trackers.trackio import Trackio
from biotilt.training.trackers.wandb import WeightsAndBiases

TRACKERS: Registry[Tracker] = Registry(
    "trackers", "tracker", (TensorBoard, JsonLines, WeightsAndBiases, MLflow, Trackio), own_files=True
)

__all__ = ["TRACKERS", "JsonLines", "MLflow", "TensorBoard", "Tracker", "Trackio", "WeightsAndBiases"]
