"""`objective.name = "auto"`: which objective suits an experiment, by what can be seen before the first call.

Not an algorithm: `choose` names one that there is, with its options, and says why. The choice takes the place of "auto"
when the experiment is built, so a run records it, and neither a resumed nor a moved run chooses again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from biotilt.config import AUTO, Config
from biotilt.constraints.tempered import FEWEST
from biotilt.core import (
    Centred,
    Divergence,
    Factorised,
    OfLetters,
    Relaxable,
    Reveals,
    SeveralTargets,
    Tiltable,
    has,
)
from biotilt.core.space import Aligned, Counted, Shaped
from biotilt.model import Model
from biotilt.rewards import NamedReward

ADJOINT = (Centred, Divergence, Tiltable, Relaxable)  # what a gradient needs to be carried through a chain
SHORT = 8  # letters up to which values that are learned one letter at a time are the best there is
CHEAP = 0.005  # seconds a call, below which the time of the algorithm is what a run costs
LONG = 1500  # calls from which ppo has caught up with the surrogate
NOTHING = 0.9  # part of the variance that a value which knows nothing leaves
ROUNDS = 8  # at least so many, or nothing that was learned is ever used
RARE = 100  # of so many draws p* is as far from the base as the best one: what every budget pays for


@dataclass(frozen=True)
class Facts:
    """What is seen of an experiment.

    `letters`: designs are written in letters, `length` of them; `hidden`: which a step reveals; `aligned`: the same
    position means the same in all designs; `parts`: the space counts the parts of a design; `several`: conditions, more
    than one; `constraints`: on means; `calls`: the budget, in rounds of `batch`, None where that is given, and of
    `least` or more; `shaped`: designs have a structure that is given; `gradient`: rewards have one, and steps are
    gaussians through which it flows. Where they were measured (`biotilt check`): `seconds` a call, and `unknown`, the
    part of the variance of scores that a process fitted to others leaves.
    """

    letters: bool
    length: int
    hidden: bool
    aligned: bool
    parts: bool
    several: bool
    constraints: bool
    calls: int
    batch: int | None
    least: int = 1
    shaped: bool = False
    gradient: bool = False
    seconds: float | None = None
    unknown: float | None = None


@dataclass(frozen=True)
class Choice:
    """Tables that take the place of "auto", and of what the experiment leaves out; `reasons`, in sentences."""

    objective: dict[str, Any]
    screen: dict[str, Any] | None = None
    train: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """`choice` where `applies`; `evidence`: where what is claimed was measured."""

    applies: Callable[[Facts], bool]
    choice: Choice
    evidence: str


def _chosen(reason: str, screen: dict[str, Any] | None = None, **objective: Any) -> Choice:
    return Choice(objective, screen, reasons=(reason,))


RULES: dict[str, Rule] = {
    "several_conditions": Rule(
        lambda f: f.several,
        _chosen("designs have several conditions, and ppo takes the mean of each apart", name="ppo"),
        "tests/objectives/test_conditions_law.py: exact laws of every condition; searches and screens refuse several",
    ),
    "a_gradient": Rule(
        lambda f: f.gradient and not f.letters,
        _chosen(
            "the reward has a gradient, and so have the steps: it is carried back through the chain",
            name="adjoint_matching",
        ),
        "docs/known_answers.md: on points it leaves hardly any of the base's distance to p*; docs/images.md: on images "
        "further than backprop, at less KL",
    ),
    "no_letters": Rule(
        lambda f: not f.letters,
        _chosen("designs are no letters: the value of a state, learned from returns", name="vidd", value="return"),
        "a mixture in two dimensions: energy distance 0.010 after 1.9k calls, ppo 0.089 (benchmarks/continuous.py)",
    ),
    "nothing_hidden": Rule(
        lambda f: not f.hidden,
        _chosen(
            "letters change and are not revealed, or in an order of the network's own, so none of the values of "
            "letters can be learned",
            name="ppo",
        ),
        "docs/algorithms.md: the learned values of letters need a process that reveals them; ppo needs densities alone",
    ),
    "short": Rule(
        lambda f: f.length <= SHORT,
        _chosen(
            f"at most {SHORT} letters: soft Bellman equations travel that far",
            name="vidd",
            value="bootstrapped",
            mirror=1.0,
        ),
        "benchmarks/known_answer.py, epistatic: total variation 0.036 after 6k calls, ppo 0.107",
    ),
    "parts_and_a_probe_that_fails": Rule(
        lambda f: f.parts and not f.aligned and not f.constraints and f.unknown is not None and f.unknown > NOTHING,
        _chosen(
            "positions mean nothing by themselves, and what was fitted to scores of the base does not know others: a "
            "search without a screen",
            name="evolve",
        ),
        "docs/screening.md: evolve without a screen has a top 100 of 1.59 to 1.60 on molecules at 512 calls, best of N "
        "1.50 to 1.53",
    ),
    "parts": Rule(
        lambda f: f.parts and not f.aligned and not f.constraints,
        _chosen(
            "positions mean nothing by themselves, so letters have no values to learn; whole designs can be ranked by "
            "their parts: a search with a screen",
            {"name": "gp"},
            name="evolve",
        ),
        "docs/screening.md: with the screen a top 100 of 1.76 to 1.79 at 512 calls, three seeds; best of N 1.5",
    ),
    "not_aligned": Rule(
        lambda f: not f.aligned,
        _chosen("positions mean nothing by themselves, so letters have no values to learn", name="ppo"),
        "one seed on molecules, which no command here repeats: fresh designs of ppo are a little ahead of vidd's",
    ),
    "of_a_structure": Rule(
        lambda f: f.shaped and f.parts and not f.constraints,
        _chosen(
            "designs of one given structure: a search with a screen, which hides together what is near in it",
            {"name": "gp"},
            name="evolve",
        ),
        "docs/tasks/panels.md, rna_fold, 512 calls: by the judge its fresh designs and its best hundred are the first "
        "of nine methods",
    ),
    "probe_fails": Rule(
        lambda f: f.unknown is not None and f.unknown > NOTHING,
        _chosen("what was fitted to scores of the base does not know others: no surrogate", name="ppo"),
        "the same seed: a value that left all of the variance taught nothing; ppo learns no value",
    ),
    "cheap_or_many": Rule(
        lambda f: f.calls >= LONG or (f.seconds is not None and f.seconds < CHEAP),
        _chosen("with many calls, or cheap ones, ppo gives what vidd does in a fraction of the seconds", name="ppo"),
        "docs/algorithms.md, the task utr, 2,048 calls: held-out 7.91 in 58 s, vidd 7.89 in 219 s, at 6.2 nats both",
    ),
    "few_calls": Rule(
        lambda f: True,
        _chosen(
            "few calls, letters at fixed positions: a surrogate learns most of them", name="vidd", value="surrogate"
        ),
        "docs/algorithms.md, the task utr, 768 calls, alpha 0.05: held-out 7.76, ppo 7.62, three seeds",
    ),
}
"""Asked from above; the first that applies decides. Each says what was measured, and where."""


def choose(facts: Facts) -> Choice:
    """Return what suits an experiment of which this is seen.

    >>> seen = Facts(True, 50, True, True, parts=True, several=False, constraints=False, calls=512, batch=64)
    >>> choose(seen).objective
    {'name': 'vidd', 'value': 'surrogate'}
    """
    name = next(name for name, rule in RULES.items() if rule.applies(facts))
    choice = RULES[name].choice
    if facts.batch is None or facts.calls >= ROUNDS * facts.batch:
        return choice
    batch = max(facts.least, facts.calls // ROUNDS)
    why = f"{facts.calls} calls are {facts.calls // batch} rounds of {batch}"
    return Choice(choice.objective, choice.screen, {"batch": batch}, (*choice.reasons, why))


def facts_of(config: Config, model: Model, rewards: Iterable[NamedReward]) -> Facts:
    """Return what is seen of an experiment, of whose model and rewards these are, without a call."""
    process, train = model.policy.process, config.build_train()
    return Facts(
        letters=isinstance(process, OfLetters),
        length=process.length if isinstance(process, OfLetters) else 0,
        hidden=isinstance(process, Reveals) and has(process, Factorised),
        aligned=isinstance(model.space, Aligned),
        parts=isinstance(model.space, Counted),
        several=isinstance(process, SeveralTargets),
        constraints=bool(config.constraints),
        calls=train.max_calls,
        batch=None if "batch" in config.train else train.batch,
        least=1 if config.target_kl is None else FEWEST,
        shaped=isinstance(model.space, Shaped),
        gradient=all(has(process, kind) for kind in ADJOINT) and all(reward.differentiable for reward in rewards),
    )


def with_tilt(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return keys with a target_kl where "auto" is asked for and how far to go is not said, and why.

    >>> with_tilt({"objective": {"name": "auto"}})[0]["target_kl"], with_tilt({"objective": {"name": "ppo"}})[1]
    (4.6, [])
    """
    objective = data.get("objective")
    asked = isinstance(objective, dict) and objective.get("name") == AUTO
    if not asked or "alpha" in data or "target_kl" in data:
        return data, []
    kl = round(math.log(RARE), 1)
    why = f"neither alpha nor target_kl is given: the scores of the base tell the first alpha, for {kl:g} nats"
    return {**data, "target_kl": kl}, [why]


def settled(config: Config, model: Model, rewards: Iterable[NamedReward]) -> tuple[Config, list[str]]:
    """Return the configuration with what is chosen in the place of "auto", and why; what it says itself stays."""
    if not config.is_auto:
        return config, []
    choice = choose(facts_of(config, model, rewards))
    screen = choice.screen if config.screen is None else config.screen
    made = config.model_copy(
        update={"objective": choice.objective, "screen": screen, "train": choice.train | config.train}
    )
    return made, [f"auto chose {in_words(choice)}", *choice.reasons]


def in_words(choice: Choice) -> str:
    """Return a choice in words.

    >>> in_words(Choice({"name": "evolve"}, {"name": "gp"}))
    'objective evolve, screen gp'
    """
    options = ", ".join(f"{key} = {value}" for key, value in choice.objective.items() if key != "name")
    named = f"objective {choice.objective['name']}" + (f" ({options})" if options else "")
    return named + (f", screen {choice.screen['name']}" if choice.screen else "")
