"""A look at an experiment before it is run: does it work, what will it cost, what looks wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from biotilt import trial
from biotilt.auto import choose, facts_of, in_words
from biotilt.core import sample
from biotilt.errors import Problems
from biotilt.evaluation.attainable import attainable, below_choosing
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.panel import measure_all
from biotilt.experiment import Experiment
from biotilt.formulas.tilting import alpha_of_kl
from biotilt.oracle import Oracle, Store
from biotilt.rewards import NamedReward
from biotilt.screening import view_of
from biotilt.screens.gaussian_process import most_likely
from biotilt.screens.kernels import similarity
from biotilt.training import TrainConfig
from biotilt.trial import seconds_of_round
from biotilt.wiring import build_trainer

# Below a fiftieth of the rewards' spread few designs carry all the weight exp(r/α); above ten times it all
# weigh the same.
ALPHA_LOW, ALPHA_HIGH = 0.02, 10.0
CHEAP = 1.0  # seconds that a first call takes, up to which others are asked for again, to be timed without warming up
TELLING = 64  # designs of the base, fewer of which tell too little of the best that there are
PROBE = 256  # fewer leave most of the variance even where scores teach much (benchmarks/probe.py)


def check(experiment: Experiment, *, designs: int = 16) -> dict[str, Any]:
    """Score `designs` ≥ 2 designs of the base and try one round in memory; no file is written.

    Where scoring is cheap, half as many more are scored, for the clock: a first call may have to warm up.

    The round is of full size, but its networks are counted and its designs not scored (`biotilt.trial`); the update is
    a real one.

    Returns `base` (statistics of the scores by `optimised` and `held_out`), `estimate` (`calls` of tuning,
    `evaluation_scores` after it, `seconds` of tuning, `memory_mb` or None), `attainable` (what perfect tuning would
    have at this alpha, or at that of target_kl, by the scores of the base; `biotilt.evaluation.attainable`),
    `chosen` (what "auto" chose, and why) and `problems`, sentences.

    Raises BiotiltError for anything that would stop the run in its first round.
    """
    train = experiment.config.build_train()
    for tracker in experiment.config.build_trackers():
        tracker.require()
    experiment.model.policy.net.to(experiment.device)
    generator = torch.Generator(experiment.device).manual_seed(experiment.config.seed)
    tokens = sample(experiment.model.policy, designs, generator)
    others = sample(experiment.model.policy, max(1, designs // 2), generator)  # for the clock: known ones take no time
    store = Store(None)  # of both: they may read columns of one source
    of_base, scores = _score(experiment, "optimised", store, tokens, others)
    scored = {"optimised": of_base}
    if experiment.held_out is not None:
        scored["held_out"], _ = _score(experiment, "held_out", store, tokens, others)
    per_design = sum(s["seconds"] for s in scored.values())
    seconds = _estimate_seconds(experiment, train, store, (tokens, others), per_design)
    samples, calls = experiment.config.output.samples, train.rounds * train.batch
    alpha = _alpha(experiment, scores)
    given = None if alpha is None else attainable(scores, alpha, min(samples, calls // 3) / calls)
    below = below_choosing(given, scores) if given is not None and given["designs"] >= TELLING else None
    return {
        "base": scored,
        "example": experiment.model.space.label(experiment.model.decode(tokens[:1])[0]),
        "estimate": {
            "calls": calls,
            "evaluation_scores": 2 * samples + calls,
            "seconds": seconds,
            "memory_mb": peak_memory(),
        },
        "attainable": given,
        "chosen": experiment.chosen,
        "problems": [
            *_problems(experiment, train, scored),
            *([below] if below else []),
            *_measured(experiment, store, tokens),
            *_reconsidered(experiment, of_base["seconds"], torch.tensor(scores), tokens),
        ],
    }


def peak_memory() -> float | None:
    """Return the most memory this process has used, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)


def _score(
    experiment: Experiment, which: str, store: Store, tokens: torch.Tensor, others: torch.Tensor
) -> tuple[dict[str, Any], list[float]]:
    """Return what one reward says of designs, `seconds` a design, and its scores."""
    reward = experiment.held_out if which == "held_out" else experiment.reward
    assert reward is not None
    oracle = experiment.oracles.of(reward, store, f"check:{which}")
    scores, seconds = _scored(oracle, tokens, others)
    finite = scores[scores.isfinite()]
    about = {
        "name": reward.name,
        "mean": finite.mean().item() if len(finite) else None,
        "std": finite.std(correction=0).item() if len(finite) else None,
        "unscored": int(scores.isnan().sum()),
        "infeasible": int(scores.isneginf().sum()),
        "reasons": [reason for reason, _ in oracle.ledger.failures()],
        "nothing": oracle.nothing_scored,
        "seconds": seconds,
    }
    return about, scores.tolist()


def _estimate_seconds(
    experiment: Experiment, train: TrainConfig, store: Store, tokens: tuple[torch.Tensor, torch.Tensor],
    per_design: float,
) -> float:  # fmt: skip
    """Return the seconds of a run, by one round of its full size that is not paid for; constraints are asked once."""
    trainer = build_trainer(experiment, None)
    for name, _, reward in experiment.bounds():
        oracle = experiment.oracles.of(reward, store, f"check:constraint:{name}")
        per_design += _scored(oracle, *tokens)[1]
    if experiment.constraints:  # whose multipliers would ask them again
        trainer = build_trainer(replace(experiment, constraints=[]), None)
    return train.rounds * (seconds_of_round(trainer) + train.batch * per_design)


def _alpha(experiment: Experiment, scores: list[float]) -> float | None:
    """Return the α that is given, or that has the KL which is; None where the scores cannot tell."""
    config = experiment.config
    return alpha_of_kl(torch.tensor(scores), config.target_kl) if config.target_kl is not None else config.alpha


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
    elif spread is not None and alpha is not None and not ALPHA_LOW <= alpha / spread <= ALPHA_HIGH:
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


def _scored(oracle: Oracle, tokens: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the scores of some designs, and the seconds that one takes.

    The first call may load a model or start workers. Where it is cheap, others are asked for, and are what is timed.
    """
    scores, seconds = _timed(lambda: oracle(tokens))
    if seconds <= CHEAP:
        before = oracle.calls
        again = _timed(lambda: oracle(others))[1]
        if (asked := oracle.calls - before) > 0:
            return scores, again / asked
    return scores, seconds / len(tokens)


def _reconsidered(experiment: Experiment, seconds: float, scores: torch.Tensor, designs: torch.Tensor) -> list[str]:
    """Say what "auto" would choose now that some designs were scored, where that is something else."""
    if not experiment.chosen:
        return []
    unknown = part_unknown(experiment, scores, designs) if len(scores) >= PROBE else None
    facts = facts_of(experiment.config, experiment.model, [experiment.reward, *experiment.constraints])
    choice = choose(replace(facts, seconds=seconds, unknown=unknown))
    config = experiment.config
    if choice.objective == config.objective and (choice.screen is None) == (config.screen is None):
        return []
    return [
        f"auto chose before anything was scored; by the time and the scores of {len(scores)} designs it would choose "
        f"{in_words(choice)}, where {choice.reasons[0]}: name it, if you agree"
    ]


def part_unknown(experiment: Experiment, scores: torch.Tensor, designs: torch.Tensor) -> float | None:
    """Return the part of the variance of half of the scores that a process fitted to the other half leaves."""
    known = scores.isfinite()
    scores, designs, half = scores[known].double(), designs[known], int(known.sum()) // 2
    if half < 2 or scores[:half].std() == 0 or scores[half:].std() == 0:
        return None
    kernel = similarity(None, view_of(experiment.model))
    process = most_likely(kernel, kernel.read(designs[:half]), scores[:half])
    missed = process.predict(kernel.read(designs[half:]))[0] - scores[half:]
    return (missed.square().mean() / scores[half:].var(correction=0)).item()


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = trial.clock()
    return work(), trial.clock() - started
