"""Steering: designs of a sampler, which leaves the weights alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.assemble import sampler_and_value
from biotilt.config import Config
from biotilt.core import Context, Preparation, Prepares, Roles, Sampler, Target, Value, team
from biotilt.core.rows import RowCounter
from biotilt.core.space import Measured, Space
from biotilt.declared import Declaration
from biotilt.errors import ConfigError, RewardError
from biotilt.evaluation.levels import BestSoFar, Point, point
from biotilt.evaluation.tables import Designs
from biotilt.experiment import Experiment
from biotilt.model import Model
from biotilt.options import Count, check_option
from biotilt.oracle import Store
from biotilt.reuse import value_of_run
from biotilt.run import Run
from biotilt.screening import screen_for
from biotilt.wiring import computing


@dataclass
class Steered:
    """Designs with their scores (NaN where not scored) and weights, which sum to 1.

    `log_z`: log of Z where it is known, and its standard error. `warnings`: sentences about judges that gave no design
    a finite score, and a value that learned nothing. `calls`: all that the sampler asked, those included that its value
    learned from (`metrics["value_calls"]`); `network_rows`: the states that networks were given. `trail`: what it had
    cost at each request of the oracle, and the median of the best so far (`evaluation.levels`). `value_of`: the folder
    of the run whose value guided, "" for none. `store`: all scores that were asked for. `guarded`: the judge tells what
    designs should keep, so that the reward ranks them.

    >>> import biotilt
    >>> def share_of_g(designs):
    ...     return [design.count("G") / len(design) for design in designs]
    >>> experiment = biotilt.Experiment.for_task("utr", reward=share_of_g)
    >>> found = biotilt.steer(experiment, 3)
    >>> found.calls >= 3, found.document()["rewards"] == found.rewards
    (True, True)
    """

    designs: list[Any]
    rewards: list[float]
    weights: list[float]
    held_out: list[float] | None
    log_z: float | None
    log_z_error: float | None
    calls: int
    seconds: float
    metrics: dict[str, float]
    space: Space[Any]
    warnings: list[str] = field(default_factory=list)
    store: Store = field(default_factory=Store, repr=False, compare=False)
    value_of: str = ""
    network_rows: int = 0
    guarded: bool = False
    trail: list[Point] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the designs in the format of the suffix, ranked by the judge, or by the reward where there is none."""
        self.space.write(path, self.as_row().records())

    def as_row(self) -> Designs:
        """Return them as a row of a panel."""
        return Designs("steered", self.designs, self.rewards, self.held_out, weights=self.weights, guarded=self.guarded)

    @property
    def closest(self) -> float | None:
        """The distance of the two most alike designs, of texts in positions; None where there is none."""
        return (
            min(self.space.nearest_distances(self.designs), default=None) if isinstance(self.space, Measured) else None
        )

    def document(self) -> dict[str, Any]:
        """Return everything as JSON can hold it: null for a score that is not a number."""

        def plain(scores: list[float] | None) -> list[float | None] | None:
            return None if scores is None else [s if math.isfinite(s) else None for s in scores]

        found = {key: value for key, value in vars(self).items() if key not in ("space", "store")}
        told = {"designs": [self.space.key(design) for design in self.designs], "closest_pair": self.closest}
        return found | told | {"rewards": plain(self.rewards), "held_out": plain(self.held_out)}


def steer(
    experiment: Experiment,
    count: int,
    *,
    proposal: Model | None = None,
    value: Run | Path | str | None = None,
    report: Callable[[int], None] = lambda calls: None,
) -> Steered:
    """Draw `count` designs with the experiment's sampler, toward p_pre exp(r/α), without touching any weight.

    `proposal`: a tuned model that draws in place of the base; weights are still relative to the base.
    `value`: a tuned run, or its folder, whose learned value takes the place of the sampler's own; `reuse.value_of_run`
    says which fit. `report(calls)` is called whenever the oracle was asked. Raises ConfigError when the parts do not
    fit together, and NothingScored, with the most common reasons, when no design that the sampler asked about got a
    finite score.

    >>> import biotilt
    >>> def share_of_g(designs):
    ...     return [design.count("G") / len(design) for design in designs]
    >>> experiment = biotilt.Experiment.for_task("utr", reward=share_of_g, sampler={"name": "smc"})
    >>> found = steer(experiment, 4)
    >>> len(found.designs), round(sum(found.weights), 6)
    (4, 1.0)
    """
    check_option(Count, count, "", "count")
    team.join()
    alpha_given(experiment.config)
    with torch.random.fork_rng(devices=[]):  # weights of a value's network
        torch.manual_seed(experiment.config.seed)
        folder = value.folder if isinstance(value, Run) else None if value is None else Path(value)
        reused = None if folder is None else value_of_run(folder, experiment)
        sampler, guide = sampler_and_value(experiment, reused)
    if isinstance(guide, nn.Module):
        guide.to(experiment.device)
    started = time.perf_counter()
    base = experiment.model.policy
    base.net.to(experiment.device)
    roles = Roles.start(base)
    if proposal is not None:
        if proposal.policy.process != base.process:
            raise ConfigError(f"the proposal's process {proposal.policy.process} is not the base's {base.process}")
        roles.proposal = proposal.policy.frozen_view()
        roles.proposal.net.to(experiment.device)
    with closing(experiment), computing(experiment):
        found = _drawn(experiment, roles, sampler, guide, count, report, started)
    return found if folder is None else replace(found, value_of=str(folder))


def alpha_given(config: Config) -> float:
    """Return the temperature that a sampler aims at; ConfigError where none is given."""
    if config.alpha is None:
        raise ConfigError(
            "target_kl: tuning finds the alpha of a KL, and a sampler aims at one that is given; say alpha = … in its "
            "place (`biotilt check` tells which one has this KL)"
        )
    return config.alpha


def _drawn(
    experiment: Experiment, roles: Roles, sampler: Sampler, value: Value | None, count: int,
    report: Callable[[int], None], started: float,
) -> Steered:  # fmt: skip
    store = Store(None)  # of the reward and the judge: they may read columns of one source
    oracle = _Reporting(experiment, store, report, started)
    generator = torch.Generator(experiment.device).manual_seed(experiment.config.seed)
    screen = screen_for(experiment.config, experiment.model, sampler, value)
    target, reading = Target(oracle, alpha_given(experiment.config)), experiment.model.reading
    context = Context(roles, target, generator, value=value, screen=screen, reading=reading)
    told, oracle.asked = Preparation({}), RowCounter.of(context)
    try:
        with oracle.asked:
            if isinstance(value, Prepares):
                told = value.prepare(context)
            drawn = sampler.draw(context, count)
    except RewardError:
        oracle.oracle.require_scores()  # it can tell why no design has a weight
        raise
    oracle.oracle.require_scores()
    shown = {} if screen is None else screen.figures()
    designs = experiment.model.decode(drawn.designs)
    rewards, warnings = drawn.rewards, told.warnings
    if bool(rewards.isnan().all()):  # a sampler that never asked: show the scores, which are not part of its calls
        rewards = _judged(experiment, experiment.reward, store, drawn.designs, warnings)
    held_out = None
    if experiment.held_out is not None:
        held_out = _judged(experiment, experiment.held_out, store, drawn.designs, warnings)
    usable = drawn.log_weight.isfinite().any()
    weights = drawn.log_weight.softmax(0) if usable else torch.full_like(drawn.log_weight, math.nan)
    return Steered(
        designs, rewards.tolist(), weights.tolist(), None if held_out is None else held_out.tolist(), drawn.log_z,
        drawn.log_z_error, oracle.oracle.calls, time.perf_counter() - started, drawn.metrics | told.metrics | shown,
        experiment.model.space, warnings, store, network_rows=oracle.asked.total.total, trail=oracle.trail,
        guarded=experiment.held_out is not None and Declaration.by(experiment.held_out).guards,
    )  # fmt: skip


class _Reporting:
    """Asks an oracle in memory, says after each request how many calls were made, and keeps what it had cost.

    `asked` counts the network rows.
    """

    def __init__(self, experiment: Experiment, store: Store, report: Callable[[int], None], started: float):
        self.oracle = experiment.oracles.of(experiment.reward, store, "steering")
        self.asked = RowCounter()
        self.trail: list[Point] = []
        self._report, self._started, self._best = report, started, BestSoFar()

    def __call__(self, states: Tensor) -> Tensor:
        before = self.oracle.calls
        scores = self.oracle(states)
        for design, score in zip(states.detach().cpu().numpy(), scores.tolist()):
            self._best.add(design.tobytes(), score)
        if self.oracle.calls > before:
            seconds, rows = time.perf_counter() - self._started, self.asked.total.total
            cost = {"calls": self.oracle.calls, "seconds": seconds, "network_rows": rows}
            self.trail.append(point(cost, None, self._best))
        self._report(self.oracle.calls)
        return scores

    def relaxed(self, designs: Tensor) -> Tensor:
        return self.oracle.relaxed(designs)


def _judged(experiment: Experiment, reward: Any, store: Store, designs: Tensor, warnings: list[str]) -> Tensor:
    """Return scores `(B,)` that are no part of the sampler's calls; a judge that fails costs a warning, not designs."""
    oracle = experiment.oracles.of(reward, store, "judging")
    try:
        scores = oracle(designs)
        oracle.require_scores()
    except RewardError as error:
        warnings.append(str(error))
        infeasible = oracle.nothing_scored and not oracle.ledger.failed
        return torch.full((len(designs),), -torch.inf if infeasible else torch.nan)
    return scores
