"""The task `lead` at equal oracle calls: likeness to the reference ligand, and the share within every ADMET bound.

    python benchmarks/lead.py --out benchmarks/results/lead.jsonl

A line is one method with one seed. Methods that know no constraints are shown twice: by the reward alone, and "in
bounds", where what breaks any bound counts as infeasible, so that each design they keep is to meet all of them. Base
and both kinds of best of N read the same draws of the base. `kept` designs of each are judged; those of the tuned
generator are drawn afresh, and cost no call. It needs admet-ai. A run that was stopped goes on with what has no line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from biotilt import Experiment
from biotilt.core import Policy, path_kl, sample
from biotilt.steering import steer
from biotilt.tasks import find_task
from biotilt.wiring import build_trainer

Row = dict[str, Any]
Scores = dict[str, float]
TASK = find_task("lead")
CALLS = int(TASK.defaults()["train"]["max_calls"])
KEPT = 32  # designs of each method that are judged
CHAINS = 16  # of the KL
BATCH = 50


def experiment(seed: int, **changes: Any) -> Experiment:
    """Return the task with a seed, and what is changed in it."""
    return Experiment.from_dict({"task": TASK.name, "seed": seed, **changes}, Path(), "the task lead")


def hard_bounds() -> Row:
    """Return the reward's section in which a design that breaks a bound of the task is infeasible."""
    known = TASK.defaults()
    parts = [known["reward"]]
    for constraint in known["constraints"]:
        bounds = {key: constraint[key] for key in ("at_least", "at_most") if key in constraint}
        column = {key: constraint[key] for key in ("kind", "column")}
        parts.append({"kind": "threshold", "options": {**bounds, "keep": False}, "parts": [column]})
    return {"kind": "sum", "parts": parts}


def within(made: Experiment, designs: list[str]) -> dict[str, list[bool]]:
    """Return which designs keep each bound, by its name; what cannot be scored keeps none."""
    kept = {}
    for name, section, reward in made.bounds():
        low = -math.inf if section.at_least is None else section.at_least
        high = math.inf if section.at_most is None else section.at_most
        kept[name] = [low <= value <= high for value in reward(designs)]
    return kept


def described(made: Experiment, designs: list[str], calls: int, seconds: float) -> Row:
    """Return what a row says of designs; judging is no part of what they took."""
    plain = experiment(0)
    assert plain.held_out is not None
    scores, judged, kept = plain.reward(designs), plain.held_out(designs), within(plain, designs)
    whole = [all(each) for each in zip(*kept.values())]
    best = [score for score, fine in zip(scores, whole) if fine and math.isfinite(score)]
    return {
        "designs": len(designs), "calls": calls, "cpu_s": seconds,
        "score": statistics.fmean(score for score in scores if math.isfinite(score)),
        "in_bounds": statistics.fmean(whole),
        "outside": {name: 1 - statistics.fmean(values) for name, values in kept.items()},
        "best_in_bounds": max(best, default=None),
        "judge": statistics.fmean(score for score in judged if math.isfinite(score)),
        "unique": len(set(designs)) / len(designs),
    }  # fmt: skip


class Draws:
    """The designs of the base that base and best of N read: drawn and scored once a seed."""

    def __init__(self, seed: int) -> None:
        started = time.process_time()
        self.made = experiment(seed)
        generator = torch.Generator().manual_seed(10_000 + seed)
        states = [sample(self.made.model.policy, BATCH, generator) for _ in range(CALLS // BATCH)]
        self.designs = [design for part in states for design in self.made.model.decode(part)]
        self.drawn = time.process_time() - started
        self.scores = self.made.reward(self.designs)
        self.seconds = time.process_time() - started
        self.fine = [all(each) for each in zip(*within(self.made, self.designs).values())]
        self.seconds_in_bounds = time.process_time() - started

    def base(self) -> Row:
        part = self.drawn * KEPT / len(self.designs)
        return described(self.made, self.designs[:KEPT], 0, part)

    def best(self) -> Row:
        return described(self.made, self._ranked(self.scores), len(self.designs), self.seconds)

    def best_in_bounds(self) -> Row:
        feasible = [score if fine else -math.inf for score, fine in zip(self.scores, self.fine)]
        return described(self.made, self._ranked(feasible), len(self.designs), self.seconds_in_bounds)

    def _ranked(self, scores: list[float]) -> list[str]:
        known = {d: s for d, s in zip(self.designs, scores) if not math.isnan(s)}
        return sorted(known, key=lambda design: known[design], reverse=True)[:KEPT]


def evolved(seed: int, **changes: Any) -> Row:
    """Return the best of an evolutionary search, which leaves the weights alone."""
    started = time.process_time()
    sampler = {"name": "evolve", "factor": CALLS / KEPT, "batch": BATCH}
    made = experiment(seed, sampler=sampler, **changes)  # samplers know no constraints
    found = steer(made, KEPT)
    return described(made, found.designs, found.calls, time.process_time() - started)


def tuned(seed: int, **changes: Any) -> Row:
    """Return fresh designs of the tuned weights, the multipliers of the last half of its rounds, and its KL."""
    started = time.process_time()
    made = experiment(seed, **changes)
    trainer = build_trainer(made, None)
    policy = Policy(made.model.policy.process, trainer.run())
    seconds = time.process_time() - started
    designs = made.model.decode(sample(policy, KEPT, torch.Generator().manual_seed(20_000 + seed)))
    found = described(made, designs, int(trainer.history[-1]["calls"]), seconds)
    kl = path_kl(policy, made.model.policy, CHAINS, torch.Generator().manual_seed(seed)).mean().item()
    late = trainer.history[len(trainer.history) // 2 :]
    prices = {
        key.removeprefix("multiplier/"): statistics.fmean(row[key] for row in late)
        for key in late[0] if key.startswith("multiplier/")
    }  # fmt: skip
    return found | {"kl": kl, "multipliers": prices, "rounds": [row["reward"] for row in trainer.history]}


METHODS: dict[str, Callable[[int, Callable[[], Draws]], Row]] = {
    "base": lambda seed, draws: draws().base(),
    "best of N": lambda seed, draws: draws().best(),
    "best of N, in bounds": lambda seed, draws: draws().best_in_bounds(),
    "tuned": lambda seed, draws: tuned(seed),
    "evolve": lambda seed, draws: evolved(seed),
    "evolve, in bounds": lambda seed, draws: evolved(seed, reward=hard_bounds()),
}


def table(rows: list[Row]) -> list[list[str]]:
    """Return the cells of the table: means over seeds, and the range of what decides."""
    head = ["", "seeds", "likeness", "within every bound", "best within them", "judge", "unique", "KL, nats", "calls",
            "CPU s"]  # fmt: skip
    cells = [head]
    for method in METHODS:
        found = [row for row in rows if row["method"] == method]
        if not found:
            continue
        best = [row["best_in_bounds"] for row in found if row["best_in_bounds"] is not None]
        kl = f"{_mean(found, 'kl'):.1f}" if "kl" in found[0] else "–"
        cells.append([
            method, str(len(found)), _range(found, "score"), _range(found, "in_bounds", ".0%"),
            f"{statistics.fmean(best):.2f}" if best else "–", _range(found, "judge"), f"{_mean(found, 'unique'):.0%}",
            kl, f"{_mean(found, 'calls'):.0f}", f"{_mean(found, 'cpu_s'):.0f}",
        ])  # fmt: skip
    return cells


def bounds(rows: list[Row]) -> list[list[str]]:
    """Return the cells of a second table: the share of designs outside each bound, and what tuning paid for it."""
    names = list(rows[0]["outside"])
    cells = [["", *names]]
    for method in METHODS:
        found = [row for row in rows if row["method"] == method]
        if found:
            shares = [statistics.fmean(row["outside"][name] for row in found) for name in names]
            cells.append([method, *(f"{share:.0%}" for share in shares)])
    tuned_rows = [row for row in rows if row["method"] == "tuned"]
    if tuned_rows:
        prices = [
            statistics.fmean(
                value for row in tuned_rows for key, value in row["multipliers"].items() if key.startswith(f"{name}_")
            )
            for name in names
        ]
        cells.append(["multiplier, tuned", *(f"{price:.3f}" for price in prices)])
    return cells


def value(rows: list[Row], method: str, key: str, how: str) -> str:
    """Return a number of a method, its mean over seeds; "outside.NAME" is the share outside a bound."""
    part, _, name = key.partition(".")
    found = [row[part] for row in rows if row["method"] == method]
    return format(statistics.fmean(one[name] if name else one for one in found), how).replace("-", "−")


def _mean(rows: list[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def _range(rows: list[Row], key: str, how: str = ".2f") -> str:
    low, mean, high = (format(v, how) for v in (min(r[key] for r in rows), _mean(rows, key), max(r[key] for r in rows)))
    return mean if len(rows) == 1 else f"{mean} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    if importlib.util.find_spec("admet_ai") is None:
        print("lead was not run, since admet-ai is not installed: pip install admet-ai", file=sys.stderr)
        return
    torch.set_num_threads(1)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    known = {(row["method"], row["seed"]) for row in done}
    for seed in range(options.seeds):
        drawn: list[Draws] = []

        def draws(seed: int = seed, drawn: list[Draws] = drawn) -> Draws:
            if not drawn:
                drawn.append(Draws(seed))
            return drawn[0]

        for method in options.methods:
            if (method, seed) in known:
                continue
            row = {"method": method, "seed": seed} | METHODS[method](seed, draws)
            assert row["calls"] <= CALLS
            with options.out.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
