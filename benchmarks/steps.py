"""What drawing several letters a step saves, and what it does to the law: generators of any order, by letters a step.

    python benchmarks/steps.py --out FILE.jsonl

The law is that of one letter a step, in which nothing is approximated. `kl_bits`: the KL to it of chains that reveal
`per_step` letters at once, in bits a design, an upper bound on that of designs: the mean of log p_m(letters) −
log p_1(the same letters one by one, in random order), over `weighed` designs. `ess`: the effective share of them under
the weights p_1/p_m, which correct the law exactly. `kmer_bits`: the KL of the frequencies of 4-mers, of `drawn`
designs, to those of as many of one letter a step; for one letter that of two such sets, which is noise. `rows` a design
to draw, and to weigh as well; CPU seconds a design of one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.core import Policy, needed, rollout, sample
from biotilt.experiment import Experiment
from biotilt.formulas.soft_rl import effective_fraction
from biotilt.processes import AnyOrder
from biotilt.testing import RowCounter

SIZES = {"utr": (800, 150), "enhancer": (40, 12)}  # designs that are drawn, and weighed
LETTERS = {"utr": (1, 2, 5, 10), "enhancer": (1, 5, 10, 20)}
BASE: dict[str, Tensor] = {}  # designs of one letter a step, of each task


def drawing(policy: Policy, count: int, seed: int) -> tuple[Tensor, float, float]:
    """Return designs, and the rows and CPU seconds that one of them took."""
    start = time.process_time()
    with RowCounter(net=policy.net) as rows:
        designs = sample(policy, count, torch.Generator().manual_seed(seed))
    return designs, rows.total.plain / count, (time.process_time() - start) / count


@torch.no_grad()
def log_weights(policy: Policy, count: int, seed: int) -> Tensor:
    """Return log p_1/p_m `(count,)` of chains: the letters of a step one by one, in random order, against at once."""
    generator = torch.Generator().manual_seed(seed)
    process = needed(policy.process, AnyOrder)
    total = torch.zeros(count)
    states = rollout(policy, count, generator).states
    for k, (x, y) in enumerate(itertools.pairwise(states)):
        moved = x != y
        letters = torch.where(moved, y, 0).long().unsqueeze(-1)
        at_once = policy.kernel(x, k).x0.gather(-1, letters).squeeze(-1)
        place = torch.rand(x.shape, generator=generator).masked_fill(~moved, 2.0).argsort(-1).argsort(-1)
        for turn in range(process.per_step):
            here = moved & (place == turn)
            if turn:
                x = torch.where(moved & (place < turn), y, x)
            one = at_once if turn == 0 else policy.kernel(x, k).x0.gather(-1, letters).squeeze(-1)
            total += torch.where(here, one - at_once, 0.0).sum(-1)
    return total


def kmers(designs: list[str], k: int = 4) -> Counter[str]:
    return Counter(design[i : i + k] for design in designs for i in range(len(design) - k + 1))


def kl_bits(ours: Counter[str], theirs: Counter[str]) -> float:
    """Return the KL of frequencies in bits; a k-mer that was never seen counts half of one that was once."""
    n, m = sum(ours.values()), sum(theirs.values())
    return sum(c / n * math.log2(c / n / (max(theirs[kmer], 0.5) / m)) for kmer, c in ours.items())


def measure(task: str, per_step: int) -> dict[str, Any]:
    """Return the figures of a task's generator at so many letters a step."""
    torch.set_num_threads(1)
    experiment = Experiment.for_task(task)
    drawn, weighed = SIZES[task]
    process, net = needed(experiment.model.policy.process, AnyOrder), experiment.model.policy.net.eval()
    exact, given = (Policy(replace(process, per_step=m), net) for m in (1, per_step))
    if task not in BASE:
        BASE[task] = drawing(exact, drawn, 1)[0]
    base = BASE[task]
    designs, rows, seconds = drawing(given, drawn, 2)
    weights = log_weights(given, weighed, 3)
    decode = experiment.model.decode
    return {
        "rows": round(rows, 1), "cpu_ms": round(1e3 * seconds, 3),
        "kl_bits": round(-weights.mean().item() / math.log(2), 3),
        "kl_bits_error": round(weights.std().item() / weighed**0.5 / math.log(2), 3),
        "ess": round(effective_fraction(weights).item(), 3),
        "kmer_bits": round(kl_bits(kmers(decode(designs)), kmers(decode(base))), 5),
        # the first letter of a step has its row already
        "rows_weighed": round(rows + exact.process.steps - given.process.steps, 1),
        "length": exact.process.steps, "drawn": drawn, "weighed": weighed,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=list(SIZES))
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    done = [(line["task"], line["per_step"]) for line in map(json.loads, lines)]
    for task in options.tasks:
        for per_step in LETTERS[task]:
            if (task, per_step) not in done:
                line = {"task": task, "per_step": per_step, **measure(task, per_step)}
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)


if __name__ == "__main__":
    main()
