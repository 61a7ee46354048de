"""What samplers that choose or revisit give at equal network calls: plain, by confidence, with letters hidden again.

    python benchmarks/revisit.py --out benchmarks/results/revisit.jsonl

The generators of two tasks, each with the processes that its network serves. Held against designs of one letter a step
in random order, which is what the network says: the 3-mer correlation with them and the distance of 3-mer frequencies
(of single letters); log p by random order (a bound, nats a token), the share of different designs, and the mean share
of positions at which two designs differ. A line is one task, sampler and number of calls; lines that are
there are not made again. CPU minutes, one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biotilt.evaluation import kmer_correlation, kmer_counts
from biotilt.evaluation.likelihood import log_likelihood
from biotilt.evaluation.metrics import unique_fraction
from biotilt.experiment import Experiment
from biotilt.model import Model
from biotilt.spaces import Text

Line = dict[str, Any]
DESIGNS = {"utr": 500, "molecule": 96}
STEPS = {"utr": (10, 5, 2, 1), "molecule": (8, 4)}  # letters a step
SAMPLERS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "any_order": lambda m, calls: {"name": "any_order", "per_step": m},
    "masked": lambda m, calls: {"name": "masked", "num_steps": calls},
    "confidence, largest": lambda m, calls: {"name": "confidence", "per_step": m},
    "confidence, drawn": lambda m, calls: {"name": "confidence", "per_step": m, "by": "drawn"},
    "confidence, drawn, no noise": lambda m, calls: {
        "name": "confidence", "per_step": m, "by": "drawn", "randomness": 0.0
    },
    "remasking, eta 0.2": lambda m, calls: {"name": "remasking", "num_steps": calls, "eta": 0.2},
    "remasking, loop": lambda m, calls: {
        "name": "remasking", "num_steps": calls, "strategy": "cap", "eta": 0.1, "first": 0.4, "last": 0.8, "hold": 0.8
    },
}  # fmt: skip


def words(designs: list[str], reference: np.ndarray | None, letters: str) -> Line:
    """Return how near the 3-mers of designs are to others'; nothing where letters are no single characters."""
    if reference is None:
        return {}
    counts = kmer_counts(designs, 3, letters)
    distance = np.abs(counts / counts.sum() - reference / reference.sum()).sum() / 2
    return {"kmer3": kmer_correlation(counts, reference), "kmer3_distance": float(distance)}


def measured(exact: Model, states: Tensor, designs: list[str]) -> Line:
    """Return what designs are like to the network, and to each other."""
    some = states[:200]
    nats = log_likelihood(exact.policy, some, "bound", draws=8).values.mean().item() / states.shape[1]
    half = len(states) // 2
    apart = (states[:half] != states[half : 2 * half]).double().mean().item()
    return {"nats": nats, "unique": unique_fraction(designs), "apart": apart}


def run(task: str, done: set[tuple[Any, ...]], write: Callable[[Line], None]) -> None:
    model = Experiment.for_task(task).model
    exact = model.with_process(name="any_order", per_step=1)
    length, count = exact.policy.process.steps, DESIGNS[task]
    assert isinstance(model.space, Text)
    letters = "".join(model.space.symbols)
    wanted = [(name, m) for m in STEPS[task] for name in SAMPLERS if (task, name, length // m) not in done]
    if not wanted:
        return
    plain = len(letters) == len(model.space.symbols)
    reference = kmer_counts(exact.sample(4 * count, seed=100), 3, letters) if plain else None
    for name, m in wanted:
        sampler = model.with_process(**SAMPLERS[name](m, length // m))
        started = time.process_time()
        states = sampler.draw(count, seed=1)
        seconds = time.process_time() - started
        designs, calls = sampler.decode(states), sampler.policy.process.steps
        found = words(designs, reference, letters) | measured(exact, states, designs)
        write({"task": task, "sampler": name, "calls": calls, "seconds": seconds} | found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(DESIGNS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = arguments.out.read_text(encoding="utf-8") if arguments.out.is_file() else ""
    done = {(line["task"], line["sampler"], line["calls"]) for line in map(json.loads, text.splitlines())}
    with arguments.out.open("a", encoding="utf-8") as out:

        def write(line: Line) -> None:
            print(json.dumps(line), file=out, flush=True)

        for task in arguments.tasks:
            run(task, done, write)


if __name__ == "__main__":
    main()
