"""One tuning run, or one sampler, on one landscape: what it costs and how far from p* it is."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Any

import torch

from biotilt.core import Context, Parts, Policy, Replay, Roles, Target, check_parts
from biotilt.networks import ValueSize, value_network
from biotilt.plugins import REGISTRIES
from biotilt.training import EachRound, TrainConfig, Trainer
from biotilt.values import VALUES

Groups = dict[str, dict[str, Any]]

# States that networks were given, counted by a hook: a plain function, so that copies of a network share the count.
_ROWS = [0]


def _count_rows(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    _ROWS[0] += len(inputs[0])


def value_for(algorithm: Any, space: Any, options: dict[str, Any] | None = None) -> Any:
    """Return the value an objective or a sampler asks for, or None."""
    if (kind := algorithm.value_name) is None:
        return None
    given = VALUES.options_of(kind)(**(options or {}))
    return VALUES[kind].build(given, space.base.process, lambda *size: value_network(space.base, ValueSize(*size)))


def context_for(algorithm: Any, space: Any, seed: int, options: dict[str, Any] | None = None) -> Context:
    """Return a context on a space; ConfigError when the parts do not fit together."""
    torch.manual_seed(seed)
    scorer, value = space.scorer(), value_for(algorithm, space, options)
    known = tuple(REGISTRIES["processes"].values())
    check_parts(algorithm, Parts(space.base.process, value, hasattr(scorer, "relaxed"), known))
    _ROWS[0] = 0
    if not space.base.net._forward_hooks:
        space.base.net.register_forward_hook(_count_rows)
    memory = Replay(getattr(algorithm, "capacity", None))
    generator = torch.Generator().manual_seed(seed)
    return Context(Roles.start(space.base), Target(scorer, space.alpha), generator, memory, value)


def tune(space: Any, objective: Any, groups: Groups, calls: int, points: int, seed: int) -> dict[str, Any]:
    """Tune once; return distances at about `points` places of the budget, by calls, network states and seconds."""
    context = context_for(objective, space, seed, groups.get("value"))
    roles, scorer = context.roles, context.target.scorer
    config = TrainConfig(**({"max_calls": calls, "ema": 0.99} | groups.get("train", {})))
    marks = {config.rounds} | {max(1, round(config.rounds * (i + 1) / points)) for i in range(points)}
    marks |= {m // config.batch for m in (2048, 4096, 6016, 8000, 19968) if config.batch <= m <= calls}
    trainer = Trainer(context, objective, config, scorer)
    curve: list[dict[str, float]] = []
    spent = [0.0]  # on measuring, which is no part of the algorithm

    def report(row: dict[str, float]) -> None:
        if row["round"] in marks:
            began, states = time.perf_counter(), _ROWS[0]
            seconds = row["seconds"] - spent[0]
            policy = Policy(roles.policy.process, trainer.average)
            measured = space.distances(policy, torch.Generator().manual_seed(1000 + seed))
            spent[0] += time.perf_counter() - began
            point = {"calls": scorer.calls, "states": states - _measured[0], "seconds": seconds}  # type: ignore[attr-defined]
            _measured[0] += _ROWS[0] - states
            curve.append(point | measured)

    _measured = [0]
    trainer.callbacks = [EachRound(report)]
    trainer.run()
    return {"curve": curve, **curve[-1]}


def steer(space: Any, sampler: Any, count: int, seed: int, rounds: int = 1) -> dict[str, Any]:
    """Draw `count` designs `rounds` times; return the distance of all together, and costs."""
    context = context_for(sampler, space, seed)
    designs, weights = [], []
    started = time.perf_counter()
    for _ in range(rounds):
        drawn = sampler.draw(context, count)
        designs.append(drawn.designs)
        # rounds with an estimate of Z are put together by it, which keeps the whole unbiased
        weights.append(drawn.log_weight.log_softmax(0) + (0.0 if drawn.log_z is None else drawn.log_z))
    seconds = time.perf_counter() - started
    states, weight = _ROWS[0], torch.cat(weights).double().softmax(0)
    costs = {"designs": len(weight), "calls": context.target.scorer.calls, "states": states, "seconds": seconds}  # type: ignore[attr-defined]
    return space.distances_of(torch.cat(designs), weight) | {"floor": space.floor(len(weight))} | costs


def options_of(algorithm: Any, groups: Groups | None = None) -> dict[str, Any]:
    """Return every option of the algorithm, and those of training and value that were set."""
    options = {f.name: getattr(algorithm, f.name) for f in fields(algorithm)}
    return options | {
        f"{group}.{k}": v for group in ("train", "value") for k, v in (groups or {}).get(group, {}).items()
    }
