"""The demo of every ready-made task with three seeds: what the README and the pages of the tasks quote.

    python benchmarks/demos.py --runs runs/results --out benchmarks/results/demos.jsonl
    python benchmarks/demos.py --tasks docking --set reward.options.receptor=FILE --set reward.options.box=FILE

A run is kept in RUNS/TASK-SEED and goes on where it stopped; a line of the output is one run, and those that are in the
file already are not done again. `--set` is for tasks that cannot run without (docking needs a receptor): it applies to
every task that is named. Base and best of N depend on the seed; what was tuned depends on the processor besides, since
training amplifies the last bits of its kernels: a line says which it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import re
from pathlib import Path
from typing import Any

import torch

from biotilt.experiment import Experiment
from biotilt.files import write_text
from biotilt.folder import TUNED
from biotilt.keys import override
from biotilt.run import Run, resume, tune
from biotilt.tasks import TASKS

NEEDS_MORE = {"docking", "lead"}  # tasks that are run only when they are named, with what they need


def run(task: str, seed: int, folder: Path, changes: list[str]) -> dict[str, Any]:
    """Tune a task into a folder, or take the finished run that is there, and judge it."""
    experiment = Experiment.from_dict(override({"task": task}, [*changes, f"seed={seed}"]), Path(), "the demo")
    if (folder / TUNED).is_file():
        done = Run.load(folder)
    else:
        done = resume(folder) if (folder / "experiment.json").is_file() else tune(experiment, folder)
    summary = done.evaluate()
    kept = ("alpha", "objective", "calls", "seconds", "rows", "verdict", "checks", "warnings", "versions", "measures")
    trained = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    return {
        "task": task, "seed": seed, "processor": processor(), "trained_by": trained.get("git"),
        "samples": done.experiment.config.output.samples, **{key: summary.get(key) for key in kept},
    }  # fmt: skip


def processor() -> str:
    """Return what figures of tuned rows depend on: the processor, and the instructions that torch uses on it."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} thread(s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demos.jsonl"))
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--tasks", nargs="*", choices=sorted(TASKS), default=sorted({*TASKS} - NEEDS_MORE))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the tasks that are named")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    finished = {(line["task"], line["seed"]) for line in done}
    for seed, task in itertools.product(options.seeds, options.tasks):
        if (task, seed) in finished:
            continue
        done.append(run(task, seed, options.runs / f"{task}-{seed}", options.set))
        done.sort(key=lambda line: (line["task"], line["seed"]))
        write_text(options.out, "".join(json.dumps(line) + "\n" for line in done))
        print(f"{task} {seed} is done", flush=True)


if __name__ == "__main__":
    main()
