"""Runs: tune an experiment into a folder, resume it, load it a year later, and judge what it made."""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biotilt import notebook
from biotilt.assemble import fixed_positions
from biotilt.atomic import check_output, remove_leftovers, write_each
from biotilt.budget import reopen, with_budget
from biotilt.constraints import unpriced
from biotilt.core import needed, team
from biotilt.core.space import Record, Space
from biotilt.errors import CheckpointError, ConfigError
from biotilt.experiment import Experiment
from biotilt.files import read_json, write_json
from biotilt.folder import (
    ACCOUNTS,
    FAILURES,
    MADE_BY_EVALUATE,
    RECORD,
    SUMMARY,
    TUNED,
    clear,
    has_checkpoint,
    shown,
)
from biotilt.folder_state import can_be_read, check_run, read_history, refuse_other, write_history
from biotilt.judge import alpha_of, task_card
from biotilt.lock import only_writer
from biotilt.model import Model
from biotilt.oracle import Oracle
from biotilt.portable import portable
from biotilt.progress import in_notebook
from biotilt.provenance import read_record, recorded, threads_of, write_record
from biotilt.repeatable import repeatable
from biotilt.schema import Summary
from biotilt.threads import at_work
from biotilt.training import Callback, Trainer
from biotilt.training.callbacks import Row
from biotilt.training.checkpoint import STOPPED
from biotilt.trust import is_own
from biotilt.tuning_progress import Progress
from biotilt.wiring import build_trainer, computing

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(repr=False)
class Run:
    """A finished run in its folder: the experiment, the tuned model and one row of figures a round.

    `stopped`: why it ended before its budget was spent, "" when it did not. `history`, `scored`, `designs` and `panel`
    are pandas DataFrames, which the extra `notebook` brings. In a notebook a run draws itself.

    >>> import biotilt, tempfile
    >>> experiment = biotilt.Experiment.for_task(
    ...     "utr", objective={"name": "ppo", "updates": 1}, train={"max_calls": 8, "batch": 8}
    ... )
    >>> run = biotilt.tune(experiment, f"{tempfile.mkdtemp()}/run")
    >>> [row["calls"] for row in run.rows], len(run.sample(3))
    ([8], 3)
    """

    folder: Path
    experiment: Experiment
    model: Model
    rows: list[Row]
    stopped: str = ""

    @classmethod
    def load(
        cls, folder: Path | str, *, reward: Any = None, held_out: Any = None, model: Any = None,
        measures: Iterable[Any] | None = None, trust: bool = False,
    ) -> Run:  # fmt: skip
        """Load a finished run; CheckpointError when it has not finished (resume it) or is no run.

        `measures`: functions of designs that `evaluate` shows besides, or again; the run need not be tuned anew.
        Raises UntrustedRun when somebody else made the folder and it names code to run, unless `trust`.
        """
        folder, place = Path(folder), Path(folder).absolute()
        experiment = recorded(folder, reward=reward, held_out=held_out, model=model, measures=measures, trust=trust)
        tuned = _tuned(place, trust=True)  # what its record names was trusted before
        with _made_again_by_resume(place):
            return cls(place, experiment, tuned, *read_history(place))

    @property
    def alpha(self) -> float:
        """The temperature: as given, or with `target_kl` that of the last round."""
        return alpha_of(self)

    @property
    def history(self) -> DataFrame:
        """A row a round: calls, mean reward, held-out mean, KL and what else was shown while it was tuned."""
        return notebook.frame([*self.rows[:-1], self.rows[-1] | {STOPPED: self.stopped}] if self.stopped else self.rows)

    @property
    def scored(self) -> DataFrame:
        """Every design that tuning asked the reward for, in order: its score, or the reason why it has none."""
        return notebook.scored(self)

    @property
    def designs(self) -> DataFrame:
        """The fresh tuned designs that `evaluate` drew and judged, the best first: `designs.csv`."""
        return notebook.designs(self)

    @property
    def panel(self) -> DataFrame:
        """The table of results that `evaluate` wrote: base, best-of-N, tuned and harvest, a row each."""
        return notebook.panel(self)

    def __repr__(self) -> str:
        return notebook.text(self)

    def _repr_html_(self) -> str:
        return notebook.html(self)

    def sample(self, count: int, *, seed: int = 0) -> list[Any]:
        """Return `count` fresh designs of the tuned model, drawn where it was tuned.

        On a machine without that device the processor draws, other designs of the same seed.
        """
        here = self.experiment.device_here
        self.model.policy.net.to(here)
        with computing(self.experiment, self.folder):
            return self.model.sample(count, seed=seed)

    def save_pretrained(self, folder: Path | str, *, title: str = "", overwrite: bool = False) -> None:
        """Write the tuned model as a folder for others, its card telling base, reward, α, KL, calls, data and limits.

        `Model.pretrained(folder)` reads it, without this run. What was judged so far (`evaluate`) is in the card.
        """
        from biotilt.report.card import about_run

        config, record = self.experiment.config, read_record(self.folder)
        judged = self.folder / SUMMARY
        about = about_run(
            portable(config.model_dump(mode="json", exclude_none=True)), self.rows[-1] if self.rows else {},
            read_json(judged, Summary) if judged.is_file() else None, reward=self.experiment.reward.name,
            alpha=self.alpha, base=task_card(self.experiment),
            sums={portable(path): value for path, value in record.sha256.items()},
        )  # fmt: skip
        self.model.save_pretrained(folder, title=title or config.name, about=about, overwrite=overwrite)

    def evaluate(self, *, samples: int | None = None) -> dict[str, Any]:
        """Judge base, best-of-N and tuned side by side; write designs, `summary.json` and `report.html`.

        Returns the content of `summary.json`. `samples`: designs a row, default `output.samples`.
        """
        from biotilt.outputs import evaluate

        count = self.experiment.config.output.samples if samples is None else samples
        if count < 2:
            raise ConfigError(f"samples: a row of the table needs at least 2 designs, got {count}")
        team.join()
        for name in MADE_BY_EVALUATE:
            check_output(self.folder / name)
        with only_writer(self.folder, "judging"), closing(self.experiment):
            remove_leftovers(self.folder)
            with at_work(threads_of(self.experiment, self.folder)), computing(self.experiment, self.folder):
                return evaluate(self, count)


def load_model(
    path: Path | str, *, factory: Callable[..., Model] | None = None, trust: bool = False
) -> Model:  # fmt: skip
    """Load a generator: the folder of a finished run, or whatever `Model.pretrained` reads.

    A network that is not one of ours is built by a function that the file names: give it as `factory`, or say `trust`
    to have it imported, which needs no saying for a run that this user made here. Raises UntrustedRun otherwise.

    >>> import biotilt, tempfile
    >>> model = biotilt.Experiment.for_task("utr").model
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> model.save(path)
    >>> load_model(path).sample(2, seed=1) == model.sample(2, seed=1)
    True
    """
    if (Path(path) / RECORD).is_file():
        return _tuned(Path(path), factory=factory, trust=trust)
    return Model.pretrained(path, factory=factory, trust=trust)


def _tuned(folder: Path, *, factory: Callable[..., Model] | None = None, trust: bool = False) -> Model:
    """Load what a run made, with its fixed positions; it needs neither the reward nor the pretrained model."""
    record = read_record(folder)
    config, trust = record.config, trust or is_own(record.config, record.base, record.mark)
    if not (folder / TUNED).is_file():
        raise CheckpointError(f"{folder} has not finished; go on with `biotilt tune --resume {shown(folder)}`")
    with _made_again_by_resume(folder):
        model = Model.load(folder / TUNED, factory=factory, trust=trust)
    return model.with_fixed(fixed_positions(config, model))


@contextmanager
def _made_again_by_resume(folder: Path) -> Iterator[None]:
    """Say of a damaged result how to get it again."""
    try:
        yield
    except CheckpointError as error:
        if not has_checkpoint(folder):
            raise
        raise CheckpointError(
            f"{error}; `biotilt tune --resume {shown(folder)}` makes it again from the checkpoint"
        ) from error


def tune(
    experiment: Experiment | Path | str,
    folder: Path | str,
    *,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
    reward: Any = None,
    model: Model | None = None,
    measures: Iterable[Any] | None = None,
) -> Run:
    """Tune an experiment (or the file of one) into `folder`; an unfinished run there goes on where it stopped.

    `callbacks` are told of every round, and may end the run. `progress`: whether to show how it goes; default: in a
    notebook. `reward`, `model`: objects that replace what the experiment's file names; `measures`: functions of designs
    that the table of results shows beside what it names. Interrupted (Ctrl-C, SIGTERM,
    kill -9), the folder keeps its last checkpoint: call again to go on. Raises ConfigError when the folder holds
    another experiment or a finished run; `overwrite` starts anew, once everything else has been checked. Raises
    FolderInUse when another process works there.

    >>> import biotilt, tempfile
    >>> def share_of_g(designs):
    ...     return [design.count("G") / len(design) for design in designs]
    >>> experiment = biotilt.Experiment.for_task(
    ...     "utr", reward=share_of_g, objective={"name": "ppo", "updates": 1}, train={"max_calls": 16, "batch": 8}
    ... )
    >>> run = tune(experiment, f"{tempfile.mkdtemp()}/run")
    >>> len(run.rows)
    2
    """
    if not isinstance(experiment, Experiment):
        experiment = Experiment.load(experiment, reward=reward, model=model, measures=measures)
    elif reward is not None or model is not None or measures is not None:
        raise ConfigError(
            "give the reward, the model and measures to the Experiment, or the path of an experiment file to tune"
        )
    return tune_in(experiment, folder, overwrite=overwrite, callbacks=callbacks, progress=progress)


def tune_in(
    experiment: Experiment,
    folder: Path | str,
    *,
    overwrite: bool = False,
    more: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
) -> Run:
    """Tune in a folder that only this process writes; `more`: the run there goes on with a larger budget."""
    team.join()
    folder = Path(folder).absolute()  # a reward may change the working folder
    told = [*experiment.config.build_trackers()]
    for tracker in told:
        tracker.require()
    show = [Progress()] if progress or (progress is None and in_notebook()) else []
    check_run(experiment, folder)
    with only_writer(folder, "tuning"), closing(experiment), _terminate_like_interrupt():
        again = team.from_first(lambda: _made_ready(experiment, folder, overwrite, more))
        with at_work(threads_of(experiment, folder)), repeatable(experiment.device):
            return _tune(experiment, folder, [*show, *told, *callbacks], again)


def _made_ready(experiment: Experiment, folder: Path, overwrite: bool, more: bool) -> bool:
    """Leave in a folder what a run may go on from; return whether one there had ended and is to go on."""
    if overwrite:
        clear(folder)
    again = more and reopen(experiment, folder)
    refuse_other(experiment, folder)
    remove_leftovers(folder)
    return again


def _tune(experiment: Experiment, folder: Path, callbacks: Sequence[Callback], again: bool) -> Run:
    """Tune in a folder that is free, or go on there, and write what people want of it."""
    trainer = build_trainer(experiment, folder, callbacks)
    write_record(experiment, folder, trainer.precision)
    _go_on(trainer, folder)
    if again:
        trainer.stopped, trainer.out_of_time = "", False
    net = trainer.run()
    policy = experiment.model.policy
    model = replace(experiment.model, policy=type(policy)(policy.process, net))
    write_each(  # what cannot be bought again first
        lambda: model.save(folder / TUNED),
        lambda: write_history(folder, trainer.history, trainer.stopped, trainer.out_of_time),
        lambda: write_json(folder / ACCOUNTS, _accounts(needed(unpriced(trainer.oracle), Oracle))),
        lambda: _write_failures(needed(unpriced(trainer.oracle), Oracle), experiment.model.space, folder),
    )
    return Run(folder, experiment, model, trainer.history, trainer.stopped)


def _go_on(trainer: Trainer, folder: Path) -> None:
    """Bring a new trainer to where the run in its folder stopped."""
    there = has_checkpoint(folder)
    if there != team.from_first(lambda: has_checkpoint(folder)):
        raise ConfigError(f"{folder} is not the same for all processes of this run: name one on a disk that they share")
    if there:
        try:
            amiss = trainer.resume()
        except CheckpointError as error:
            if can_be_read(folder):
                raise
            raise CheckpointError(
                f"{error}; no checkpoint is whole: delete it, and the run starts over with the scores it paid for"
            ) from error
        if amiss:
            warnings.warn(amiss, stacklevel=4)
    else:
        # a run killed before its first checkpoint starts over; its ledger must too
        trainer.oracle.load_state_dict({"position": 0, "calls": 0})


def _accounts(oracle: Oracle) -> dict[str, Any]:
    return oracle.accounts() | {"reasons": oracle.ledger.failures()}


def resume(
    folder: Path | str,
    *,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
    reward: Any = None,
    held_out: Any = None,
    model: Any = None,
    measures: Iterable[Any] | None = None,
    trust: bool = False,
    max_calls: int | None = None,
    max_seconds: float | None = None,
) -> Run:
    """Go on with the run in `folder`, bit for bit as if it had never stopped.

    `max_calls`, `max_seconds`: a larger budget, in all, than the run began with, or a limit of time for one that has
    none; a finished run goes on with it. Its
    learning rate then follows the schedule of the new budget, and the model of the old one is kept as
    `tuned.CALLS.safetensors`. Raises UntrustedRun when somebody else made the folder and it names code to run, unless
    `trust`; ConfigError when the budget is no larger.

    >>> import biotilt, tempfile
    >>> class Cut(biotilt.Callback):
    ...     def on_round(self, row, history):
    ...         raise OSError("the power was cut")
    >>> folder = f"{tempfile.mkdtemp()}/run"
    >>> experiment = biotilt.Experiment.for_task(
    ...     "utr", objective={"name": "ppo", "updates": 1}, train={"max_calls": 16, "batch": 8}
    ... )
    >>> biotilt.tune(experiment, folder, callbacks=[Cut()])
    Traceback (most recent call last):
    biotilt.errors.CallbackError: ...the power was cut...
    >>> [row["calls"] for row in resume(folder).rows]
    [8, 16]
    """
    experiment = recorded(Path(folder), reward=reward, held_out=held_out, model=model, measures=measures, trust=trust)
    more = max_calls is not None or max_seconds is not None
    if more:
        experiment = with_budget(experiment, max_calls, max_seconds)
    return tune_in(experiment, folder, more=more, callbacks=callbacks, progress=progress)


def _write_failures(oracle: Oracle, space: Space[Any], folder: Path) -> None:
    """Write every design that could not be scored, with the reason, if there is any."""
    failed = [row for row in oracle.ledger.rows() if not row.cached and math.isnan(row.score)]
    if failed:
        records = [
            Record(f"call_{row.position}", space.design_of(row.design), {"reason": row.reason}) for row in failed
        ]
        space.write(folder / FAILURES, records)


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
