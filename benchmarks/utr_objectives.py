"""One experiment file switched through all objectives by `--set objective.name=…` alone, on the `utr` task.

    python benchmarks/utr_objectives.py --out benchmarks/results/utr_objectives.jsonl
    python benchmarks/utr_objectives.py --out benchmarks/results/utr_objectives.jsonl --table

Every objective gets its own defaults, the task's α and calls, and no tuning for this task. What it cannot do here is
said in its place. Runs that are in the file already are not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from biotilt.errors import BiotiltError
from biotilt.experiment import Experiment
from biotilt.keys import override
from biotilt.plugins import REGISTRIES
from utr_table import tuned_row


def run(name: str, seed: int, calls: int) -> dict[str, Any]:
    """Tune once in memory and judge fresh designs; or say why it cannot be."""
    changes = [f"objective.name={name}", f"seed={seed}", f"train.max_calls={calls}"]
    try:
        experiment = Experiment.from_dict(override({"task": "utr"}, changes), Path())
        return {"row": tuned_row(name, experiment)[0]}
    except BiotiltError as error:
        return {"reason": str(error)}


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table, one line a run, the best held-out median first."""
    lines = [
        "| objective | seed | optimised / held-out median | beyond measured | unique | distance | 3-mer r "
        "| KL policy‖base | KL base‖policy | calls | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    done = [r for r in results if "row" in r]
    for result in sorted(done, key=lambda r: -r["row"]["held_out"]["median"]):
        row = result["row"]
        lines.append(
            f"| {result['name']} | {result['seed']} "
            f"| {row['optimised']['median']:.2f} / {row['held_out']['median']:.2f} "
            f"| {row['beyond_measured']:.1%} | {row['unique']:.3f} | {row['distance']:.1f} | {row['kmer3']:.2f} "
            f"| {row['kl_policy_base']:.2f} | {row['kl_base_policy']:.2f} | {row['calls']} | {row['seconds']:.0f} |"
        )
    refused = {r["name"]: r["reason"] for r in results if "reason" in r}
    return "\n".join([*lines, *(["", *(f"{name}: {reason}" for name, reason in refused.items())] if refused else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--names", nargs="*", help="only these objectives")
    parser.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    parser.add_argument("--json", action="store_true", help="print what is there as JSON and stop")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table or options.json:
        print(json.dumps(done) if options.json else table(done))
        return
    finished = {(r["name"], r["seed"]) for r in done}
    for seed, name in itertools.product(range(options.seeds), options.names or REGISTRIES["objectives"]):
        if (name, seed) in finished:
            continue
        result = {"name": name, "seed": seed, **run(name, seed, options.calls)}
        with options.out.open("a") as handle:
            handle.write(json.dumps(result) + "\n")
        print(table([result]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
