"""What state the folder of a run is in, and what may be done with it."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

from biotilt.atomic import check_output
from biotilt.errors import CheckpointError, ConfigError, UntrustedRun
from biotilt.experiment import Experiment
from biotilt.files import read_json, write_json
from biotilt.folder import CHECKPOINTS, HISTORY, MADE, RECORD, TUNED, has_checkpoint, has_run, is_empty, shown
from biotilt.model import Model
from biotilt.provenance import digests, read_record, scores_version
from biotilt.tensors import load_tensors
from biotilt.training import Trainer
from biotilt.training.callbacks import Row
from biotilt.training.checkpoint import OUT_OF_TIME, STOPPED, StoredHistory, TrainingState, state_size, was_time
from biotilt.wiring import build_trainer


def check_run(experiment: Experiment, folder: Path) -> None:
    """Refuse, before a folder is touched, a run that could not start there, or not write what it makes."""
    _ = experiment.device
    trainer = build_trainer(experiment, None, precision="float32")  # nothing is computed
    if experiment.config.oracle.cache is not None:
        experiment.oracles.store(folder).close()
    check_output(folder / RECORD, _bytes_needed(trainer, folder))
    for name in MADE:  # what --overwrite deletes, too
        check_output(folder / name)


def _bytes_needed(trainer: Trainer, folder: Path) -> int:
    """Return what a run writes at least: two checkpoints, the one that is being written, and the model."""
    there = sum((folder / name).stat().st_size for name in (*CHECKPOINTS, TUNED) if (folder / name).is_file())
    weights = sum(t.numel() * t.element_size() for t in trainer.average.state_dict().values())
    return max(3 * state_size(trainer) + weights - there, 1 << 16)


def is_finished(folder: Path) -> bool:
    """Whether a run is over and its results are whole: else it goes on, which makes what is missing again.

    Without a checkpoint, a model is kept whatever else is damaged: it could not be made again for nothing.
    """
    if not (folder / TUNED).is_file():
        return False
    try:
        with contextlib.suppress(UntrustedRun):  # its file is whole, and what builds its network is not run for this
            Model.load(folder / TUNED)
    except CheckpointError:
        return False
    try:
        read_record(folder)
        read_history(folder)
    except CheckpointError:
        return not has_checkpoint(folder)
    return True


def write_history(folder: Path, rows: list[Row], stopped: str, out_of_time: bool) -> None:
    """Write `history.json`: a row a round; the last row of a run that ended early says why, and whether by its time."""
    told = {STOPPED: stopped, OUT_OF_TIME: out_of_time}
    write_json(folder / HISTORY, [*rows[:-1], rows[-1] | told] if stopped else rows)


def read_history(folder: Path) -> tuple[list[Row], str]:
    """Return the rows of a finished run, and why it ended early, "" when its budget ended it."""
    rows = read_json(folder / HISTORY, StoredHistory)
    stopped = str(rows[-1].get(STOPPED, "")) if rows else ""
    return [{key: value for key, value in row.items() if key not in (STOPPED, OUT_OF_TIME)} for row in rows], stopped


def seconds_at_checkpoint(folder: Path) -> float:
    """Return how long an unfinished run has taken, by the newest checkpoint that is whole; 0 without one."""
    for name in CHECKPOINTS:
        with contextlib.suppress(CheckpointError):
            _, about = load_tensors(folder / name, TrainingState)
            return about.history[-1]["seconds"] if about.history else 0.0
    return 0.0


def ended_by_time(folder: Path) -> bool:
    """Return whether its time limit ended a finished run."""
    rows = read_json(folder / HISTORY, StoredHistory)
    return bool(rows) and was_time(str(rows[-1].get(STOPPED, "")), rows[-1].get(OUT_OF_TIME))


def refuse_other(experiment: Experiment, folder: Path) -> None:
    """Raise ConfigError when a folder holds a finished run, or an unfinished one of another experiment."""
    if is_finished(folder):
        raise ConfigError(
            f"{folder} holds a finished run: judge it with `biotilt evaluate {shown(folder)}`, "
            f"give it more with `biotilt tune --resume {shown(folder)} --max-calls N`, name another folder, or say "
            "--overwrite"
        )
    other = f"{folder} holds an unfinished run"
    instead = "name another folder, or say --overwrite"
    try:
        before = read_record(folder)
    except CheckpointError:  # none, or one that cannot be read: then checkpoints say whose they are
        if _digest_of(folder) not in (None, *digests(experiment)):
            raise ConfigError(f"{other} of another experiment, by its checkpoint; {instead}") from None
        return
    now, then = (config.model_dump(mode="json", exclude_none=True) for config in (experiment.config, before.config))
    keys = sorted(
        (now.keys() | then.keys()) - {"task", "measures", "threads"}
    )  # what is measured at the end may change
    changed = [key for key in keys if now.get(key) != then.get(key)]
    if changed:
        raise ConfigError(f"{other} of another experiment (different: {', '.join(changed)}); {instead}")
    if before.reward_version != scores_version(experiment):
        raise ConfigError(f"{other} whose reward has changed since; {instead}")


def can_be_read(folder: Path) -> bool:
    """Whether a checkpoint is whole."""
    return bool(_checkpoints_read(folder))


def _digest_of(folder: Path) -> str | None:
    """Return by which experiment the newest checkpoint that can be read was made; None when none says."""
    return next((about.get("experiment") or None for about in _checkpoints_read(folder)), None)


def _checkpoints_read(folder: Path) -> list[dict[str, Any]]:
    """Return what the checkpoints that can be read say about themselves, the newest first."""
    found = []
    for name in CHECKPOINTS:
        with contextlib.suppress(CheckpointError):
            found.append(load_tensors(folder / name)[1])
    return found


def free_folder(experiment: Experiment, folder: Path) -> tuple[Path, str]:
    """Return where an experiment can be tuned without touching another run, and why there, "" when it is just free.

    That is `folder` when it holds nothing, or an unfinished run of this very experiment; else the first such one of
    folder-2, folder-3, …
    """
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if is_empty(place):
            return place, f"{folder} holds another run, which is kept; this one goes to {place}" if number > 1 else ""
        with contextlib.suppress(ConfigError):
            refuse_other(experiment, place)
            return place, f"{place} holds an unfinished run of this; going on with it" if has_run(place) else ""
    raise AssertionError("numbers do not end")
