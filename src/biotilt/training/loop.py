"""The one training loop: collect designs, ask the oracle, update, again. It knows no algorithm by name."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from biotilt.core import (
    Context,
    Follows,
    Learned,
    Metrics,
    Objective,
    Round,
    draw_loss,
    move_toward,
    needed,
    own_names,
    sample,
    share,
    team,
    trainable,
)
from biotilt.core.bounded import bounded
from biotilt.core.precision import Precision, computed_in, settled
from biotilt.core.protocols import CountingScorer, Demanding, Unhurried
from biotilt.core.rows import RowCounter
from biotilt.errors import (
    BiotiltError,
    BudgetSpent,
    CallbackError,
    CheckpointError,
    ConfigError,
    LedgerBehind,
    NothingScored,
)
from biotilt.folder import CHECKPOINT, CHECKPOINT_BEFORE
from biotilt.options import BatchSize, Below1, Count, CountFrom0, Positive, Text, check_options
from biotilt.ranks import is_first
from biotilt.training.callbacks import Callback, Row, RunInfo, Told
from biotilt.training.checkpoint import load_state, save_state
from biotilt.training.scaling import LEAST, LossScale
from biotilt.training.stopping import EarlyStopping

ROWS = "network_rows"
Trackers = tuple[Text | Mapping[str, Any], ...]


@dataclass(frozen=True)
class TrainConfig:
    """`max_calls` oracle calls in rounds of `batch`; after each round the objective's updates.

    `lr` of the policy with `schedule` (constant, linear or cosine to a tenth) after `warmup` updates; gradients
    are clipped to norm `clip` for the policy and the value apart; `ema` in [0, 1) averages the policy's weights,
    and the average is what is saved. A checkpoint is written every `checkpoint_every` rounds. With `overlap` the
    updates on the designs of earlier rounds are made while the oracle scores those of this one, which needs an oracle
    with workers to be of use, and an objective that learns from replay. `stop` ends the run before its budget is spent.
    An update keeps about `memory` megabytes of activations for its gradient: of what needs more, a part is computed
    again in the backward pass, with the same gradient and up to a third more time. Without a gradient a quarter of it
    is taken at a time. Networks compute in `precision`, and log-probabilities, losses and weights are in float32;
    "auto" is bfloat16 for large networks where the machine is measured to be faster with it (`core.precision`).
    `trackers`, names or tables with a `name` and options, are what `biotilt.tune` sends the figures to.
    """

    max_calls: Count = 1024
    batch: BatchSize = 64
    lr: Positive = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: CountFrom0 = 10
    clip: Positive = 1.0
    ema: Below1 = 0.95
    checkpoint_every: Count = 1
    overlap: bool = False
    stop: EarlyStopping = field(default_factory=EarlyStopping)
    trackers: Trackers = ("tensorboard",)
    memory: Count = 1000
    precision: Precision | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        check_options(self, "train")
        if self.batch > self.max_calls:
            raise ConfigError(f"train.batch: {self.batch} is larger than train.max_calls, {self.max_calls}")

    @property
    def rounds(self) -> int:
        """Full rounds that the budget pays for."""
        return self.max_calls // self.batch

    def rate(self, update: int, total: int) -> float:
        """Return the factor on the learning rate at an update in [0, total)."""
        warm = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        progress = update / max(total, 1)
        shape = {
            "constant": 1.0,
            "linear": 1 - 0.9 * progress,
            "cosine": 0.1 + 0.45 * (1 + math.cos(math.pi * progress)),
        }[self.schedule]
        return warm * shape


@dataclass
class Trainer:
    """Tunes `context.roles.policy` by an objective.

    `oracle` is the context's scorer, with its accounts. `monitor` scores the designs of a round by a held-out oracle:
    `held_out`, its mean, and `held_out_spread` are shown and never learned from. `callbacks` are told of every round
    by its row, `round, calls, network_rows, reward, held_out, kl, seconds, …`, of which calls, rows and seconds are
    those of the run so far, and may end the run; `stopped` then says why, and `out_of_time` whether that was its time
    limit. With `folder` the run can be resumed from its last checkpoint, bit for bit; the one before it is kept, should
    that be damaged. `experiment` is written into checkpoints, to know them by; `settings` are for callbacks.
    """

    context: Context
    objective: Objective
    config: TrainConfig
    oracle: CountingScorer
    folder: Path | None = None
    monitor: Callable[[Tensor], Metrics] | None = None
    callbacks: Sequence[Callback] = ()
    history: list[Row] = field(default_factory=list)
    round: int = 0
    update: int = 0
    experiment: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    stopped: str = ""
    out_of_time: bool = False

    def __post_init__(self) -> None:
        policy = self.context.roles.policy
        self.objective.check_calls(self.config.batch)
        if self.config.overlap and self.objective.capacity is None:
            raise ConfigError(
                f'train.overlap: "{self.objective.name}" learns from designs of the newest policy only, so it has '
                "nothing to do while they are scored; leave the key out, or take an objective that keeps a replay"
            )
        if self.config.stop.hacking and self.monitor is None:
            raise ConfigError("train.stop.hacking: there is no held-out oracle to tell it by; add [held_out]")
        self.context.memory.columns = self.objective.columns(self.context.value)
        if self.config.overlap and team.several():
            raise ConfigError("train.overlap: several processes ask one oracle, and wait for it; leave the key out")
        precision, said = team.from_first(lambda: settled(self.config.precision, policy.net))
        self.precision: Precision = precision
        if said and is_first():
            warnings.warn(said, stacklevel=3)
        self.scale = LossScale() if self.precision == "float16" else None
        self.own = own_names(policy.net)
        if not self.own:
            raise ConfigError(
                "no weight of this network can be trained: every requires_grad is false; set some, or add adapters"
            )
        own = [p for p in policy.net.parameters() if p.requires_grad]
        self._groups: list[dict[str, Any]] = [{"params": own, "lr": self.config.lr}]
        for module in trainable(self.context)[1:]:
            module.eval()
            if parameters := [p for p in module.parameters() if p.requires_grad]:
                self._groups.append({"params": parameters, "lr": needed(module, Learned).config.lr})
        self._rates = [group["lr"] for group in self._groups]
        self._optimiser: torch.optim.Optimizer | None = None
        self.average: nn.Module = share(policy.net).requires_grad_(False)
        self._before = 0.0
        self._asked = RowCounter.of(self.context)
        self._rows_before: float | None = 0
        self._keep = True

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """What takes the steps, in one pass over the weights; made when it is needed, since torch then imports more."""
        made = self._optimiser or torch.optim.Adam(self._groups, fused=True)
        self._optimiser = made
        return made

    @property
    def checkpoint(self) -> Path:
        if self.folder is None:
            raise BiotiltError("this run has no folder, so it keeps no checkpoint")
        return self.folder / CHECKPOINT

    @property
    def checkpoint_before(self) -> Path:
        return self.checkpoint.with_name(CHECKPOINT_BEFORE)

    def resume(self) -> str:
        """Continue from the last checkpoint that is whole; return what was amiss, "" when nothing was.

        A ledger that has lost its last rows is met by the checkpoint before. Where none fits it, the run goes on from
        the newest, and the designs whose rows are lost may be asked, and counted, again. Raises CheckpointError when
        there is no checkpoint, or none that is whole and of this experiment.
        """
        errors: list[CheckpointError] = []
        for behind in (False, True):
            for path in (self.checkpoint, self.checkpoint_before):
                try:
                    load_state(self, path, behind=behind)
                except CheckpointError as error:
                    errors.append(error)
                    continue
                last: Row = self.history[-1] if self.history else {"seconds": 0.0, ROWS: 0}
                self._before = last["seconds"]
                self._rows_before = last.get(ROWS)  # the first versions did not count them: their runs never do
                # the next checkpoint replaces a damaged one, not the good one before it
                self._keep = path == self.checkpoint
                return f"{errors[0]}; went on from {path}, round {self.round}" if errors else ""
            if not any(isinstance(error, LedgerBehind) for error in errors):
                break
        raise errors[0]

    def run(self) -> nn.Module:
        """Run to the end of the budget, or until a callback stops it; return the averaged policy network.

        A spent budget ends the run cleanly. An interrupt leaves the last checkpoint, from which `resume` goes on, and
        so does a callback that fails, that of the round it failed in. Raises NothingScored, at the latest here, when no
        design got a finite score.
        """
        started = time.perf_counter()
        roles, value = self.context.roles, self.context.value
        given = [roles.base.net, roles.policy.net, roles.proposal.net, self.average]
        team.as_the_first(given + ([value] if isinstance(value, nn.Module) else []))
        callbacks = (self.config.stop, *self.callbacks) if is_first() else ()
        with Told(callbacks, self._info()) as told, self._asked, computed_in(self.precision):
            while self.round < self.config.rounds and not self.stopped:
                try:
                    self._one_round(started)
                except BudgetSpent as spent:
                    if not self.history:
                        raise ConfigError(
                            f"train.max_calls does not pay for one round of this objective: {spent}"
                        ) from spent
                    break
                fault: CallbackError | None = None
                try:
                    fault = told.round(self.history)
                finally:
                    self.stopped, self.out_of_time = told.stopped, told.out_of_time
                    self._close_round(at_once=bool(self.stopped) or fault is not None)
                self.stopped, self.out_of_time = team.from_first(partial(self._said, fault))
            told.stopped = self.stopped  # of a run that was stopped before it was interrupted
            self._require_scores()
        for name in self.own:  # as in the network that tuning started from
            self.average.get_parameter(name).requires_grad_(True)
        return self.average

    def _info(self) -> RunInfo:
        config, name = self.config, str(self.settings.get("name", "run"))
        return RunInfo(
            name, self.objective.name, config.rounds, config.max_calls, self.folder, self.settings, tuple(self.history)
        )

    def _one_round(self, started: float) -> None:
        """Collect designs, learn from them, and add the round's row to the history."""
        collected, figures = self._collect()
        self.context.memory.add(collected.rows)
        self.round += 1
        if not self.config.overlap or self.round == self.config.rounds:  # those of the last round teach something too
            figures = self._updates()
        metrics = collected.metrics | figures
        if self.context.screen is not None:
            metrics |= self.context.screen.figures()
        row: Row = {"round": self.round, "update": self.update, "calls": self.oracle.calls, **metrics}
        if self._rows_before is not None:
            row[ROWS] = self._rows_before + int(team.total(self._asked.total.total))
        if self.monitor is not None:
            row |= self.monitor(collected.designs)
        team.require_agreement(lambda: f"{row} {collected.designs.tolist()}")
        row["seconds"] = team.from_first(lambda: self._before + time.perf_counter() - started)
        self.history.append(row)

    def _close_round(self, at_once: bool) -> None:
        """Write a checkpoint, when there is a folder and it is time for one or it is to be written `at_once`."""
        if self.stopped and self.config.overlap and self.round < self.config.rounds:
            self._updates()  # the designs of this round, which is the last now
        due = self.round == self.config.rounds or self.round % self.config.checkpoint_every == 0
        if self.folder is not None and (due or at_once) and is_first():
            save_state(self, self.checkpoint, self.checkpoint_before if self._keep else None)
            self._keep = True

    def _said(self, fault: CallbackError | None) -> tuple[str, bool]:
        """Return why callbacks end the run, "" where they do not, and whether that is its time; raise their error."""
        if fault is not None:
            raise fault
        return self.stopped, self.out_of_time

    def _require_scores(self) -> None:
        """Raise NothingScored at the end of a run that has learned nothing."""
        if isinstance(self.oracle, Demanding):
            self.oracle.require_scores()
        if self.update == 0:
            raise NothingScored(
                f"no design of {self.round} rounds got a score from the reward and every constraint, so nothing was "
                "learned; loosen a constraint, or start from a model that draws feasible designs"
            )

    def _collect(self) -> tuple[Round, Metrics]:
        """Collect designs with their scores; return them and the figures of updates made while they were scored."""
        figures: Metrics = {}
        if self.config.overlap:
            needed(self.oracle, Unhurried).meanwhile = lambda: figures.update(self._updates())
        with bounded(self.config.memory):
            collected = self.objective.collect(self.context, self.config.batch)
        if self.monitor is not None and not len(collected.designs):  # before the updates, as those of other objectives
            designs = sample(self.context.roles.proposal, self.config.batch, self.context.generator)
            collected = replace(collected, designs=designs)
        return collected, figures

    @torch.enable_grad()  # while the oracle works, objectives are inside no_grad
    def _updates(self) -> Metrics:
        """Do one round's updates; return the mean of their figures."""
        if len(self.context.memory) == 0:  # nothing could be scored yet; the oracle stops a hopeless run
            return {}
        total = self.config.rounds * self.objective.updates
        sums: Metrics = {}
        for _ in range(self.objective.updates):
            factor = self.config.rate(self.update, total)
            for group, rate in zip(self.optimiser.param_groups, self._rates):
                group["lr"] = rate * factor
            metrics = self._one_update()
            self.update += 1
            self._follow()
            for key, value in metrics.items():
                sums[key] = sums.get(key, 0.0) + value
        return {key: value / self.objective.updates for key, value in sums.items()}

    def _one_update(self) -> Metrics:
        """Take one step down the gradient of a loss; return its figures."""
        with bounded(self.config.memory):
            loss, metrics = draw_loss(self.objective, self.context)
            self._require_finite("loss", loss.item())
            self.optimiser.zero_grad(set_to_none=True)
            (loss if self.scale is None else self.scale.up(loss)).backward()
        team.sum_gradients(trainable(self.context))
        if self._overflown():
            return metrics
        for module in trainable(self.context):
            norm = float(nn.utils.clip_grad_norm_(module.parameters(), self.config.clip))
            # a finite loss can have an infinite gradient, which would spoil the next checkpoint
            self._require_finite("gradient", norm)
            if module is self.context.roles.policy.net:
                metrics = metrics | {"gradient": norm}
        self.optimiser.step()
        return metrics

    def _overflown(self) -> bool:
        """Bring gradients to their own size, and return whether 16 bits did not hold them: the update is left out."""
        if self.scale is None:
            return False
        if self.scale.down(p for group in self._groups for p in group["params"]):
            return False
        if self.scale.factor < LEAST:
            self._require_finite("gradient", math.inf)
        return True

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise BiotiltError(
                f"the {what} became {value} at update {self.update}; lower train.lr or raise alpha. "
                "The last checkpoint is kept"
            )

    def _follow(self) -> None:
        """Let what lags behind the weights take its step: the average, a value's slow copy, the proposal."""
        decay = min(self.config.ema, (1 + self.update) / (10 + self.update))
        move_toward(self.average, self.context.roles.policy.net, 1 - decay)
        if isinstance(self.context.value, Follows):
            self.context.value.follow()
        if self.update % self.objective.refresh_every == 0:
            self.context.roles.refresh_proposal()
