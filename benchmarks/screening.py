"""What a screen brings best of N at the same calls: the mean of the ten and of the hundred best designs.

    python benchmarks/screening.py --task molecule --calls 512 --seed 0 [--factor 4] [--acquisition ucb]

prints a line of JSON without a screen, and one with it; seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import json
import time

import biotilt

KEPT = 100


def best_of(task: str, calls: int, seed: int, screen: dict[str, object] | None) -> dict[str, object]:
    """Return what the best of `calls` designs of a task score, and what its screen says of itself."""
    started = time.process_time()
    sampler = {"name": "best_of_n", "factor": calls / KEPT}
    changes = {} if screen is None else {"screen": screen}
    found = biotilt.steer(biotilt.Experiment.for_task(task, seed=seed, sampler=sampler, **changes), KEPT)
    scores = sorted(found.rewards, reverse=True)
    shown = {key: round(value, 3) for key, value in found.metrics.items()}
    return {
        "task": task, "calls": found.calls, "seed": seed, "screen": screen, "top 10": round(sum(scores[:10]) / 10, 3),
        "top 100": round(sum(scores) / KEPT, 3), "unique": len(set(found.designs)),
        "seconds": round(time.process_time() - started, 1), **shown,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="molecule")
    parser.add_argument("--calls", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--acquisition", default="ucb")
    parser.add_argument("--kernel")
    given = parser.parse_args()
    screen = {"name": "gp", "factor": given.factor, "acquisition": given.acquisition}
    screen |= {"kernel": given.kernel} if given.kernel else {}
    for which in (None, screen):
        print(json.dumps(best_of(given.task, given.calls, given.seed, which)), flush=True)


if __name__ == "__main__":
    main()
