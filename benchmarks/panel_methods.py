"""The methods of the panels: how each gets designs for so many oracle calls, and what it scored on the way."""

from __future__ import annotations

import importlib
import importlib.util
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from asked import Asked, Spent
from biotilt.core import Policy, path_kl, sample
from biotilt.core.space import Aligned
from biotilt.experiment import Experiment
from biotilt.keys import override
from biotilt.oracle import Ledger, Oracle, Store
from biotilt.steering import steer
from biotilt.wiring import build_trainer
from genetic import CHILDREN, FIRST, POPULATION, Genetic

ROUNDS = 7  # of refinement after its first, each of which costs a call a design with one child
Scores = dict[str, float]


@dataclass(frozen=True)
class Found:
    """`designs` that the method ends with, in the law of the method; `scored`: all that cost a call, in their order.

    `kls`: KL(law ‖ base) and KL(base ‖ law), nats, None where unknown.
    """

    designs: list[str]
    scored: Scores = field(default_factory=dict)
    kls: tuple[float | None, float | None] = (None, None)


def experiment_of(task: str, method: str, seed: int, calls: int, batch: int, changes: list[str]) -> Experiment:
    """Return the experiment of a task with a method in the place of its own objective, where it is another."""
    said = [f"seed={seed}", f"train.max_calls={calls}", f"train.batch={batch}"]
    data: dict[str, Any] = {"task": task} | KEYS.get(method, {})
    if method == "refinement":
        data |= {"sampler": {"name": "refinement", "children": 1, "rounds": ROUNDS}}
    return Experiment.from_dict(override(data, [*said, *changes]), Path())


# the options of its own objective that a task brings stay where the method is of that name
KEYS: dict[str, dict[str, Any]] = {
    "ppo": {"objective": {"name": "ppo"}},
    "vidd": {"objective": {"name": "vidd"}},
    "evolve": {"objective": {"name": "evolve"}},
    "evolve_gp": {"objective": {"name": "evolve"}, "screen": {"name": "gp"}},
    "auto": {"objective": {"name": "auto"}},
    "ppo_slow": {"objective": {"name": "ppo"}, "train": {"lr": 3e-4}},
    "vidd_refills": {"objective": {"name": "vidd", "value": "refills"}},
}
MORE = ("ppo_slow", "vidd_refills")  # of one task each, where they are asked for


def base(experiment: Experiment, calls: int, samples: int, generator: torch.Generator) -> Found:
    return Found(experiment.model.decode(sample(experiment.model.policy, samples, generator)), {}, (0.0, 0.0))


def best_of_n(experiment: Experiment, calls: int, samples: int, generator: torch.Generator) -> Found:
    """Score as many different draws of the base as there are calls, and keep the best."""
    scored = scores_of(experiment, draws(experiment, calls, generator))
    kept = min(samples, calls)
    return Found(ranked(scored)[:kept], scored, (math.log(calls / kept), None))


def smc(experiment: Experiment, calls: int, samples: int, generator: torch.Generator) -> Found:
    """Ask about every particle at every step; the designs are drawn by their weights."""
    process: Any = experiment.model.policy.process
    particles = max(calls // (process.steps + 1), 2)
    found = steer(experiment, particles)
    picked = torch.multinomial(torch.tensor(found.weights), particles, replacement=True, generator=generator)
    return Found([found.designs[i] for i in picked.tolist()], steered(experiment, found.store))


def refinement(experiment: Experiment, calls: int, samples: int, generator: torch.Generator) -> Found:
    found = steer(experiment, calls // (ROUNDS + 1))
    return Found(found.designs, steered(experiment, found.store))


def ga(experiment: Experiment, calls: int, samples: int, generator: torch.Generator) -> Found:
    """Breed from designs of the base: molecules by mol-ga, texts by `Genetic`; the designs are the last population."""
    rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
    first = draws(experiment, min(FIRST, calls // 2), generator)
    asked = Asked(experiment.reward, calls)
    try:
        if isinstance(experiment.model.space, Aligned):
            bred(asked, first, rng)
        else:
            mol_ga(asked, first, rng)
    except Spent:
        pass
    scored = finite(asked.scores)
    return Found(ranked(scored)[: min(samples, POPULATION)], scored)


def bred(asked: Asked[Any], first: list[str], rng: random.Random) -> None:
    algorithm, children = Genetic(first, rng), first
    while children:
        asked(children)
        children = algorithm.children(ranked(finite(asked.scores)), CHILDREN, set(asked.scores))


def mol_ga(asked: Asked[Any], first: list[str], rng: random.Random) -> None:
    """Run the package as its published runs do: a population of 500, five children a generation."""
    importlib.import_module("mol_ga").default_ga(
        starting_population_smiles=first, scoring_function=asked, max_generations=1_000_000, offspring_size=5,
        population_size=500, rng=rng,
    )  # fmt: skip


def tuned(experiment: Experiment, calls: int, samples: int, generator: torch.Generator) -> Found:
    trainer, start = build_trainer(experiment, None), experiment.model.policy
    policy = Policy(start.process, trainer.run())
    kls = tuple(path_kl(p, q, samples, generator).mean().item() for p, q in ((policy, start), (start, policy)))
    assert isinstance(trainer.oracle, Oracle)
    scored = finite({row.design: row.score for row in trainer.oracle.ledger.rows()})
    return Found(experiment.model.decode(sample(policy, samples, generator)), scored, (kls[0], kls[1]))


HOW: dict[str, Callable[[Experiment, int, int, torch.Generator], Found]] = {
    "base": base, "best_of_n": best_of_n, "smc": smc, "refinement": refinement, "ga": ga,
} | dict.fromkeys(KEYS, tuned)  # fmt: skip


METHODS = tuple(HOW)


def installed(task: str, method: str) -> bool:
    """Return whether a rival that the method runs is there; only molecules need one that is not ours."""
    return (task, method) != ("molecule", "ga") or importlib.util.find_spec("mol_ga") is not None


def draws(experiment: Experiment, count: int, generator: torch.Generator) -> list[str]:
    """Return so many different designs of the base."""
    found: dict[str, None] = {}
    while len(found) < count:
        found |= dict.fromkeys(filter(None, experiment.model.decode(sample(experiment.model.policy, 128, generator))))
    return list(found)[:count]


def scores_of(experiment: Experiment, designs: list[str]) -> Scores:
    return finite(dict(zip(designs, oracle(experiment, experiment.reward).score(designs).tolist())))


def oracle(experiment: Experiment, reward: Any) -> Oracle:
    return experiment.oracles.of(reward, Store(None), "judging")


def steered(experiment: Experiment, store: Store) -> Scores:
    rows = Ledger(store, "steering", experiment.reward.name).rows()
    return finite({row.design: row.score for row in rows})


def finite(scores: Scores) -> Scores:
    return {design: score for design, score in scores.items() if math.isfinite(score)}


def ranked(scores: Scores) -> list[str]:
    return sorted(scores, key=lambda design: scores[design], reverse=True)
