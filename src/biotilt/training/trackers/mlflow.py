"""MLflow, by its documented `MlflowClient`, which leaves the active run of a notebook alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from biotilt.options import Name, PathText
from biotilt.training.callbacks import Ended, Row, RunInfo
from biotilt.training.trackers.base import Tracker, remember, remembered

LONGEST = 500  # characters of a parameter: what every MLflow server takes
STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


@dataclass
class MLflow(Tracker):
    """A run of `experiment` at the server `uri` (default: what MLflow itself is set to), whose axis is oracle calls."""

    experiment: Name = "biotilt"
    uri: PathText | None = None

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"
    _client: Any = field(default=None, init=False, repr=False)
    _run_id: str = field(default="", init=False, repr=False)

    def open(self, run: RunInfo) -> None:
        client = import_module("mlflow").MlflowClient

        self._client = client(tracking_uri=self.uri)
        self._run_id = remembered(run, self.name)
        if self._run_id:
            self._client.update_run(self._run_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self.experiment)
        number = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
        self._run_id = self._client.create_run(number, run_name=run.name).info.run_id
        remember(run, self.name, self._run_id)
        for key, value in _flat(run.settings):
            self._client.log_param(self._run_id, key, str(value)[:LONGEST])

    def log(self, figures: Row) -> None:
        for key, value in figures.items():
            self._client.log_metric(self._run_id, key, value, step=int(figures["calls"]))

    def close(self, ended: Ended) -> None:
        if ended.how == "stopped":
            self._client.set_tag(self._run_id, "stopped", ended.why)
        self._client.set_terminated(self._run_id, status=STATUS[ended.how])


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ("train.lr", 0.001) and so on: MLflow has no tables."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
