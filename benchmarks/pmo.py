"""Practical molecular optimisation (Gao et al. 2022): AUC of the ten best, ours against mol-ga at equal calls.

    pip install mol-ga
    python benchmarks/pmo.py --out pmo.jsonl                     # 20 oracles, 1,000 calls, seed 0, every method
    python benchmarks/pmo.py --out pmo.jsonl --calls 10000 --oracles median1 qed --methods evolve mol_ga --seeds 0 1 2
    python benchmarks/pmo.py --out pmo.jsonl --table

`evolve` is the objective and `search` the same search without tuning, both with a screen; `best_of_n` are as many
different draws of the generator. None of them is told any molecule. `mol_ga` (Tripp and Hernández-Lobato 2023) starts
from 100 random molecules of ZINC250k with 500 in its population and 5 children a generation, as in published runs of
the benchmark; it is left out where the package is not installed. `--set` changes keys of the experiments of ours.

A line of the output is one run; runs that are in the file already are not done again. AUC is the benchmark's own: the
mean of the ten best, by trapezoids of 100 calls from 0, and flat to the end where a method found no more molecules.
Diversity and alerts (PAINS, BRENK) are those of the 100 best. Seconds are of the processor, of one thread.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

import pmo_table
from asked import Asked, Spent
from biotilt.core import sample
from biotilt.experiment import Experiment
from biotilt.keys import override
from biotilt.model import Model
from biotilt.rewards.molecule.pmo import ORACLES, PMO
from biotilt.rewards.molecule.properties import Alerts
from biotilt.steering import steer
from biotilt.tasks import molecule
from biotilt.tasks.molecule.quality import diversity
from biotilt.wiring import build_trainer

EVERY = 100  # calls between two points of the curve
FOLDER = Path(molecule.__file__).parent
MODEL = next(path for name in ("zinc", "generator") if (path := FOLDER / f"{name}.safetensors").exists())
SEARCH = {"start": 100, "fresh": 0.02, "crossover": 0.3, "depth": 4}  # 100 draws first: the rival has 100 molecules
BATCH = 32
TUNING = {"updates": 2, "states": 32}  # a round: what one thread affords
METHODS = ("mol_ga", "search", "evolve", "best_of_n")
Case = dict[str, Any]


def area(scores: Sequence[float], calls: int, best: int = 10, every: int = EVERY) -> float:
    """Return the area under the mean of the `best` scores so far, a share of the calls, as the benchmark has it.

    >>> area([0.5] * 100, 200, best=1), area([], 200)
    (0.375, 0.0)
    """
    total, last, at = 0.0, 0.0, 0
    places = [*range(every, min(len(scores), calls), every), len(scores)]
    for place in places:
        now = top(scores[:place], best)
        total += (place - at) * (now + last) / 2
        last, at = now, place
    return (total + max(calls - len(scores), 0) * last) / calls


def top(scores: Sequence[float], count: int) -> float:
    """Return the mean of the best, at most `count`; 0 of none."""
    best = sorted(scores, reverse=True)[:count]
    return statistics.fmean(best) if best else 0.0


def measure(case: Case, changes: list[str], model: Path) -> dict[str, Any]:
    """Return the figures of one run; `model`: the file of our generator."""
    asked = Asked(PMO(oracle=case["oracle"]), case["calls"])
    started = time.process_time()
    RUNS[case["method"]](asked, case["seed"], changes, model)
    seconds = time.process_time() - started
    found = {design: score for design, score in asked.scores.items() if score == score}  # the others are no molecules
    best = sorted(found, key=found.__getitem__, reverse=True)[:100]
    scores = list(found.values())
    return {
        "auc_top_10": round(area(scores, case["calls"]), 5),
        **{f"top_{count}": round(top(scores, count), 5) for count in (1, 10, 100)},
        "diversity": round(diversity(best) or 0.0, 4),
        "alerts": round(sum(alert < 0 for alert in Alerts()(best)) / max(len(best), 1), 3),
        "calls": len(asked.scores), "best": best[0] if best else None, "seconds": round(seconds, 1),
        "curve": [round(top(scores[:place], 10), 4) for place in range(EVERY, len(scores) + 1, EVERY)],
    }  # fmt: skip


def experiment(asked: Asked[PMO], seed: int, keys: dict[str, Any], changes: list[str], model: Path) -> Experiment:
    data = {"task": "molecule", "seed": seed, "model": {"path": str(model.resolve())}, **keys}
    return Experiment.from_dict(override(data, changes), Path(), reward=asked)


def evolve(asked: Asked[PMO], seed: int, changes: list[str], model: Path) -> None:
    train = {"max_calls": asked.calls, "batch": BATCH}
    keys = {"objective": {"name": "evolve", **SEARCH, **TUNING}, "train": train, "screen": {"name": "gp"}}
    build_trainer(experiment(asked, seed, keys, changes, model), None).run()


def search(asked: Asked[PMO], seed: int, changes: list[str], model: Path) -> None:
    kept = min(100, asked.calls)
    sampler = {"name": "evolve", "factor": asked.calls / kept, "batch": BATCH, **SEARCH}
    steer(experiment(asked, seed, {"sampler": sampler, "screen": {"name": "gp"}}, changes, model), kept)


def best_of_n(asked: Asked[PMO], seed: int, changes: list[str], model: Path) -> None:
    asked(list(draws(asked.calls, seed, model)))


@cache  # the same for all oracles
def draws(count: int, seed: int, model: Path) -> tuple[str, ...]:
    """Return so many different molecules of the generator."""
    generator, found = torch.Generator().manual_seed(seed), dict[str, None]()
    base = Model.load(model)
    while len(found) < count:
        found |= dict.fromkeys(filter(None, base.decode(sample(base.policy, 128, generator))))
    return tuple(found)[:count]


def mol_ga(asked: Asked[PMO], seed: int, changes: list[str], model: Path) -> None:
    package, library = (importlib.import_module(f"mol_ga{name}") for name in ("", ".mol_libraries"))
    rng = random.Random(seed)
    try:
        package.default_ga(
            starting_population_smiles=library.random_zinc(100, rng), scoring_function=asked,
            max_generations=1_000_000, offspring_size=5, population_size=500, rng=rng,
        )  # fmt: skip
    except Spent:
        return


RUNS: dict[str, Callable[[Asked[PMO], int, list[str], Path], None]] = {
    "evolve": evolve, "search": search, "best_of_n": best_of_n, "mol_ga": mol_ga
}  # fmt: skip


def cases(options: argparse.Namespace) -> list[Case]:
    """Return the runs that are asked for: of a seed the rival's first, and all oracles before the next method."""
    methods = [method for method in options.methods if method != "mol_ga" or installed("mol_ga")]
    return [
        {
            "oracle": oracle, "method": method, "calls": calls, "seed": seed,
            "model": None if method == "mol_ga" else options.model.stem,
        }
        for calls, seed, method, oracle in itertools.product(options.calls, options.seeds, methods, options.oracles)
    ]  # fmt: skip


def installed(package: str) -> bool:
    if importlib.util.find_spec(package) is not None:
        return True
    print(f"without {package}: it is not installed", flush=True)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calls", type=int, nargs="+", default=[1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--oracles", nargs="+", default=list(ORACLES), choices=ORACLES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--model", type=Path, default=MODEL, help="a generator of molecules; default: that of ZINC250k")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the experiments of ours")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    if options.table:
        print("\n\n".join(pmo_table.table(lines, calls) for calls in options.calls))
        return
    done = [line["case"] for line in lines]
    for case in cases(options):
        if case in done:
            continue
        line = json.dumps({"case": case, "found": measure(case, options.set, options.model)})
        with options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
