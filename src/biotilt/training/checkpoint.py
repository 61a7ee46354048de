"""Complete checkpoints of a run: weights, optimiser, average, replay, random numbers, ledger position."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from biotilt.core import Batch, Context, Objective, check_rows
from biotilt.core.protocols import CountingScorer
from biotilt.core.temperature import Temperature
from biotilt.errors import CheckpointError
from biotilt.options import CountFrom0, Name
from biotilt.schema import StoredTensors, checked
from biotilt.tensors import load_tensors, save_tensors
from biotilt.training.scaling import LossScale


def _whole_row(row: dict[str, int | float | None]) -> dict[str, int | float | None]:
    for key in ("round", "calls", "seconds"):
        value = row.get(key)
        if value is None or not math.isfinite(value):
            raise ValueError(f"a row of the history has no number of {key}")
    return row


History = list[Annotated[dict[Name, int | float | None], AfterValidator(_whole_row)]]
"""Figures of the rounds, in a checkpoint."""


STOPPED, OUT_OF_TIME = "stopped", "out_of_time"
_TIME_SAID = re.compile(r"time: .* s are spent, and the limit is .* s")


def was_time(stopped: str, said: bool | None) -> bool:
    """Return whether the time limit ended a run; `said`: what its file tells of that, None in those of before it did.

    >>> was_time("time: 12 s are spent, and the limit is 10 s", None), was_time("time: to go home", False)
    (True, False)
    """
    return _TIME_SAID.fullmatch(stopped) is not None if said is None else said


def _whole_stored_row(row: dict[str, bool | int | float | str | None]) -> dict[str, bool | int | float | str | None]:
    figures: dict[str, int | float | None] = {}
    for key, value in row.items():
        if key in (STOPPED, OUT_OF_TIME):
            continue
        if isinstance(value, str):
            raise ValueError(f"a row of the history has text for {key}, where a number belongs")
        figures[key] = value
    _whole_row(figures)
    return row


StoredHistory = list[Annotated[dict[Name, bool | int | float | str | None], AfterValidator(_whole_stored_row)]]
"""The same in `history.json`, where the last row of a run that ended early says why under "stopped", and under
"out_of_time" whether that was its time limit."""


class TrainingState(StoredTensors):
    """The metadata of a checkpoint; the first ones did not tell the experiment."""

    kind: ClassVar[str] = "training_state"
    called: ClassVar[str] = "the state of a run"

    objective: Name
    round: CountFrom0
    update: CountFrom0
    history: History
    oracle: dict[Name, Any]  # which its oracle checks
    experiment: str = ""
    stopped: str = ""
    out_of_time: bool | None = None
    temperature: dict[Name, float] | None = None  # of a run with target_kl
    loss_scale: dict[Name, float] | None = None  # of a run in float16


class Resumable(Protocol):
    """What training is at: all that a checkpoint holds of it."""

    context: Context
    objective: Objective
    oracle: CountingScorer
    average: nn.Module
    own: tuple[str, ...]
    history: list[dict[str, float]]
    round: int
    update: int
    experiment: str
    stopped: str
    out_of_time: bool
    scale: LossScale | None

    @property
    def optimiser(self) -> torch.optim.Optimizer: ...


def _weights(trainer: Resumable) -> dict[str, dict[str, Tensor]]:
    """Return what changes during a run: of each role the tensors that are its own, and a learned value as a whole."""
    roles = trainer.context.roles
    nets = {"policy": roles.policy.net, "proposal": roles.proposal.net, "average": trainer.average}
    weights = {name: {key: net.get_parameter(key).detach() for key in trainer.own} for name, net in nets.items()}
    if isinstance(trainer.context.value, nn.Module):
        weights["value"] = trainer.context.value.state_dict()
    return weights


def save_state(trainer: Resumable, path: Path, keep: Path | None = None) -> None:
    """Write everything that the rest of the run depends on, whole or not at all; what it replaces goes to `keep`."""
    tensors: dict[str, Tensor] = {"generator": trainer.context.generator.get_state()}
    for name, weights in _weights(trainer).items():
        tensors |= {f"{name}/{key}": value for key, value in weights.items()}
    tensors |= {f"memory/{key}": value for key, value in trainer.context.memory.rows.items()}
    if trainer.context.screen is not None:
        tensors |= {f"screen/{key}": value for key, value in trainer.context.screen.state().items()}
    for index, state in trainer.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    about = {
        "kind": "training_state",
        "objective": trainer.objective.name,
        "round": trainer.round,
        "update": trainer.update,
        "history": trainer.history,
        "oracle": trainer.oracle.state_dict(),
        "experiment": trainer.experiment,
        "stopped": trainer.stopped,
        "out_of_time": trainer.out_of_time,
    }
    if trainer.context.temperature is not None:
        about["temperature"] = trainer.context.temperature.state()
    if trainer.scale is not None:
        about["loss_scale"] = asdict(trainer.scale)
    save_tensors(path, tensors, about, keep=keep)


def state_size(trainer: Resumable) -> int:
    """Return the bytes that a checkpoint takes at least: weights, and the two moments of the optimiser."""
    tensors = [tensor for weights in _weights(trainer).values() for tensor in weights.values()]
    moments = [p for group in trainer.optimiser.param_groups for p in group["params"]]
    return sum(t.numel() * t.element_size() for t in (*tensors, *moments, *moments))


def load_state(trainer: Resumable, path: Path, *, behind: bool = False) -> None:
    """Restore what `save_state` wrote into a trainer built from the same configuration.

    Raises CheckpointError when the file is missing, damaged, or of another experiment; LedgerBehind when the ledger has
    lost rows, with which `behind` puts up.
    """
    tensors, about = load_tensors(path, TrainingState)
    if about.objective != trainer.objective.name:
        raise CheckpointError(
            f'{path} does not fit this experiment: it is of objective "{about.objective}", '
            f'not "{trainer.objective.name}"'
        )
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        group, _, rest = key.partition("/")
        groups.setdefault(group, {})[rest] = value
    try:
        _restore(trainer, groups)
        _restore_temperature(trainer.context, about, path)
        if trainer.scale is not None and about.loss_scale is not None:
            stored = checked(about.loss_scale, LossScale, f"{path}: loss_scale", CheckpointError)
            vars(trainer.scale).update(vars(stored))
        trainer.oracle.load_state_dict(about.oracle, behind=behind)
    except (
        KeyError,
        IndexError,
        RuntimeError,
        ValueError,
        TypeError,
    ) as error:  # what torch says of tensors that do not fit
        raise CheckpointError(f"{path} does not fit this experiment: {error}") from error
    trainer.round, trainer.update, trainer.history = about.round, about.update, about.history
    trainer.stopped, trainer.out_of_time = about.stopped, was_time(about.stopped, about.out_of_time)


def _restore_temperature(context: Context, about: TrainingState, path: Path) -> None:
    """Put α where it was, where it follows a KL; ValueError where the checkpoint has none."""
    if (context.temperature is None) != (about.temperature is None):
        raise ValueError("one has alpha, the other target_kl")
    if context.temperature is None or about.temperature is None:
        return
    stored = checked(about.temperature, Temperature, f"{path}: temperature", CheckpointError)
    if stored.target_kl != context.temperature.target_kl:
        raise ValueError(f"it was saved with target_kl = {stored.target_kl:g}")
    vars(context.temperature).update(vars(stored))
    if stored.begun:
        context.target = replace(context.target, alpha=stored.alpha)


def _restore(trainer: Resumable, groups: dict[str, dict[str, Tensor]]) -> None:
    """Put the tensors of a checkpoint, by group, where they came from; ValueError where they do not fit."""
    weights = _weights(trainer)
    if ("value" in groups) != ("value" in weights):
        raise ValueError("one has a learned value, the other has none")
    for name, own in weights.items():
        if name == "value":  # it has centres that are NaN before any score
            trainer.context.value_as(nn.Module).load_state_dict(groups[name])
            continue
        for key, tensor in own.items():  # the first checkpoints held what is frozen too
            if not bool(groups[name][key].isfinite().all()):
                raise ValueError(f"weights of the {name} are not finite")
            if groups[name][key].shape != tensor.shape:
                raise ValueError(f'"{key}" of the {name} has another shape')
            tensor.copy_(groups[name][key])
    optimiser = trainer.optimiser.state_dict()
    parameters = [p for group in trainer.optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in groups.get("optimiser", {}).items():
        index, _, name = key.partition("/")
        if value.dim() and value.shape != parameters[int(index)].shape:
            raise ValueError(f'the optimiser\'s "{key}" has another shape than its weights')
        state.setdefault(int(index), {})[name] = value
    trainer.optimiser.load_state_dict(optimiser | {"state": state})
    if trainer.context.screen is not None:
        trainer.context.screen.load_state(groups["screen"])
    trainer.context.generator.set_state(groups["generator"][""])
    rows = groups.get("memory", {})
    if len({value.shape[:1] for value in rows.values()}) > 1:
        raise ValueError("the rows of the replay differ in number")
    context = trainer.context
    rows = _as_declared({key: value.to(context.generator.device) for key, value in rows.items()}, context)
    if rows:
        check_rows(rows, context.memory.columns)
    context.memory.rows = rows


def _as_declared(rows: Batch, context: Context) -> Batch:
    """Return rows of a replay as objectives name them now: earlier ones kept log-weights in place of rewards."""
    rows = {{"design": "designs", "reward": "rewards"}.get(name, name): value for name, value in rows.items()}
    if "log_weight" in rows:
        log_weight = rows.pop("log_weight")
        rows["rewards"] = log_weight * context.target.alpha
        if "log_mix" in (context.memory.columns or ()):
            rows["log_mix"] = torch.zeros_like(log_weight)
    return rows
