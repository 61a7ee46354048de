"""Redesigns of three backbones for a net charge: ProteinMPNN, searches that leave it alone, and tuning, at equal calls.

    python benchmarks/redesign.py --data FOLDER --out benchmarks/results/redesign.jsonl

Ubiquitin comes with the task; FOLDER holds the others, `BACKBONES`. A line is one method with one seed on one backbone:
what designs score, how likely they are under a ProteinMPNN that no method sees, and what that took. Every method
has the calls of the task; base has none, and is ProteinMPNN at its usual temperature. A run that was stopped goes on
with what has no line yet.
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

from biotilt import Experiment
from biotilt.core import Policy, path_kl, sample
from biotilt.spaces.residues import Residues
from biotilt.steering import steer
from biotilt.tasks import find_task
from biotilt.wiring import build_trainer

Row = dict[str, Any]
BACKBONES = {"1UBQ": "", "3MSI": "3msi.pdb.gz", "1L2Y": "1l2y.pdb.gz"}
TASK = find_task("redesign")
KEPT = 16  # designs of each method, smc excepted: as many as it has particles
CHAINS = 16  # of the KL


def experiment(backbone: str, seed: int, sampler: Row | None = None) -> Experiment:
    """Return the task on a backbone, its judge on the same."""
    known, place = TASK.defaults(), {"backbone": backbone}
    data: Row = {"task": TASK.name, "seed": seed}
    for section in ("model", "held_out"):
        data[section] = known[section] | {"options": known[section]["options"] | place}
    if sampler is not None:
        data["sampler"] = sampler
    return Experiment.from_dict(data, Path(), "the task redesign")


def described(made: Experiment, designs: list[str], calls: int, started: float) -> Row:
    """Return what a row says of designs; the judge is not part of what they took."""
    seconds = time.process_time() - started
    assert made.held_out is not None
    scores, judged = made.reward(designs), made.held_out(designs)
    return {
        "designs": len(designs), "calls": calls, "cpu_s": seconds, "reward": statistics.fmean(scores),
        "reached": statistics.fmean(score == 0 for score in scores), "judge": statistics.fmean(judged),
        "judge_least": min(judged), "unique": len(set(designs)) / len(designs),
    }  # fmt: skip


def base(backbone: str, seed: int) -> Row:
    """ProteinMPNN itself, and how likely the structure's own sequence is."""
    made, started = experiment(backbone, seed), time.process_time()
    found = described(made, made.model.sample(KEPT, seed=seed), 0, started)
    space = made.model.space
    assert isinstance(space, Residues) and made.held_out is not None
    return found | {"native": made.held_out([space.native])[0], "residues": space.length}


def searched(**options: Any) -> Callable[[str, int], Row]:
    """Return the method that draws with a sampler, which leaves the weights alone."""

    def method(backbone: str, seed: int) -> Row:
        made, started = experiment(backbone, seed, options), time.process_time()
        calls = made.config.build_train().max_calls
        count = calls // made.model.policy.process.steps if options["name"] == "smc" else KEPT
        found = steer(made, count)
        return described(made, found.designs, found.calls, started)

    return method


def tuned(backbone: str, seed: int) -> Row:
    """Fresh designs of the tuned weights, whose drawing costs no call, and how far they are from the base."""
    made, started = experiment(backbone, seed), time.process_time()
    trainer = build_trainer(made, None)
    policy = Policy(made.model.policy.process, trainer.run())
    designs = made.model.decode(sample(policy, KEPT, torch.Generator().manual_seed(10_000 + seed)))
    found = described(made, designs, int(trainer.history[-1]["calls"]), started)
    kl = path_kl(policy, made.model.policy, CHAINS, torch.Generator().manual_seed(seed)).mean().item()
    return found | {"kl": kl, "rounds": [row["reward"] for row in trainer.history]}


CALLS = int(TASK.defaults()["train"]["max_calls"])
METHODS: dict[str, Callable[[str, int], Row]] = {
    "base": base,
    "best of N": searched(name="best_of_n", factor=CALLS / KEPT),
    "smc": searched(name="smc"),
    "evolve": searched(name="evolve", factor=CALLS / KEPT, batch=KEPT),
    "tuned": tuned,
}


def table(rows: list[Row]) -> list[list[str]]:
    """Return the cells of the table: the mean over seeds, and the range of what decides."""
    head = ["", "", "seeds", "reward", "in the range", "judge, nats a residue", "unique", "KL, nats", "calls", "CPU s"]
    cells = [head]
    for backbone, method in itertools.product(BACKBONES, METHODS):
        found = [row for row in rows if (row["backbone"], row["method"]) == (backbone, method)]
        if not found:
            continue
        kl = "–" if method != "tuned" else f"{_mean(found, 'kl'):.0f}"
        title = f"{backbone}, {found[0]['residues']} residues" if method == "base" else ""
        cells.append([
            title, method, str(len(found)), _range(found, "reward", 1), f"{_mean(found, 'reached'):.0%}",
            _range(found, "judge", 2),
            f"{_mean(found, 'unique'):.0%}", kl, f"{_mean(found, 'calls'):.0f}", f"{_mean(found, 'cpu_s'):.0f}",
        ])  # fmt: skip
    return cells


def native(rows: list[Row], backbone: str) -> str:
    """Return what the judge says of a structure's own sequence."""
    found = next(row["native"] for row in rows if row["backbone"] == backbone and "native" in row)
    return f"{found:.2f}".replace("-", "−")


def value(rows: list[Row], backbone: str, method: str, key: str, how: str) -> str:
    """Return a number of a method on a backbone, its mean over seeds."""
    found = [row for row in rows if (row["backbone"], row["method"]) == (backbone, method)]
    return format(_mean(found, key), how).replace("-", "−")


def _mean(rows: list[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def _range(rows: list[Row], key: str, digits: int) -> str:
    values = [row[key] for row in rows]
    shown = [f"{value:.{digits}f}".replace("-", "−") for value in (_mean(rows, key), min(values), max(values))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    known = {(row["backbone"], row["method"], row["seed"]) for row in done}
    cells = itertools.product(options.backbones, options.methods)
    for seed, (backbone, method) in itertools.product(range(options.seeds), list(cells)):
        if (backbone, method, seed) in known:
            continue
        file = BACKBONES[backbone]
        path = options.data / file if file else TASK.folder / "1ubq.pdb"
        row = {"backbone": backbone, "method": method, "seed": seed} | METHODS[method](str(path), seed)
        assert math.isfinite(row["reward"]) and row["calls"] <= CALLS
        with options.out.open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
