"""What scores of few designs of the base tell of others, on the tasks: whether `auto` could go by a short probe.

    python benchmarks/probe.py --out benchmarks/results/probe.jsonl

Half of the designs teach the process of a screen, which then predicts the other half: the part of the variance that it
leaves (`biotilt.check`), for as many probes as 384 designs pay for. A line of the output is one task; tasks that are in
the file already are not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from biotilt.check import part_unknown
from biotilt.core import sample
from biotilt.experiment import Experiment
from biotilt.oracle import Store
from biotilt.tasks import TASKS

DESIGNS, SIZES = 384, (64, 128, 384)
Row = dict[str, str | dict[str, list[float | None]]]


def unknown(task: str) -> Row:
    """Return what probes of each size leave of the variance."""
    experiment = Experiment.for_task(task)
    designs = sample(experiment.model.policy, DESIGNS, torch.Generator().manual_seed(5))
    scores = experiment.oracles.of(experiment.reward, Store(None), "probe")(designs)
    found: dict[str, list[float | None]] = {}
    for size in SIZES:
        parts = [slice(first, first + size) for first in range(0, DESIGNS, size)]
        found[str(size)] = [part_unknown(experiment, scores[part], designs[part]) for part in parts]
    return {"task": task, "unknown": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line)["task"] for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for task in sorted(TASKS):
        if task not in done and task not in ("docking", "lead"):  # they need more than the task brings
            with options.out.open("a") as handle:
                handle.write(json.dumps(unknown(task)) + "\n")


if __name__ == "__main__":
    main()
