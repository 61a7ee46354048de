"""Runs: tune an experiment into a folder, resume it, load it a year later, and judge what it made."""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biotilt.config import Config
from biotilt.designs import Record, write_designs
from biotilt.errors import CheckpointError, ConfigError
from biotilt.experiment import ACCOUNTS, RECORD, Experiment, fixed_positions
from biotilt.files import read_json, write_json
from biotilt.model import Model
from biotilt.oracle import Oracle
from biotilt.training.loop import Row

TUNED = "tuned.safetensors"
HISTORY = "history.json"
FAILURES = "failures.csv"


@dataclass
class Run:
    """A finished run in its folder: the experiment, the tuned model and one figure row a round."""

    folder: Path
    experiment: Experiment
    model: Model
    history: list[Row]

    @classmethod
    def load(cls, folder: Path | str, *, reward: Any = None, held_out: Any = None) -> Run:
        """Load a finished run; CheckpointError when it has not finished (resume it) or is no run."""
        folder = Path(folder)
        experiment = Experiment.recorded(folder, reward=reward, held_out=held_out)
        return cls(folder, experiment, _tuned(folder), read_json(folder / HISTORY))

    def sample(self, count: int, *, seed: int = 0) -> list[str]:
        """Return `count` fresh designs of the tuned model."""
        return self.model.sample(count, seed=seed)

    def evaluate(self, *, samples: int | None = None) -> dict[str, Any]:
        """Judge base, best-of-N and tuned side by side; write designs, `summary.json` and `report.html`.

        Returns the content of `summary.json`. `samples`: designs a row, default `output.samples`.
        """
        from biotilt.outputs import evaluate

        count = self.experiment.config.output.samples if samples is None else samples
        if count < 2:
            raise ConfigError(f"samples: a row of the table needs at least 2 designs, got {count}")
        with closing(self.experiment):
            return evaluate(self, count)


def load_model(path: Path | str) -> Model:
    """Load a generator: a safetensors file, or the folder of a finished run."""
    path = Path(path)
    return _tuned(path) if path.is_dir() else Model.load(path)


def _tuned(folder: Path) -> Model:
    """Load what a run made, with its fixed positions; it needs neither the reward nor the pretrained model."""
    if not (folder / RECORD).is_file():
        raise CheckpointError(f"{folder} is not the folder of a run: it has no {RECORD}")
    if not (folder / TUNED).is_file():
        raise CheckpointError(f"{folder} has not finished; go on with `biotilt tune --resume {folder}`")
    model = Model.load(folder / TUNED)
    config = Config.model_validate(read_json(folder / RECORD)["config"])
    return model.with_fixed(fixed_positions(config, model))


def tune(
    experiment: Experiment | Path | str,
    folder: Path | str,
    *,
    overwrite: bool = False,
    report: Callable[[Row], None] = lambda row: None,
    reward: Any = None,
) -> Run:
    """Tune an experiment (or the file of one) into `folder`; an unfinished run there goes on where it stopped.

    `reward`: a Python callable that replaces the experiment's. `report(row)` is called after every round.
    Interrupted (Ctrl-C, SIGTERM, kill -9), the folder keeps its last checkpoint: call again to go on. Raises
    ConfigError when the folder holds another experiment or a finished run; `overwrite` starts anew.
    """
    folder = Path(folder)
    if not isinstance(experiment, Experiment):
        experiment = Experiment.load(experiment, reward=reward)
    elif reward is not None:
        raise ConfigError("give the reward to the Experiment, or the path of an experiment file to tune")
    _ = experiment.device  # before anything is deleted
    if overwrite:
        _clear(folder)
    _refuse_other(experiment, folder)
    trainer = experiment.trainer(folder, report)
    experiment.record(folder)
    if trainer.checkpoint.is_file():
        trainer.resume()
    else:
        # a run killed before its first checkpoint starts over; its ledger must too
        trainer.oracle.load_state_dict({"position": 0, "calls": 0})
    with closing(experiment), _log_to_tensorboard(trainer, folder), _terminate_like_interrupt():
        net = trainer.run()
    accounts = trainer.oracle.accounts() | {"reasons": trainer.oracle.ledger.failures()}
    policy = experiment.model.policy
    model = Model(type(policy)(policy.process, net), experiment.model.codec)
    _write_failures(trainer.oracle, folder)
    write_json(folder / HISTORY, trainer.history)
    write_json(folder / ACCOUNTS, accounts)
    model.save(folder / TUNED)
    return Run(folder, experiment, model, trainer.history)


def resume(
    folder: Path | str,
    *,
    report: Callable[[Row], None] = lambda row: None,
    reward: Any = None,
    held_out: Any = None,
) -> Run:
    """Go on with the run in `folder`, bit for bit as if it had never stopped."""
    folder = Path(folder)
    return tune(Experiment.recorded(folder, reward=reward, held_out=held_out), folder, report=report)


def _write_failures(oracle: Oracle, folder: Path) -> None:
    """Write every design that could not be scored, with the reason, if there is any."""
    failed = [row for row in oracle.ledger.rows() if not row.cached and math.isnan(row.score)]
    if failed:
        records = [Record(f"call_{row.position}", row.design, {"reason": row.reason}) for row in failed]
        write_designs(folder / FAILURES, records)


def _clear(folder: Path) -> None:
    """Delete the files of an earlier run, and nothing else that a user may keep there."""
    # a journal that outlived its database would be played back into the new one
    oracle = ("oracle.sqlite", "oracle.sqlite-journal")
    results = (FAILURES, ACCOUNTS, "summary.json", "report.html", "designs.csv", "designs.fasta")
    for name in (RECORD, TUNED, HISTORY, "checkpoint.safetensors", *oracle, *results):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _refuse_other(experiment: Experiment, folder: Path) -> None:
    if (folder / TUNED).is_file():
        raise ConfigError(f"{folder} holds a finished run; name another folder, or say --overwrite")
    if not (folder / RECORD).is_file():
        return
    before = read_json(folder / RECORD)
    now = experiment.config.model_dump(mode="json", exclude_none=True)
    then = before["config"]
    changed = [k for k in sorted(now.keys() | then.keys()) if k != "task" and now.get(k) != then.get(k)]
    if changed:
        raise ConfigError(
            f"{folder} holds an unfinished run of another experiment (different: {', '.join(changed)}); "
            "name another folder, or say --overwrite"
        )
    if before["reward_version"] != experiment.scores_version:
        raise ConfigError(
            f"{folder} holds an unfinished run whose reward has changed since; name another folder, or say --overwrite"
        )


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, so that a cluster's stop leaves a run as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _log_to_tensorboard(trainer: Any, folder: Path) -> Iterator[None]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder / "tensorboard", purge_step=trainer.round)
    show = trainer.report

    def report(row: Row) -> None:
        for key, value in row.items():
            if key not in ("round", "calls"):
                writer.add_scalar(key, value, int(row["calls"]))
        show(row)

    trainer.report = report
    try:
        yield
    finally:
        writer.close()
        trainer.report = show
