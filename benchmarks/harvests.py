"""The best designs that a method scored, and fresh designs of the policy it tuned, at equal oracle calls.

    python benchmarks/harvests.py --out harvests.jsonl --tasks molecule utr --methods best_of_n evolve ppo --calls 1024
    python benchmarks/harvests.py --out harvests.jsonl --table

`best_of_n` scores as many different designs of the base as there are calls. `half` is the median of the best half of
what was scored, `fresh` that of new designs, `unique` how many of 200 of those differ. `--set` changes keys of every
run, and `--label` says what the line is called then. A line of the output is one run; runs that are in the file already
are not done again. Seconds are of the processor, of one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from biotilt.core import Policy, path_kl, sample
from biotilt.experiment import Experiment
from biotilt.keys import override
from biotilt.oracle import Store
from biotilt.tasks import TASKS
from biotilt.wiring import build_trainer

METHODS = ("best_of_n", "evolve", "score_climbing", "ppo", "vidd", "reward_weighted")
COLUMNS = ("top_10", "top_100", "top_100_held_out", "half", "fresh", "fresh_held_out", "unique", "kl", "seconds")
FRESH = 200


def run(task: str, method: str, calls: int, seed: int, changes: list[str]) -> dict[str, float | None]:
    """Return the figures of one run, in memory."""
    named = [] if method == "best_of_n" else [f"objective.name={method}"]
    said = [f"seed={seed}", f"train.max_calls={calls}", "train.batch=64", *named, *changes]
    experiment = Experiment.from_dict(override({"task": task}, said), Path())
    generator = torch.Generator().manual_seed(10_000 + seed)
    started = time.process_time()
    found = best_of_n if method == "best_of_n" else tuned
    scored, policy = found(experiment, calls, generator)
    seconds = time.process_time() - started
    best = sorted(scored, key=lambda design: scored[design], reverse=True)
    figures: dict[str, float | None] = {
        "top_10": mean([scored[design] for design in best[:10]]),
        "top_100": mean([scored[design] for design in best[:100]]),
        "top_100_held_out": median(judged(experiment, experiment.held_out, best[:100])),
        "half": median([scored[design] for design in best[: len(best) // 2]]),
        "seconds": seconds,
    }
    if policy is not None:
        designs = experiment.model.decode(sample(policy, FRESH, generator))
        figures |= {
            "fresh": median(judged(experiment, experiment.reward, designs)),
            "fresh_held_out": median(judged(experiment, experiment.held_out, designs)),
            "unique": float(len(set(designs))),
            "kl": path_kl(policy, experiment.model.policy, FRESH, generator).mean().item(),
        }
    return figures


def best_of_n(experiment: Experiment, calls: int, generator: torch.Generator) -> tuple[dict[str, float], Policy | None]:
    designs: dict[str, None] = {}
    while len(designs) < calls:
        designs |= dict.fromkeys(experiment.model.decode(sample(experiment.model.policy, 256, generator)))
    asked = list(designs)[:calls]
    return finite(asked, judged(experiment, experiment.reward, asked)), None


def tuned(experiment: Experiment, calls: int, generator: torch.Generator) -> tuple[dict[str, float], Policy | None]:
    trainer = build_trainer(experiment, None)
    policy = Policy(experiment.model.policy.process, trainer.run())
    rows = list(trainer.oracle.ledger.rows())  # type: ignore[attr-defined]
    return finite([row.design for row in rows], [row.score for row in rows]), policy


def judged(experiment: Experiment, reward: Any, designs: list[str]) -> list[float]:
    """Return scores of designs by a reward, that are no calls; none where there is none."""
    if reward is None:
        return []
    return experiment.oracles.of(reward, Store(None), "judging").score(designs).tolist()


def finite(designs: list[str], scores: list[float]) -> dict[str, float]:
    return {design: score for design, score in zip(designs, scores) if abs(score) < float("inf")}


def mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def median(values: list[float]) -> float | None:
    known = [value for value in values if abs(value) < float("inf")]
    return statistics.median(known) if known else None


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table: a line a task, number of calls and method, means over seeds."""
    lines = [f"| task | calls | method | seeds | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 4)]
    key = ("task", "calls", "label")
    ordered = sorted(results, key=lambda result: [result[name] for name in key])
    for (task, calls, label), group in itertools.groupby(ordered, key=lambda result: [result[name] for name in key]):
        rows = [result["figures"] for result in group]
        cells = []
        for column in COLUMNS:
            known = [row[column] for row in rows if row.get(column) is not None]
            cells.append(f"{statistics.fmean(known):.4g}" if known else "–")
        lines.append(f"| {task} | {calls} | {label} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=["molecule", "utr"], choices=sorted(TASKS))
    parser.add_argument("--methods", nargs="*", default=["best_of_n", "evolve"], choices=METHODS)
    parser.add_argument("--calls", nargs="*", type=int, default=[1024])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--label", default="", help="what the lines are called in the table; default: the method")
    parser.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print(table(done))
        return
    finished = {(r["task"], r["calls"], r["seed"], r["label"]) for r in done}
    for seed, calls, task, method in itertools.product(options.seeds, options.calls, options.tasks, options.methods):
        label = options.label or method
        if (task, calls, seed, label) in finished:
            continue
        figures = run(task, method, calls, seed, options.set)
        result = {"task": task, "calls": calls, "seed": seed, "method": method, "label": label, "set": options.set}
        with options.out.open("a") as handle:
            handle.write(json.dumps(result | {"figures": figures}) + "\n")
        print(table([result | {"figures": figures}]), flush=True)


if __name__ == "__main__":
    main()
