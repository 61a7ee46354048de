"""Tuning networks of 38M and 150M numbers (random weights): seconds and peak memory of a round.

    python benchmarks/large.py --out FILE.jsonl
    python benchmarks/large.py --out FILE.jsonl --only 38M

A transformer, designs of 32 letters, chains of 4 steps. A round of PPO has a quarter as many calls as `states`, on all
of which it makes one update. Each case runs alone in a process of one thread, or in two processes that divide its rows;
cases that the file has already are not run again. `cpu_s`: seconds of the processor that building and tuning took, of
the first process; `peak_mb`: the peak of that process less what it took before; `same`: the largest difference of a
tuned weight from that of the same case in one process, as part of the largest weight. The first line has the rates of
matrix products in 32 and in 16 bits, which say whether "auto" would take 16; `--precision bfloat16` runs adapters so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from biotilt import Experiment, Model, load_model, tune
from biotilt.core import Policy
from biotilt.core.precision import speed
from biotilt.networks import Transformer, TransformerConfig
from biotilt.processes import AnyOrder
from biotilt.spaces import as_space

Case = dict[str, Any]
LENGTH = 32
SIZES = {"38M": (512, 12, 8), "150M": (896, 16, 14)}  # width, blocks and heads
BEFORE: Case = {"rank": None, "precision": "float32", "memory": 1000, "processes": 1, "states": 16}
LORA: Case = BEFORE | {"memory": 50, "rank": 8}
CASES: dict[str, list[Case]] = {
    "38M": [BEFORE, BEFORE | {"memory": 50}, LORA, LORA | {"processes": 2}, LORA | {"states": 64},
            LORA | {"states": 64, "memory": 1000}],
    "150M": [BEFORE, BEFORE | {"memory": 50}, LORA, LORA | {"processes": 2}],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--precision", default="float32", help="of adapters alone, where 16 bits are fast")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case = json.loads(options.one)
        found = measured(case, options.out) if "rank" in case else made(case["size"], options.out)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(found))
        return
    lines = []
    if options.out.exists():
        lines = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    done = [line["case"] for line in lines]
    if "machine" not in done:
        torch.set_num_threads(1)
        rates = {
            name: round(2e-9 * 1024**3 * speed(getattr(torch, name), torch.device("cpu")), 1)
            for name in ("float32", "bfloat16")
        }
        append(options.out, {"case": "machine", "found": rates})
    with tempfile.TemporaryDirectory() as name:
        for size in [options.only] if options.only else SIZES:
            cases = CASES[size] if options.precision == "float32" else [LORA | {"precision": options.precision}]
            for case in [{"size": size} | case for case in cases]:
                if case not in done:
                    append(options.out, {"case": case, "found": run(case, Path(name))})


def append(out: Path, line: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Return what a case takes, in as many processes as it says; one that fails says so."""
    if "rank" in case and not (folder / f"{case['size']}.safetensors").is_file():
        run({"size": case["size"], "processes": 1}, folder)  # apart: its memory is not tuning's
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    count = case["processes"]
    common = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, __file__, "--out", str(folder), "--one", json.dumps(case)]
    ran = [
        subprocess.Popen(
            command, env=common | {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    said = [process.communicate() for process in ran]
    if any(process.returncode for process in ran):
        return {"reason": (said[0][1].strip().splitlines() or ["it died"])[-1]}
    return json.loads(said[0][0]) | (apart(case, folder) if "rank" in case else {})


def apart(case: Case, folder: Path) -> dict[str, float]:
    """Return how far the weights are from those of one process, where they were tuned before."""
    other = place(case | {"processes": 1}, folder)
    if case["processes"] == 1 or not other.is_dir():
        return {}
    ours, theirs = (load_model(there, trust=True).policy.net for there in (place(case, folder), other))
    pairs = [(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True) if a.requires_grad]
    difference = max((a - b).abs().max().item() for a, b in pairs)
    return {"same": difference / max(b.abs().max().item() for _, b in pairs)}


def place(case: Case, folder: Path) -> Path:
    return folder / "-".join(str(value) for value in case.values())


def made(size: str, folder: Path) -> dict[str, Any]:
    """Write a generator of random weights."""
    torch.manual_seed(0)
    net = Transformer(TransformerConfig(4, LENGTH, *SIZES[size])).eval()
    Model(Policy(AnyOrder(LENGTH, 4, per_step=8), net), as_space("dna")).save(folder / f"{size}.safetensors")
    return {}


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """Tune one round, and return what it took."""
    base = folder / f"{case['size']}.safetensors"
    before, started, began = peak(), time.process_time(), time.perf_counter()
    calls = case["states"] // 4
    section: Case = {"path": str(base)} | ({"lora": {"rank": case["rank"]}} if case["rank"] else {})
    keys = {
        "alpha": 0.1, "model": section, "reward": {"kind": "gc"},
        "objective": {"name": "ppo", "updates": 1, "states": case["states"]},
        "train": {"max_calls": calls, "batch": calls, "memory": case["memory"], "precision": case["precision"],
                  "trackers": []},
    }  # fmt: skip
    experiment = Experiment.from_dict(keys, folder)
    run = tune(experiment, place(case, folder))
    net = experiment.model.policy.net
    return {
        "millions": round(sum(p.numel() for p in net.parameters()) / 1e6, 1),
        "trained": round(sum(p.numel() for p in net.parameters() if p.requires_grad) / 1e6, 2),
        "cpu_s": round(time.process_time() - started, 1),
        "wall_s": round(time.perf_counter() - began, 1),
        "round_s": round(run.rows[-1]["seconds"], 1),
        "peak_mb": round((peak() - before) / 1e3),
        "rows": run.rows[-1]["network_rows"],
    }


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
