"""Distance to the exact p* against designs scored, on landscapes where every design is known.

    python benchmarks/known_answer.py --landscape epistatic --objective vidd --calls 8000 --seeds 3 --json
    python benchmarks/known_answer.py --landscape tfbind8 --data FOLDER --objective ppo --calls 100000

`--set key=value` changes an option of the objective (`value=mixed`), of training (`train.lr=0.003`) or the landscape's
temperature (`alpha=0.25`). "Calls" are designs sent to the oracle, repeats included: on 4096 designs most are repeats.
The last line of the output is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles
from biotilt.networks import like
from biotilt.objectives import OBJECTIVES
from biotilt.testing.exact import kl, total_variation
from biotilt.testing.reveal import reveal_law
from biotilt.training import TrainConfig, Trainer
from biotilt.values import (
    LearnedQ,
    LearnedValueConfig,
    MonteCarlo,
    PosteriorMean,
    SurrogateConfig,
    SurrogateQ,
)
from landscapes import Landscape, epistatic, tfbind8

# What each objective uses here unless told otherwise; `docs/algorithms.md` says how they were chosen.
DEFAULTS: dict[str, list[str]] = {
    "vidd": [
        "value=bootstrapped", "mirror=1.0", "refresh=1", "updates=40", "states=128", "buffer=100000",
        "train.lr=0.003", "value.lr=0.003",
    ],
    "ppo": ["updates=16", "states=96"],
}  # fmt: skip


class Counter:
    """A scorer that counts designs, repeats included, as MATH.md's table does."""

    def __init__(self, landscape: Landscape):
        self.landscape, self.calls = landscape, 0

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        return self.landscape.score(designs)


def make_value(kind: str | None, landscape: Landscape, options: dict[str, Any]) -> Any:
    if kind == "posterior_mean":
        return PosteriorMean()
    if kind == "monte_carlo":
        return MonteCarlo()
    if kind is None:
        return None
    process = landscape.base.process
    if kind == "surrogate":
        return SurrogateQ(like(landscape.base.net), process, SurrogateConfig(**options))
    return LearnedQ(like(landscape.base.net), process, kind, LearnedValueConfig(**options))


def run(
    landscape: Landscape,
    objective: Any,
    train: dict[str, Any],
    value: dict[str, Any],
    calls: int,
    points: int,
    seed: int,
) -> dict:
    """Tune once; return `calls`, `tv` at about `points` places of the budget, final TV, KL and seconds."""
    torch.manual_seed(seed)
    roles = Roles.start(landscape.base)
    counter = Counter(landscape)
    context = Context(
        roles, counter, landscape.alpha, torch.Generator().manual_seed(seed), Replay(objective.capacity),
        make_value(getattr(objective, "value", None), landscape, value),
    )  # fmt: skip
    config = TrainConfig(**({"max_calls": calls, "batch": 64, "schedule": "cosine", "ema": 0.99} | train))
    target, curve = landscape.target, []
    marks = {config.rounds} | {round(config.rounds * (i + 1) / points) for i in range(points)}
    marks |= {m // config.batch for m in (2048, 4096, 6016, 8000, 19968) if m <= calls}
    trainer = Trainer(context, objective, config, counter)

    def report(row: dict[str, float]) -> None:
        if row["round"] in marks:
            law = reveal_law(Policy(roles.policy.process, trainer.average))
            curve.append((counter.calls, total_variation(law, target), kl(law, target)))

    trainer.report = report
    started = time.perf_counter()
    trainer.run()
    seconds = time.perf_counter() - started
    return {
        "curve": [(c, tv) for c, tv, _ in curve],
        "tv": curve[-1][1],
        "kl": curve[-1][2],
        "seconds": seconds,
    }


def options_of(objective: Any, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return every option of the objective, and those of training and value that were set."""
    options = {f.name: getattr(objective, f.name) for f in fields(objective)}
    return options | {f"{group}.{k}": v for group in ("train", "value") for k, v in groups[group].items()}


def parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscape", choices=["epistatic", "tfbind8"], default="epistatic")
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="vidd")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--calls", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--points", type=int, default=8, help="places of the budget at which the law is computed")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tfbind8"), help="folder of the tfbind8 files")
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    arguments = parser.parse_args()
    landscape = epistatic() if arguments.landscape == "epistatic" else tfbind8(arguments.data)
    groups: dict[str, dict[str, Any]] = {"objective": {}, "train": {}, "value": {}}
    for text in DEFAULTS[arguments.objective] + arguments.set:
        key, _, value = text.partition("=")
        if key == "alpha":
            landscape.alpha = float(value)
            continue
        group, _, name = key.rpartition(".")
        groups[group or "objective"][name] = parse_value(value)
    objective = OBJECTIVES[arguments.objective](**groups["objective"])
    target = landscape.target
    if not arguments.json:
        expected = [(p * landscape.reward).sum().item() for p in (landscape.base_law, target)]
        distance = total_variation(landscape.base_law, target)
        print(f"{landscape.name}: alpha {landscape.alpha:.4g}, TV(base, p*) {distance:.3f}", flush=True)
        print(f"E_pre[r] {expected[0]:.3f}, E_p*[r] {expected[1]:.3f}", flush=True)
    runs = []
    for seed in range(arguments.seeds):
        runs.append(
            run(
                landscape,
                objective,
                groups["train"],
                groups["value"],
                arguments.calls,
                arguments.points,
                seed,
            )
        )
        if not arguments.json:
            print(f"seed {seed}: " + "  ".join(f"{c}: {tv:.3f}" for c, tv in runs[-1]["curve"]), flush=True)
    mean = statistics.mean
    result = {
        "landscape": landscape.name,
        "objective": arguments.objective,
        "options": options_of(objective, groups),
        "alpha": landscape.alpha,
        "calls": arguments.calls,
        "curve": [[row[0][0], mean(tv for _, tv in row)] for row in zip(*(r["curve"] for r in runs))],
        "final": {
            "tv": mean(r["tv"] for r in runs),
            "tv_seeds": [r["tv"] for r in runs],
            "kl": mean(r["kl"] for r in runs),
            "seconds": mean(r["seconds"] for r in runs),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
