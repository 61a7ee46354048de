"""From an experiment to the loop that tunes it: oracles, constraints, the judge that watches, and the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from biotilt.assemble import objective_and_value
from biotilt.constraints import Adapting, Bounds, Constrained, Constraint, Tempered
from biotilt.core import Context, Metrics, Replay, Roles, Target
from biotilt.core.bounded import bounded
from biotilt.core.precision import Precision, computed_in, settled
from biotilt.core.protocols import CountingScorer
from biotilt.core.temperature import Temperature
from biotilt.experiment import Experiment
from biotilt.oracle import Ledger, Store
from biotilt.oracle.workers.isolation import reseed
from biotilt.provenance import digest, precision_said
from biotilt.repeatable import repeatable
from biotilt.screening import screen_for
from biotilt.training import Callback, Trainer

BEFORE = 1.0  # alpha of a run with target_kl while there are no scores; nothing is learned with it


def build_trainer(
    experiment: Experiment, folder: Path | None, callbacks: Sequence[Callback] = (),
    precision: Precision | None = None,
) -> Trainer:  # fmt: skip
    """Build the training loop; with `folder` it keeps its oracle, ledger and checkpoints there.

    `precision`: in which it computes; default: as the run in the folder does, or the experiment says.
    """
    config, device, model = experiment.config, experiment.device, experiment.model
    torch.manual_seed(config.seed)
    reseed()
    objective, value = objective_and_value(experiment)
    screen = screen_for(config, model, objective, value)
    model.policy.net.to(device)
    if isinstance(value, nn.Module):
        value.to(device)
    oracles, train = experiment.oracles, config.build_train()
    train = replace(train, precision=precision or precision_said(experiment, folder))
    store = oracles.store(folder)
    oracle: CountingScorer = oracles.of(experiment.reward, store, oracles.account(folder), max_calls=train.max_calls)
    if experiment.constraints:
        oracle = Constrained(oracle, _constraints(experiment, store, folder), config.build_lagrangian())
        objective = Adapting(objective, oracle)
    temperature = None if config.target_kl is None else Temperature(config.target_kl)
    if temperature is not None:
        objective = Tempered(objective, temperature)
    context = Context(
        Roles.start(model.policy), Target(oracle, config.alpha or BEFORE),
        torch.Generator(device).manual_seed(config.seed), Replay(objective.capacity), value, screen,
        experiment.model.reading, temperature,
    )  # fmt: skip
    settings = config.model_dump(mode="json", exclude_none=True)
    return Trainer(
        context, objective, train, oracle, folder, _monitor(experiment, store, folder), callbacks,
        experiment=digest(experiment), settings=settings,
    )  # fmt: skip


@contextmanager
def computing(experiment: Experiment, folder: Path | None = None) -> Iterator[None]:
    """Have networks compute inside as tuning does: in the precision of the run in `folder`, and in so much memory."""
    train = experiment.config.build_train()
    precision, _ = settled(precision_said(experiment, folder), experiment.model.policy.net)
    with computed_in(precision), bounded(train.memory), repeatable(experiment.device_here):
        yield


def ledgers(experiment: Experiment, folder: Path) -> tuple[Ledger, list[Ledger]]:
    """Return what tuning in this folder asked of the reward, and of each constraint."""
    oracles, bounds = experiment.oracles, experiment.bounds()
    store = oracles.store(folder)
    asked = [Ledger(store, oracles.account(folder, _bound(name)), reward.name) for name, _, reward in bounds]
    return Ledger(store, oracles.account(folder), experiment.reward.name), asked


def _constraints(experiment: Experiment, store: Store, folder: Path | None) -> list[Constraint]:
    found = []
    for name, section, reward in experiment.bounds():
        scorer = experiment.oracles.of(reward, store, experiment.oracles.account(folder, _bound(name)))
        found.append(Constraint(scorer, Bounds(name, section.at_least, section.at_most)))
    return found


def _bound(name: str) -> str:
    return f"constraint:{name}"


def _monitor(experiment: Experiment, store: Store, folder: Path | None) -> Callable[[Tensor], Metrics] | None:
    if experiment.held_out is None:
        return None
    judge = experiment.oracles.of(experiment.held_out, store, experiment.oracles.account(folder, "held_out"))

    def monitor(designs: Tensor) -> Metrics:
        scores = judge(designs)
        low, high = scores.nanquantile(torch.tensor([0.05, 0.95], device=scores.device))
        return {"held_out": scores.nanmean().item(), "held_out_spread": (high - low).item()}

    return monitor
