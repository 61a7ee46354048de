"""What a screen brings searches without tuning, at the same calls: the ten and the hundred best designs scored.

    python benchmarks/screening.py --out FILE.jsonl [--tasks molecule] [--samplers evolve] [--seeds 3]

A line for every task, sampler and seed without a screen, and one with it; those that the file has are not run again.
Seconds are those of the processor. `held_out`: median of the hundred best by the judge, where the task has one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import biotilt

KEPT = 100
Case = dict[str, Any]


def measure(case: Case) -> dict[str, Any]:
    """Return what the hundred best of the calls of a case score, and what its screen says of itself."""
    started = time.process_time()
    sampler = {"name": case["sampler"], "factor": case["calls"] / KEPT}
    changes = {"screen": case["screen"]} if case["screen"] else {}
    experiment = biotilt.Experiment.for_task(case["task"], seed=case["seed"], sampler=sampler, **changes)
    found = biotilt.steer(experiment, KEPT)
    scores = sorted(found.rewards, reverse=True)
    judged = None if found.held_out is None else round(statistics.median(found.held_out), 3)
    return {
        "calls": found.calls, "top_10": round(sum(scores[:10]) / 10, 3), "top_100": round(sum(scores) / KEPT, 3),
        "held_out": judged, "unique": len(set(found.designs)), "seconds": round(time.process_time() - started, 1),
        **{key: round(value, 3) for key, value in found.metrics.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["utr", "molecule"])
    parser.add_argument("--samplers", nargs="+", default=["best_of_n", "evolve"])
    parser.add_argument("--calls", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--factor", type=float, default=4.0)
    given = parser.parse_args()
    text = given.out.read_text(encoding="utf-8") if given.out.exists() else ""
    done = [json.loads(line)["case"] for line in text.splitlines()]
    screens = [None, {"name": "gp", "factor": given.factor}]
    for task, sampler, seed, screen in itertools.product(given.tasks, given.samplers, range(given.seeds), screens):
        case = {"task": task, "sampler": sampler, "calls": given.calls, "seed": seed, "screen": screen}
        if case in done:
            continue
        line = json.dumps({"case": case, "found": measure(case)})
        with given.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
