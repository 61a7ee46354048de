"""Ehrlich functions (Stanton et al. 2024): the best found at equal calls, ours against the genetic algorithm of holo.

    pip install pytorch-holo
    python benchmarks/ehrlich.py --out ehrlich.jsonl           # lengths 32 and 128, 4,000 calls, three seeds
    python benchmarks/ehrlich.py --out ehrlich.jsonl --table
    python benchmarks/ehrlich.py --check                       # the reward against the package, on random designs

Functions of 20 letters with four motifs of four, the seed of the run being that of the function; the optimum is 1. A
call is a design that was not asked about before. `evolve` (the objective, with training), `search` (its sampler) and
`best_of_n` work with a generator that learned, in seconds, 1,000 feasible designs of the function's own chain, which
nobody scored. `ga` is `DiscreteEvolution` of the package with its published rates (1.1/L) from one feasible design, as
its own benchmark starts; `ga_many` starts from as many feasible designs as it has particles. Both are left out where
the package is not installed. A line of the output is one run; runs that are there already are not done again.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from asked import Asked, Spent
from biotilt import pretrain_model
from biotilt.core import sample
from biotilt.experiment import Experiment
from biotilt.model import Model
from biotilt.rewards.generic.ehrlich import Ehrlich
from biotilt.steering import steer
from biotilt.training import PretrainConfig
from biotilt.wiring import build_trainer

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
FEASIBLE = 1000  # designs that the generator learns
PARTICLES, SURVIVE = 200, 0.1
METHODS = ("ga", "ga_many", "evolve", "search", "best_of_n")
TITLES = {
    "ga": "holo's GA", "ga_many": "the same from many designs", "evolve": "`evolve`", "search": "`evolve`, sampler",
    "best_of_n": "best of N",
}  # fmt: skip
POINTS = (250, 1000, 4000, 16000)
Case = dict[str, Any]


def measure(case: Case) -> dict[str, Any]:
    """Return the figures of one run: the best after so many calls, and when the optimum was found."""
    asked = Asked(Ehrlich(LETTERS, length=case["length"], seed=case["seed"]), case["calls"])
    started = time.process_time()
    RUNS[case["method"]](asked, case["seed"])
    seconds = time.process_time() - started
    scores = list(asked.scores.values())
    best = list(itertools.accumulate(scores, max))
    return {
        "best": max(best[-1], 0.0),
        "curve": {str(calls): max(best[min(calls, len(best)) - 1], 0.0) for calls in POINTS if calls <= case["calls"]},
        "optimum_at": best.index(1.0) + 1 if best[-1] == 1.0 else None,
        "feasible": round(sum(score >= 0 for score in scores) / len(scores), 3),
        "calls": len(scores), "seconds": round(seconds, 1),
    }  # fmt: skip


@cache  # the same for every method
def generator(length: int, seed: int) -> Model:
    """Return a small generator that learned feasible designs, none of them scored."""
    function = Ehrlich(LETTERS, length=length, seed=seed)
    designs = function.feasible(FEASIBLE, torch.Generator().manual_seed(seed))
    config = PretrainConfig(steps=250, batch=64, lr=3e-3, warmup=20)
    network = {"channels": 48, "blocks": 3}
    model, _ = pretrain_model(designs, "protein", network=network, config=config, seed=seed)
    return model


def experiment(asked: Asked[Ehrlich], seed: int, keys: dict[str, Any]) -> Experiment:
    model = generator(asked.reward.length, seed)
    return Experiment.from_dict(
        {"alpha": 0.1, "seed": seed, "screen": {"name": "gp"}, **keys}, Path(), reward=asked, model=model
    )


def evolve(asked: Asked[Ehrlich], seed: int) -> None:
    train = {"max_calls": asked.calls, "batch": 64}
    build_trainer(experiment(asked, seed, {"objective": {"name": "evolve"}, "train": train}), None).run()


def search(asked: Asked[Ehrlich], seed: int) -> None:
    kept = min(100, asked.calls)
    steer(experiment(asked, seed, {"sampler": {"name": "evolve", "factor": asked.calls / kept, "batch": 64}}), kept)


def best_of_n(asked: Asked[Ehrlich], seed: int) -> None:
    model, draws = generator(asked.reward.length, seed), torch.Generator().manual_seed(seed)
    while len(asked.scores) < asked.calls:
        found = dict.fromkeys(model.decode(sample(model.policy, 256, draws)))
        asked([design for design in found if design not in asked.scores][: asked.calls - len(asked.scores)])


def ga(asked: Asked[Ehrlich], seed: int, *, many: bool = False) -> None:
    """Run the package's optimiser, which lowers a loss, until the calls are spent."""
    optim = importlib.import_module("holo.optim")
    torch.manual_seed(seed)
    length, letters = asked.reward.length, asked.reward.letters
    draws = torch.Generator().manual_seed(seed)
    first = tokens(asked.reward.feasible(PARTICLES if many else 1, draws), letters)
    parameter = torch.nn.Parameter(first[0].float())
    rates = {"mutation_prob": 1.1 / length, "recombine_prob": 1.1 / length}
    optimiser = optim.DiscreteEvolution(
        [parameter], vocab=list(range(len(letters))), num_particles=PARTICLES, survival_quantile=SURVIVE, **rates
    )
    if many:
        optimiser.state[parameter]["particles"] = first.float()

    def loss(particles: list[torch.Tensor]) -> torch.Tensor:
        designs = ["".join(letters[token] for token in row) for row in particles[0].long().tolist()]
        return -torch.tensor(asked(designs))

    try:
        while True:
            optimiser.step(loss)
    except Spent:
        return


def tokens(designs: list[str], letters: str) -> torch.Tensor:
    return torch.tensor([[letters.index(letter) for letter in design] for design in designs])


RUNS: dict[str, Callable[[Asked[Ehrlich], int], None]] = {
    "evolve": evolve,
    "search": search,
    "best_of_n": best_of_n,
    "ga": ga,
    "ga_many": lambda asked, seed: ga(asked, seed, many=True),
}


def check() -> float:
    """Return the largest difference from the package, over designs of which many are feasible; −inf must agree."""
    package, worst = importlib.import_module("holo.test_functions.closed_form"), 0.0
    for length, motifs, size, quantization, epistasis, seed in [
        (32, 4, 4, 4, 0.0, 0), (128, 4, 4, 4, 0.0, 1), (128, 8, 8, 4, 0.5, 2), (64, 2, 4, 2, 0.3, 3)
    ]:  # fmt: skip
        ours = Ehrlich(LETTERS, length, motifs, size, quantization, epistasis, seed)
        theirs = package.Ehrlich(len(LETTERS), length, motifs, size, quantization, epistasis, random_seed=seed)
        draws = torch.Generator().manual_seed(seed)
        near = tokens([ours.optimum()] * 300, LETTERS)
        moved = torch.where(torch.rand(near.shape, generator=draws) < 0.1, near.roll(1, 1), near)  # letters repeated
        chance = torch.randint(len(LETTERS), (100, length), generator=draws)
        designs = torch.cat([moved, chance, tokens(ours.feasible(300, draws), LETTERS)])
        found = torch.tensor(ours(["".join(LETTERS[token] for token in row) for row in designs.tolist()]))
        wanted = theirs(designs, noise=False)
        if not torch.equal(found.isinf(), wanted.isinf()):
            return math.inf
        worst = max(worst, (found - wanted)[found.isfinite()].abs().max().item())
    return worst


def table(lines: list[dict[str, Any]]) -> str:
    """Return a Markdown table: a method a line, the best first, means over seeds."""
    rows = []
    for length in sorted({line["case"]["length"] for line in lines}):
        for calls in sorted({line["case"]["calls"] for line in lines}):
            rows += _of_length(lines, length, calls)
    points = [point for point in POINTS if any(str(point) in line["found"]["curve"] for line in lines)]
    head = ["length", "", "seeds", *(f"best after {point:,}" for point in points), "optimum found", "feasible", "CPU s"]
    shown = [head, ["---"] * len(head), *([row[0], *row[1], *row[2]] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in shown)


def _of_length(lines: list[dict[str, Any]], length: int, calls: int) -> list[tuple[str, list[str], list[str]]]:
    points = [point for point in POINTS if any(str(point) in line["found"]["curve"] for line in lines)]
    found: list[tuple[float, tuple[str, list[str], list[str]]]] = []
    for method in METHODS:
        wanted = {"length": length, "calls": calls, "method": method}
        runs = [line["found"] for line in lines if wanted.items() <= line["case"].items()]
        if not runs:
            continue
        curve = [statistics.fmean(run["curve"][str(p)] for run in runs) if p <= calls else None for p in points]
        cells = ["–" if value is None else f"{value:.3f}" for value in curve]
        solved = sum(run["optimum_at"] is not None for run in runs)
        rest = [f"{solved} of {len(runs)}", f"{statistics.fmean(run['feasible'] for run in runs):.0%}"]
        rest.append(f"{statistics.median(run['seconds'] for run in runs):.0f}")
        last = statistics.fmean(run["best"] for run in runs)
        found.append((-last, (str(length), [TITLES[method], str(len(runs)), *cells], rest)))
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ehrlich.jsonl"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--calls", type=int, nargs="+", default=[4000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and stop")
    parser.add_argument("--check", action="store_true", help="compare the reward with that of the package, and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rival = importlib.util.find_spec("holo") is not None
    if options.check:
        print(f"largest difference {check():.1e}" if rival else "nothing compared: pytorch-holo is not installed")
        return
    text = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    if options.table:
        print(table(lines))
        return
    done = [line["case"] for line in lines]
    methods = [method for method in options.methods if rival or not method.startswith("ga")]
    for calls, seed, length, method in itertools.product(options.calls, options.seeds, options.lengths, methods):
        case = {"length": length, "method": method, "calls": calls, "seed": seed}
        if case in done:
            continue
        line = json.dumps({"case": case, "found": measure(case)})
        with options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
