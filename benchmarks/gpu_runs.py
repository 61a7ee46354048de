"""Whole runs on a card: checked, tuned, judged, steered; and whether they end with the same bits twice and resumed.

`python benchmarks/gpu_runs.py --out gpu_runs.jsonl` takes about two minutes on an H200. Each case is tuned three times,
once killed after its second round and resumed; then again without what `biotilt.repeatable` asks of torch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import biotilt
from biotilt import Experiment, Run
from biotilt.check import check
from biotilt.errors import BiotiltError
from biotilt.training import EachRound

CASES: dict[str, dict[str, Any]] = {
    "utr, vidd": {"task": "utr"},
    "utr, ppo": {"task": "utr", "objective": {"name": "ppo", "updates": 2}},
    "utr, ppo with adapters": {
        "task": "utr", "objective": {"name": "ppo", "updates": 2}, "model": {"lora": {"rank": 4}},
    },
    "utr, backprop": {"task": "utr", "objective": {"name": "backprop"}},
    "enhancer, vidd": {"task": "enhancer"},
    "protein, evolve": {"task": "protein", "objective": {"name": "evolve"}},
}  # fmt: skip
CALLS, BATCH = 96, 32


def apart(one: Run, other: Run) -> float:
    """Return the largest difference of two runs' weights; 0 where they are the same to the last bit."""
    a, b = (run.model.policy.net.state_dict() for run in (one, other))
    return max((a[key].cpu() - b[key].cpu()).abs().max().item() for key in a)


def tuned(keys: dict[str, Any], folder: Path) -> tuple[Run, float, float]:
    """Return a run, how far it is when it is repeated, and when it is killed and resumed."""

    def fail(row: Any) -> None:
        if row["round"] == 2:
            raise RuntimeError("killed")

    def tune(name: str, **options: Any) -> Run:
        return biotilt.tune(Experiment.from_dict(keys, folder), folder / name, **options)

    whole = tune("whole")
    again = apart(whole, tune("again"))
    with contextlib.suppress(BiotiltError):
        tune("killed", callbacks=[EachRound(fail)])
    return whole, again, apart(whole, tune("killed"))


def measure(name: str, device: str) -> Iterator[dict[str, Any]]:
    """Yield what a case took, step by step in seconds, and how far its repetitions were from it."""
    keys = {"train": {"max_calls": CALLS, "batch": BATCH}, "alpha": 0.1} | CASES[name] | {"device": device}
    with tempfile.TemporaryDirectory() as place:
        folder, line, last = Path(place), {"case": name, "calls": CALLS, "repeatable": True}, time.perf_counter()
        check(Experiment.from_dict(keys, folder), designs=4)
        line["checked"] = (now := time.perf_counter()) - last
        whole, line["twice"], line["resumed"] = tuned(keys, folder)
        line["tuned_three_times"] = (last := time.perf_counter()) - now
        whole.evaluate(samples=64)
        line["evaluated"] = (now := time.perf_counter()) - last
        for sampler in ("smc", "svdd"):
            biotilt.steer(Experiment.from_dict(keys | {"sampler": {"name": sampler}}, folder), 4)
        biotilt.steer(Experiment.from_dict(keys | {"sampler": {"name": "svdd"}}, folder), 4, proposal=whole.model)
        yield line | {"steered_three_times": time.perf_counter() - now}
    with (
        tempfile.TemporaryDirectory() as place,
        patch("biotilt.run.repeatable", lambda device: contextlib.nullcontext()),
    ):
        _, twice, resumed = tuned(keys, Path(place))
        yield {"case": name, "calls": CALLS, "repeatable": False, "twice": twice, "resumed": resumed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    card = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    with options.out.open("a") as out:
        for name in options.only:
            for line in measure(name, options.device):
                out.write(json.dumps({"card": card, "torch": torch.__version__} | line) + "\n")
                out.flush()
                print(json.dumps(line))


if __name__ == "__main__":
    main()
