"""Base, best-of-N, SMC, VIDD and PPO at equal oracle calls on the ready-made tasks, judged by the panel of each.

    python benchmarks/task_panels.py --out benchmarks/results/task_panels.jsonl --tasks enhancer protein --seeds 1
    python benchmarks/task_panels.py --out benchmarks/results/task_panels.jsonl --table

Every method gets the task's own defaults, α and number of calls; best-of-N draws as many base designs as there are
calls. SMC asks about every particle at every step, so it has calls / (steps + 1) particles; its designs are drawn by
their weights. A line of the output is one run; runs that are in the file already are not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from biotilt.core import Context, Policy, Roles, Target, path_kl, sample
from biotilt.evaluation.checks import warnings
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.panel import panel
from biotilt.experiment import Experiment
from biotilt.judge import reference
from biotilt.keys import override
from biotilt.measures import task_measures
from biotilt.oracle import Oracle, Store
from biotilt.samplers import BestOfN
from biotilt.steering import steer
from biotilt.tasks import TASKS
from biotilt.wiring import build_trainer

METHODS = ("base", "best_of_n", "smc", "vidd", "ppo")
Kls = tuple[float | None, float | None]
Drawn = tuple[list[str], Kls, int]


def run(task: str, method: str, seed: int, changes: list[str], samples: int) -> dict[str, Any]:
    """Do one run in memory and judge its designs."""
    named = [f"objective.name={method}"] if method in ("vidd", "ppo") else []
    experiment = Experiment.from_dict(override({"task": task}, [f"seed={seed}", *named, *changes]), Path())
    generator = torch.Generator().manual_seed(10_000 + seed)
    how: dict[str, Callable[[Experiment, int, torch.Generator], Drawn]] = {
        "base": lambda e, n, g: (e.model.decode(sample(e.model.policy, n, g)), (0.0, 0.0), 0),
        "best_of_n": best_of_n,
        "smc": smc,
        "vidd": tuned,
        "ppo": tuned,
    }
    started = time.perf_counter()
    designs, kls, calls = how[method](experiment, samples, generator)
    row = judged(experiment, method, designs, kls, calls, time.perf_counter() - started)
    return {"task": task, "method": method, "seed": seed, "alpha": experiment.config.alpha, "row": row}


def best_of_n(experiment: Experiment, samples: int, generator: torch.Generator) -> Drawn:
    calls, base = experiment.config.build_train().max_calls, experiment.model.policy
    kept = min(samples, calls)
    context = Context(
        Roles(base, base, base), Target(oracle(experiment, experiment.reward), experiment.config.alpha), generator
    )
    designs = BestOfN(factor=calls / kept).draw(context, kept).designs
    return experiment.model.decode(designs), (math.log(calls / kept), None), calls


def smc(experiment: Experiment, samples: int, generator: torch.Generator) -> Drawn:
    process: Any = experiment.model.policy.process
    particles = max(experiment.config.build_train().max_calls // (process.steps + 1), 2)
    found = steer(experiment, particles)
    picked = torch.multinomial(torch.tensor(found.weights), particles, replacement=True, generator=generator)
    return [found.designs[i] for i in picked.tolist()], (None, None), found.calls


def tuned(experiment: Experiment, samples: int, generator: torch.Generator) -> Drawn:
    trainer, base = build_trainer(experiment, None), experiment.model.policy
    policy = Policy(base.process, trainer.run())
    kls = tuple(path_kl(p, q, samples, generator).mean().item() for p, q in ((policy, base), (base, policy)))
    return experiment.model.decode(sample(policy, samples, generator)), kls, trainer.oracle.calls


def judged(
    experiment: Experiment, method: str, designs: list[str], kls: Kls, calls: int, seconds: float
) -> dict[str, Any]:
    """Return the panel's row of a set of designs, with the task's own measures."""
    scores = [
        None if reward is None else oracle(experiment, reward).score(designs)
        for reward in (experiment.reward, experiment.held_out)
    ]
    assert scores[0] is not None
    known = Judged(
        designs, space=experiment.model.space, optimised=scores[0], held_out=scores[1],
        reference=reference(experiment), comparable=experiment.comparable,
        kl_policy_base=kls[0], kl_base_policy=kls[1], calls=calls, seconds=seconds,
    )  # fmt: skip
    return panel(method, known) | {
        "more": {measure.key: measure(known) for measure in task_measures(experiment.config)}
    }


def oracle(experiment: Experiment, reward: Any) -> Oracle:
    return experiment.oracles.of(reward, Store(None), "judging")


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table a task: means over seeds, the range of the judge's median, and what the checks say."""
    blocks = []
    for task in sorted({r["task"] for r in results}):
        mine = [r for r in results if r["task"] == task]
        more = list(mine[0]["row"]["more"])
        heads = [
            "method",
            "seeds",
            "optimised",
            "held-out (range)",
            "unique",
            "distance",
            "3-mer r",
            "KL",
            "calls",
            "s",
        ]
        lines = [f"### {task} (α {mine[0]['alpha']:g})", "", f"| {' | '.join(heads + more)} |"]
        lines.append("|" + "---|" * len(heads + more))
        for method in METHODS:
            rows = [r["row"] for r in mine if r["method"] == method]
            if rows:
                lines.append(f"| {' | '.join(cells(method, rows, more))} |")
        lines += ["", *sorted({w for seed in {r["seed"] for r in mine} for w in said(mine, seed)})]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def cells(method: str, rows: list[dict[str, Any]], more: list[str]) -> list[str]:
    def mean(values: list[float | None], digits: str = ".3g") -> str:
        known = [v for v in values if v is not None]
        return format(statistics.mean(known), digits) if known else "–"

    held = [row["held_out"]["median"] for row in rows if row["held_out"]]
    span = f" ({min(held):.3g}–{max(held):.3g})" if len(held) > 1 else ""
    return [
        method, str(len(rows)), mean([row["optimised"]["median"] for row in rows]), mean(held) + span,
        mean([row["unique"] for row in rows]), mean([row["distance"] for row in rows]),
        mean([row["kmer3"] for row in rows]), mean([row["kl_policy_base"] for row in rows]),
        mean([row["calls"] for row in rows], ".0f"), mean([row["seconds"] for row in rows], ".0f"),
        *(mean([row["more"].get(key) for row in rows]) for key in more),
    ]  # fmt: skip


def said(results: list[dict[str, Any]], seed: int) -> list[str]:
    """Return what the panel's checks for an exploited oracle say of one seed's rows."""
    return [f"- seed {seed}: {w}" for w in warnings([r["row"] for r in results if r["seed"] == seed])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=sorted(TASKS), choices=sorted(TASKS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=640)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print(table(done))
        return
    finished = {(r["task"], r["method"], r["seed"]) for r in done}
    for seed, task, method in itertools.product(range(options.seeds), options.tasks, options.methods):
        if (task, method, seed) in finished:
            continue
        result = run(task, method, seed, options.set, options.samples)
        with options.out.open("a") as handle:
            handle.write(json.dumps(result) + "\n")
        print(table([result]), flush=True)


if __name__ == "__main__":
    main()
