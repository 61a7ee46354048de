"""Distance to the exact p* against designs scored, on landscapes where every design is known.

    python benchmarks/known_answer.py --landscape epistatic --objective vidd --calls 8000 --seeds 3 --json
    python benchmarks/known_answer.py --landscape tfbind8 --data FOLDER --objective ppo --calls 100000
    python benchmarks/known_answer.py --all --json --out benchmarks/results/known_answer.jsonl --data FOLDER

The first two tune one objective; `--set key=value` changes an option of the objective (`value=mixed`), of training
(`train.lr=0.003`) or the landscape's temperature (`alpha=0.25`). The third runs every objective and every sampler on
every landscape at three tilts, and writes one line a run; runs that are in the file already are not done again, so that
it can be stopped and given again, and `--landscapes`, `--tilts`, `--names` do a part of it. "Calls" are designs sent to
the oracle, repeats included: on 4096 designs most are repeats.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from biotilt.errors import ConfigError
from biotilt.plugins import REGISTRIES
from landscapes import LANDSCAPES, TILTS, build, tilted
from tuning import Groups, options_of, steer, tune

# What each objective uses here unless told otherwise; `docs/algorithms.md` says how they were chosen.
DEFAULTS: dict[str, list[str]] = {
    "vidd": [
        "value=bootstrapped", "mirror=1.0", "refresh=1", "updates=40", "states=128", "buffer=100000",
        "train.lr=0.003", "value.lr=0.003",
    ],
    "ppo": ["updates=16", "states=96"],
    "path_consistency": ["updates=16", "buffer=100000", "train.lr=0.003"],
    "trajectory_balance": ["updates=16", "chains=64", "buffer=100000", "train.lr=0.003"],
}  # fmt: skip

# Designs a draw of each sampler in `--all`, and draws: enough for the distance of an empirical law to mean much.
DRAW, ROUNDS = 256, 64


def parse(texts: list[str]) -> Groups:
    """Return `--set` texts as options of the objective, of training and of the value; `alpha` stands alone."""
    groups: Groups = {"objective": {}, "train": {}, "value": {}}
    for text in texts:
        key, _, value = text.partition("=")
        group, _, name = key.rpartition(".")
        try:
            groups[group or "objective"][name] = json.loads(value)
        except json.JSONDecodeError:
            groups[group or "objective"][name] = value
    return groups


def one(options: argparse.Namespace) -> dict[str, Any]:
    """Tune one objective on one landscape, `seeds` times."""
    groups = parse(DEFAULTS.get(options.objective, []) + options.set)
    landscape = build(options.landscape, options.data)
    if "alpha" in groups["objective"]:
        landscape = landscape.at(groups["objective"].pop("alpha"))
    objective = REGISTRIES["objectives"][options.objective](**groups["objective"])
    if not options.json:
        print(f"{landscape.name}: alpha {landscape.alpha:.4g}, distance of the base {landscape.base_distance:.3f}")
    runs = []
    for seed in range(options.seeds):
        runs.append(tune(landscape, objective, groups, options.calls, options.points, seed))
        if not options.json:
            points = "  ".join(f"{p['calls']}: {p['distance']:.3f}" for p in runs[-1]["curve"])
            print(f"seed {seed}: {points}  ({runs[-1]['seconds']:.0f} s)", flush=True)
    curves = zip(*(r["curve"] for r in runs))
    return {
        "landscape": landscape.name,
        "objective": options.objective,
        "options": options_of(objective, groups),
        "alpha": landscape.alpha,
        "calls": options.calls,
        "curve": [[row[0]["calls"], statistics.mean(p["distance"] for p in row)] for row in curves],
        "final": {
            "tv": statistics.mean(r["distance"] for r in runs),
            "tv_seeds": [r["distance"] for r in runs],
            "seconds": statistics.mean(r["seconds"] for r in runs),
        },
    }


def every(options: argparse.Namespace) -> None:
    """Run what is not in the file yet; print each line as it is made."""
    out: Path = options.out
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    finished = {(r["landscape"], r["tilt"], r["kind"], r["name"], r["seed"]) for r in done}
    for landscape, tilt in itertools.product(options.landscapes or LANDSCAPES, options.tilts or TILTS):
        space = None
        for seed, kind in itertools.product(range(options.seeds), options.kinds):
            for name in REGISTRIES[kind]:
                key = (landscape, tilt, kind, name, seed)
                if key in finished or (options.names and name not in options.names):
                    continue
                space = space or tilted(build(landscape, options.data), tilt)
                row = dict(zip(("landscape", "tilt", "kind", "name", "seed"), key)) | measure(
                    space, kind, name, seed, options
                )
                with out.open("a") as handle:
                    handle.write(json.dumps(row) + "\n")
                print(json.dumps({k: v for k, v in row.items() if k not in ("curve", "options")}), flush=True)


def defaults_of(name: str, landscape: str) -> Groups:
    """Return the options of an objective on words, or on points."""
    if not landscape.startswith("mixture"):
        return parse(DEFAULTS.get(name, []))
    import continuous

    return {"objective": {}, "train": {"lr": 0.003}} | continuous.DEFAULTS.get(name, {})


def measure(space: Any, kind: str, name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one run, or the reason why there is none."""
    about = {"alpha": space.alpha, "base_distance": space.base_distance}
    try:
        if kind == "samplers":
            sampler = REGISTRIES[kind][name]()
            return about | {"options": options_of(sampler)} | steer(space, sampler, DRAW, seed, ROUNDS)
        groups = defaults_of(name, space.name)
        objective = REGISTRIES[kind][name](**groups["objective"])
        found = tune(space, objective, groups, options.calls, options.points, seed)
        return about | {"options": options_of(objective, groups)} | found
    except ConfigError as error:
        return about | {"reason": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscape", choices=list(LANDSCAPES), default="epistatic")
    parser.add_argument("--objective", choices=sorted(REGISTRIES["objectives"]), default="vidd")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--calls", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--points", type=int, default=8, help="places of the budget at which the law is measured")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tfbind8"), help="folder of the tfbind8 files")
    parser.add_argument("--json", action="store_true", help="print only JSON")
    parser.add_argument("--all", action="store_true", help="everything, into --out")
    parser.add_argument("--out", type=Path, help="of --all: a file with one JSON object a line")
    parser.add_argument("--landscapes", nargs="*", choices=list(LANDSCAPES))
    parser.add_argument("--tilts", nargs="*", choices=list(TILTS))
    parser.add_argument("--kinds", nargs="*", choices=["objectives", "samplers"], default=["objectives", "samplers"])
    parser.add_argument("--names", nargs="*")
    options = parser.parse_args()
    if not options.all:
        print(json.dumps(one(options)))
    elif options.out is None:
        parser.error("--all needs --out, the file that runs are kept in")
    else:
        every(options)


if __name__ == "__main__":
    main()
