"""Objectives × processes and samplers × processes: in every cell a measured distance to p*, or the reason why not.

    python benchmarks/matrix.py --out benchmarks/results/matrix.jsonl            measure what is not there yet
    python benchmarks/matrix.py --out benchmarks/results/matrix.jsonl --table    print the two tables
    python benchmarks/matrix.py --out benchmarks/results/matrix.jsonl --json     the same as JSON

Each process has one small space (`spaces.py`). Distances are TV to p* (letters and states) or energy distance (points),
as a share of the base's: 1 is where tuning starts, 0 is p*. Objectives have `--calls` designs scored. Samplers draw
`--designs`, 64 at a time; what as many exact draws of p* would show stands with each (`floor`).
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from biotilt.errors import ConfigError
from biotilt.plugins import REGISTRIES
from spaces import SPACES
from tuning import steer, tune

POINTS = ("gaussian", "flow", "simplex")
# What a cell uses in place of the defaults. `"*"`: on every process.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "vidd": {"*": {"value": "return", "mirror": 0.3, "updates": 20, "refresh": 20, "buffer": 1024}},
    # with the rate of the others PPO leaves p* on uniform and simplex, and does not come back
    "ppo": {"*": {"lr": 1e-3}, "finite": {"lr": 3e-2}, "simplex": {"lr": 2e-4, "states": 256}},
    "backprop": {
        "*": {"updates": 4, "lr": 1e-3},
        "finite": {"lr": 3e-2},
        "gaussian": {"updates": 1, "lr": 3e-3},
        "flow": {"updates": 1, "lr": 3e-3},
    },
    "smc": {"finite": {"value": "monte_carlo"}},
    "svdd": {"finite": {"value": "monte_carlo"}},
    "refinement": {"finite": {"value": "monte_carlo"}},
    "mcmc": {"*": {"renoise": "path"}, "any_order": {"renoise": "corrupt"}},
}
# Learning rates where the options name none: a table has one weight a transition; 100 steps of simplex want small ones.
RATE = {"finite": 0.03, "simplex": 1e-3}


def options_for(name: str, process: str) -> dict[str, Any]:
    given = OPTIONS.get(name, {})
    return given.get("*", {}) | given.get(process, {})


def objective_cell(name: str, space: Any, calls: int, seed: int) -> dict[str, Any]:
    """Tune once; return the distance over the base's, or a reason."""
    process = space.base.process
    given = options_for(name, process.name)
    rate = {"lr": given.pop("lr", RATE.get(process.name, 3e-3))}
    objective = REGISTRIES["objectives"][name](**given)
    groups = {"train": rate, "value": {} if getattr(objective, "value", None) in (None, "log_z") else rate}
    try:
        found = tune(space, objective, groups, calls, 1, seed)
    except ConfigError as error:
        return {"reason": str(error)}
    found.pop("curve")
    return {"ratio": found["distance"] / space.base_distance, **found}


def sampler_cell(name: str, space: Any, count: int, seed: int) -> dict[str, Any]:
    """Draw `count` designs, 64 at a time; return the distance over the base's, or a reason."""
    try:
        found = steer(
            space, REGISTRIES["samplers"][name](**options_for(name, space.base.process.name)), 64, seed, count // 64
        )
    except ConfigError as error:
        return {"reason": str(error)}
    found["floor"] /= space.base_distance
    return {"ratio": found["distance"] / space.base_distance, **found}


def table(rows: list[dict[str, Any]], kind: str) -> str:
    """Return the Markdown table of a kind, with the reasons below it."""
    processes, reasons = list(SPACES), {}
    names = list(REGISTRIES[kind])
    lines = ["| | " + " | ".join(processes) + " |", "|---" * (len(processes) + 1) + "|"]
    for name in names:
        cells = []
        for process in processes:
            found = [r for r in rows if r["kind"] == kind and r["name"] == name and r["process"] == process]
            if not found:
                cells.append("not run")
            elif "reason" in found[0]:
                reason = found[0]["reason"].partition(", which the process")[0].removeprefix(f"{name} ")
                mark = reasons.setdefault(reason, len(reasons) + 1)
                cells.append(f"({mark})")
            else:
                cells.append(f"{sum(r['ratio'] for r in found) / len(found):.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    notes = [f"({number}) {reason}" for reason, number in reasons.items()]
    return "\n".join([*lines, "", *notes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=8192)
    parser.add_argument("--designs", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", nargs="*", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--kinds", nargs="*", choices=["objectives", "samplers"], default=["objectives", "samplers"])
    parser.add_argument("--names", nargs="*", help="only these objectives or samplers")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there and stop")
    parser.add_argument("--json", action="store_true", help="print what is there as JSON and stop")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table or options.json:
        print(json.dumps(done) if options.json else "\n\n".join(table(done, kind) for kind in options.kinds))
        return
    finished = {(r["kind"], r["name"], r["process"], r["seed"]) for r in done}
    for process in options.processes:
        space = None
        for kind, seed in itertools.product(options.kinds, range(options.seeds)):
            cell, size = (objective_cell, options.calls) if kind == "objectives" else (sampler_cell, options.designs)
            for name in REGISTRIES[kind]:
                if (kind, name, process, seed) in finished or (options.names and name not in options.names):
                    continue
                space = space or SPACES[process]()
                row = {"kind": kind, "name": name, "process": process, "seed": seed}
                row |= cell(name, space, size, seed)
                with options.out.open("a") as handle:
                    handle.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
