"""More budget for a run that has spent its own, or is still at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from biotilt.digits import count, duration
from biotilt.errors import CheckpointError, ConfigError
from biotilt.experiment import Experiment
from biotilt.folder import MADE_BY_EVALUATE, TUNED, shown
from biotilt.folder_state import ended_by_time, is_finished, read_history, seconds_at_checkpoint
from biotilt.provenance import write_record


def with_budget(experiment: Experiment, max_calls: int | None, max_seconds: float | None) -> Experiment:
    """Return the experiment with so many calls and seconds in all; None leaves what it has.

    A run without a limit of time can be given any. Raises ConfigError where a budget is less than it has: what was
    spent cannot be taken back.
    """
    train, before = dict(experiment.config.train), experiment.config.build_train()
    if max_calls is not None:
        if max_calls < before.max_calls:
            raise ConfigError(f"max_calls: {max_calls} is less than the {before.max_calls} that the run began with")
        train["max_calls"] = max_calls
    if max_seconds is not None:
        limit = before.stop.seconds
        if limit is not None and max_seconds < limit:
            raise ConfigError(f"max_seconds: {max_seconds:g} is less than the {limit:g} that the run began with")
        train["stop"] = dict(train.get("stop", {})) | {"seconds": max_seconds}
    changed = replace(experiment, config=experiment.config.model_copy(update={"train": train}))
    changed.config.build_train()
    return changed


def reopen(experiment: Experiment, folder: Path) -> bool:
    """Make the run in a folder one of this budget; return whether it had ended, so that it begins anew to be told of.

    What judging made is deleted, since it tells of another model; the tuned model of the smaller budget is kept as
    `tuned.CALLS.safetensors`. Raises ConfigError where more budget would not make the run go on.
    """
    train, here, finished = experiment.config.build_train(), shown(folder), is_finished(folder)
    rows, stopped = read_history(folder) if finished else ([], "")
    seconds = rows[-1]["seconds"] if rows else seconds_at_checkpoint(folder)
    if stopped and not ended_by_time(folder):
        raise ConfigError(
            f"{here} ended early ({stopped}), which more budget does not change; start a run from {here / TUNED} "
            "with `[model] path`"
        )
    if train.stop.seconds is not None and seconds >= train.stop.seconds:
        raise ConfigError(
            f"{here} has taken {duration(seconds)}, and its limit is {duration(train.stop.seconds)}; give it more with "
            "--max-seconds"
        )
    if not finished:
        write_record(experiment, folder)
        return False
    spent = int(rows[-1]["calls"]) if rows else 0
    if len(rows) >= train.rounds:
        raise ConfigError(
            f"{here} has spent {count(spent)} calls, and {count(train.max_calls)} pay for no further round of "
            f"{train.batch}; give it more with --max-calls"
        )
    for name in MADE_BY_EVALUATE:
        (folder / name).unlink(missing_ok=True)
    try:
        (folder / TUNED).rename(folder / f"tuned.{spent}.safetensors")
    except OSError as error:
        raise CheckpointError(f"{folder / TUNED} cannot be renamed: {error}") from error
    write_record(experiment, folder)
    return True
