"""A look at an experiment before it is run: does it work, what will it cost, what looks wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from biotilt.assemble import objective_and_value
from biotilt.constraints import unpriced
from biotilt.core import Density, StateValue, draw_loss, has, needed, rollout, sample
from biotilt.errors import NothingScored, Problems
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.panel import measure_all
from biotilt.experiment import Experiment
from biotilt.oracle import Oracle, Store
from biotilt.rewards import NamedReward
from biotilt.training import TrainConfig
from biotilt.wiring import build_trainer

# Below a fiftieth of the rewards' spread few designs carry all the weight exp(r/α); above ten times it all
# weigh the same.
ALPHA_LOW, ALPHA_HIGH = 0.02, 10.0


def check(experiment: Experiment, *, designs: int = 16) -> dict[str, Any]:
    """Score `designs` ≥ 2 designs of the base and take one small round in memory; no file is written.

    Returns `base` (statistics of the scores by `optimised` and `held_out`), `estimate` (`calls` of tuning,
    `evaluation_scores` after it, `seconds` of tuning, `memory_mb` or None), and `problems`, sentences.

    Raises BiotiltError for anything that would stop the run in its first round.
    """
    train = experiment.config.build_train()
    for tracker in experiment.config.build_trackers():
        tracker.require()
    experiment.model.policy.net.to(experiment.device)
    generator = torch.Generator(experiment.device).manual_seed(experiment.config.seed)
    tokens = sample(experiment.model.policy, designs, generator)
    store = Store(None)  # of both: they may read columns of one source
    scored = {"optimised": _score(experiment, "optimised", store, tokens)}
    if experiment.held_out is not None:
        scored["held_out"] = _score(experiment, "held_out", store, tokens)
    seconds = _estimate_seconds(experiment, train, {name: s["seconds"] for name, s in scored.items()})
    samples, calls = experiment.config.output.samples, train.rounds * train.batch
    return {
        "base": scored,
        "example": experiment.model.space.label(experiment.model.decode(tokens[:1])[0]),
        "estimate": {
            "calls": calls,
            "evaluation_scores": 2 * samples + calls,
            "seconds": seconds,
            "memory_mb": peak_memory(),
        },
        "problems": [*_problems(experiment, train, scored), *_measured(experiment, store, tokens)],
    }


def peak_memory() -> float | None:
    """Return the most memory this process has used, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)


def _score(experiment: Experiment, which: str, store: Store, tokens: torch.Tensor) -> dict[str, Any]:
    """Return what one reward says of designs; `seconds` a design."""
    reward = experiment.held_out if which == "held_out" else experiment.reward
    assert reward is not None
    oracle = experiment.oracles.of(reward, store, f"check:{which}")
    scores, seconds = _timed(lambda: oracle(tokens))
    finite = scores[scores.isfinite()]
    return {
        "name": reward.name,
        "mean": finite.mean().item() if len(finite) else None,
        "std": finite.std(correction=0).item() if len(finite) else None,
        "unscored": int(scores.isnan().sum()),
        "infeasible": int(scores.isneginf().sum()),
        "reasons": [reason for reason, _ in oracle.ledger.failures()],
        "nothing": oracle.nothing_scored,
        "seconds": seconds / len(tokens),
    }


def _estimate_seconds(experiment: Experiment, train: TrainConfig, per_design: dict[str, float]) -> float:
    """Take one round with few calls and two updates, and time its parts at the size of the run's."""
    objective, value = objective_and_value(experiment)
    asked, chains = 1, train.batch
    if isinstance(value, StateValue):  # as many chains as the calls pay for
        asked = value.calls
        chains = -(-train.batch // (asked * experiment.model.policy.process.steps + 1))
    batch = min(train.batch, max(8, 2 * asked))
    options = experiment.config.objective | {"updates": min(objective.updates, 2)}
    small = experiment.config.train | {"batch": batch, "max_calls": batch}
    config = experiment.config.model_copy(update={"objective": options, "train": small})
    trainer = build_trainer(replace(experiment, config=config), None)
    with suppress(NothingScored):  # of a few designs, which is told with the scores of the base
        trainer.run()
    context, roles = trainer.context, trainer.context.roles
    base = roles.base if has(roles.base.process, Density) else None
    _, drawing = _timed(lambda: rollout(roles.proposal, chains, context.generator, base=base))
    updating, rows = 0.0, context.memory.rows
    if len(context.memory):
        # a small round has few rows; a step of the run draws more of them, and may score designs itself
        copies = -(-(objective.batch_size or train.batch) // len(context.memory))
        needed(unpriced(trainer.oracle), Oracle).max_calls = None
        context.memory.rows = {key: torch.cat([value] * copies) for key, value in rows.items()}
        _, updating = _timed(lambda: draw_loss(trainer.objective, context)[0].backward())
    scoring = train.batch * sum(per_design.values())
    return train.rounds * (drawing + scoring + objective.updates * updating)


def _problems(experiment: Experiment, train: TrainConfig, scored: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    for which, scores in scored.items():
        if scores["unscored"]:
            reasons = "; ".join(scores["reasons"])
            found.append(f"{which}: {scores['unscored']} designs could not be scored: {reasons}")
        if scores["nothing"]:
            found.append(f"{which}: nothing to learn from: {scores['nothing']}")
        elif scores["infeasible"]:
            found.append(f"{which}: {scores['infeasible']} designs are infeasible (−inf)")
    spread, alpha = scored["optimised"]["std"], experiment.config.alpha
    if spread == 0:
        found.append("optimised: all designs of the base have the same score, so tuning has nothing to follow")
    elif spread is not None and not ALPHA_LOW <= alpha / spread <= ALPHA_HIGH:
        effect = "a few designs get all the weight" if alpha < spread else "tuning will hardly change anything"
        found.append(f"alpha = {alpha:g}, but scores of the base spread by {spread:.2g}: {effect}")
    if experiment.held_out is None:
        found.append("there is no held_out reward, so an exploited reward cannot be told from a real gain")
    if train.max_calls % train.batch:
        rest = train.max_calls % train.batch
        found.append(f"the last {rest} calls of train.max_calls do not fill a round of {train.batch}: unused")
    return found


def _measured(experiment: Experiment, store: Store, tokens: torch.Tensor) -> list[str]:
    """Return what is wrong with the measures of one's own, tried on designs of the base whose scores are in `store`."""
    if not experiment.measures:
        return []
    problems, model, judge = Problems(), experiment.model, experiment.held_out

    def known(reward: NamedReward) -> torch.Tensor:
        return experiment.oracles.of(reward, store, "check:measures")(tokens)

    designs = Judged(
        model.decode(tokens), space=model.space, optimised=known(experiment.reward),
        held_out=None if judge is None else known(judge), comparable=experiment.comparable,
    )  # fmt: skip
    measure_all(experiment.measures, [({"name": "the base"}, designs)], problems)
    return list(problems)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started
