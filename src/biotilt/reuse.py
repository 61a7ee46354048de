"""The value that a tuned run learned, read from its folder for a sampler; nobody's code is run."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from biotilt.assemble import value_like
from biotilt.errors import CheckpointError, ConfigError
from biotilt.experiment import Experiment
from biotilt.folder import CHECKPOINTS, shown
from biotilt.loading import in_python
from biotilt.provenance import RunRecord, model_hash, read_record, scores_version
from biotilt.tensors import load_tensors
from biotilt.training.checkpoint import TrainingState
from biotilt.values import LearnedQ, LearnedV, Reused, StateNet


def value_of_run(folder: Path, experiment: Experiment) -> Reused:
    """Return what the objective of the run in `folder` learned, as a value of this experiment's sampler.

    Its network is built from this experiment's generator, and the folder gives tensors alone, so nobody's code is run.
    Raises ConfigError when the run learned no value of states, or is of another generator, design, reward or α, and
    CheckpointError when the folder holds no run, or no checkpoint that is whole.
    """
    record = read_record(folder)
    _refuse_other(record, experiment, folder)
    value = value_like(record.config, experiment.model)
    if not isinstance(value, (StateNet, LearnedQ, LearnedV)):
        raise ConfigError(
            f'{shown(folder)} has learned no value of states: its objective "{record.config.build_objective().name}" '
            "trains none; runs of vidd with a learned value, path_consistency and ddpp have one"
        )
    _fill(value, folder)
    return Reused(value)


def _refuse_other(record: RunRecord, experiment: Experiment, folder: Path) -> None:
    ours, theirs = experiment.config, record.config
    where = f"the value of {shown(folder)} does not fit this experiment"
    if in_python(ours.model.path) or in_python(theirs.model.path):
        raise ConfigError(
            f"{where}: a model was given in Python, and a run keeps no hash of it by which to tell that it is the "
            "same; save it (`model.save`), name the file as [model] path in both, and tune again"
        )
    if theirs.constraints:
        raise ConfigError(f"{where}: the run had constraints, whose prices are part of what it learned")
    mine, his = (config.model.model_dump(mode="json", exclude={"path"}) for config in (ours, theirs))
    files = (model_hash(ours, experiment.base), record.sha256.get(theirs.model.path or ""))
    if mine != his or files[0] != files[1]:
        raise ConfigError(f"{where}: the run's generator is another, or its process or adapters are")
    if ours.design != theirs.design:
        raise ConfigError(f"{where}: its designs have another target, or other fixed positions")
    if record.reward_version != scores_version(experiment):
        raise ConfigError(f"{where}: the run's reward is another, or another version")
    if ours.alpha is None or theirs.alpha is None:
        raise ConfigError(f"{where}: one of them has a target_kl, and the value is in units of one alpha")
    if ours.alpha != theirs.alpha:
        raise ConfigError(f"{where}: it is in units of the run's alpha, {theirs.alpha:g}, and this is {ours.alpha:g}")


def _fill(value: nn.Module, folder: Path) -> None:
    """Load the tensors of the newest checkpoint that is whole."""
    amiss: list[CheckpointError] = []
    for name in CHECKPOINTS:
        try:
            stored = load_tensors(folder / name, TrainingState)[0]
        except CheckpointError as error:
            amiss.append(error)
            continue
        own = {key.removeprefix("value/"): tensor for key, tensor in stored.items() if key.startswith("value/")}
        try:
            value.load_state_dict(own)
        except RuntimeError as error:  # other names or shapes
            raise CheckpointError(f"{folder / name} does not hold the value that its record names: {error}") from error
        if not all(bool(tensor.isfinite().all()) for tensor in value.state_dict().values()):
            raise CheckpointError(f"{folder / name}: the value has learned nothing yet, or is not finite")
        return
    raise amiss[0]
