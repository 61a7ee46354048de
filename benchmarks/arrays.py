"""Points and 16×16 images from data to the page, by commands alone, with a `kill -9` on the way: do designs rise?

    python benchmarks/arrays.py
    python benchmarks/arrays.py --only images --seed 1 --out FOLDER --json

Data are drawn here: two crescents in the plane, and images of one soft spot. A user's part is `REWARDS` and an
experiment file; how many lines those are is counted. Commands: pretrain, check, tune, killed after its first
checkpoint, tune --resume, sample (in a fresh process), steer, evaluate. Prints the medians of the rows and of the
designs that `sample` wrote, scored anew.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

REWARDS = """
import biotilt

@biotilt.reward(reads="images", differentiable=True)
def left(images):
    half = images.shape[2] // 2
    return images[:, :, :half].mean((1, 2, 3)) - images[:, :, half:].mean((1, 2, 3))

@biotilt.reward(reads="points", differentiable=True)
def north(points):
    return points[:, 1]
"""

EXPERIMENT = """
alpha = {alpha}
[model]
path = "{name}.safetensors"
[reward]
kind = "python"
function = "rewards.py:{function}"
[objective]
name = "adjoint_matching"
updates = 8
states = 128
[train]
max_calls = {calls}
batch = 64
[sampler]
name = "guidance"
[output]
samples = 128
"""


def crescents(draw: np.random.Generator) -> np.ndarray:
    """Return points `(2000, 2)` of two half circles, in units of their own."""
    angle, side = draw.uniform(0, np.pi, 2000), draw.integers(0, 2, 2000)
    x = np.where(side, np.cos(angle), 1 - np.cos(angle))
    y = np.where(side, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack([10 * x, 3 * y], 1) + draw.normal(0, 0.3, (2000, 2))


def spots(draw: np.random.Generator) -> np.ndarray:
    """Return images `(2000, 16, 16, 1)` of one soft spot each."""
    y, x = np.mgrid[:16, :16]
    down, right = draw.uniform(3, 12, (2, 2000, 1, 1))
    width, height = draw.uniform(1.2, 2.6, (2000, 1, 1)), draw.uniform(0.5, 1, (2000, 1, 1))
    light = height * np.exp(-((y - down) ** 2 + (x - right) ** 2) / (2 * width**2))
    return np.round(light * 255)[..., None] / 255


@dataclass(frozen=True)
class Case:
    """A kind of designs: its data, what pretraining is told, the reward, its temperature and its budget."""

    data: Callable[[np.random.Generator], np.ndarray]
    pretrain: str
    function: str
    alpha: float
    calls: int


CASES = {
    "points": Case(crescents, "--process flow --num-steps 50 --steps 1500", "north", 0.4, 1024),
    "images": Case(
        spots, "--process flow --num-steps 20 --steps 600 --batch 64 --set network.channels=16", "left", 0.02, 2048
    ),
}


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command of biotilt in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "biotilt.cli", *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def done(folder: Path, *words: str) -> str:
    """Run a command to its end and return what it printed; the benchmark ends with its error."""
    process = command(folder, *words)
    out, error = process.communicate()
    if process.returncode:
        sys.exit(f"biotilt {' '.join(words)}: {error}")
    return out


def through(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Take one kind of designs through every command."""
    case, started = CASES[name], time.perf_counter()
    experiment = EXPERIMENT.format(name=name, function=case.function, alpha=case.alpha, calls=case.calls)
    (folder / "rewards.py").write_text(REWARDS, encoding="utf-8")
    (folder / f"{name}.toml").write_text(experiment, encoding="utf-8")
    np.save(folder / f"{name}.npy", case.data(np.random.default_rng(0)).astype("float32"))
    file, run = f"{name}.toml", folder / f"{name}-{seed}"
    done(folder, "pretrain", f"{name}.npy", "--space", name, "--out", f"{name}.safetensors", *case.pretrain.split())
    done(folder, "check", file)
    tuning = command(folder, "tune", file, "--folder", run.name, "--set", f"seed={seed}")
    while not (run / "checkpoint.safetensors").is_file() and tuning.poll() is None:
        time.sleep(0.05)
    tuning.send_signal(signal.SIGKILL)
    tuning.communicate()
    killed = tuning.returncode == -signal.SIGKILL
    done(folder, "tune", "--resume", run.name)
    drawn = folder / f"{name}-{seed}.npy"
    done(folder, "sample", run.name, "--count", "256", "--out", drawn.name)
    steered = json.loads(done(folder, "steer", file, "--count", "64", "--out", f"{name}-{seed}-steered.csv", "--json"))
    done(folder, "evaluate", run.name)
    rows = json.loads((run / "summary.json").read_text(encoding="utf-8"))["rows"]
    designs = np.load(drawn)
    score = runpy.run_path(str(folder / "rewards.py"))[case.function]
    fresh = score(list(designs / 255 if name == "images" else designs))
    user = [line for line in (REWARDS + experiment).splitlines() if line.strip()]
    return {
        "designs": name, "seed": seed, "killed": killed, "lines": len(user) - 4,  # the other kind's reward
        "medians": {row["name"]: row["optimised"]["median"] for row in rows},
        "kl": {row["name"]: row["kl_policy_base"] for row in rows},
        "calls": rows[-1]["calls"], "sampled": float(np.median(np.asarray(fresh))),
        "steered": float(np.median(steered["rewards"])), "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(CASES), help="one kind of designs")
    parser.add_argument("--seed", type=int, default=0, help="of tuning; the data stay the same")
    parser.add_argument("--out", type=Path, help="folder that keeps everything; default: one that is deleted")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as spare:
        folder = (options.out or Path(spare)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for name in [options.only] if options.only else sorted(CASES):
            found = through(name, folder, options.seed)
            if options.json:
                print(json.dumps(found), flush=True)
                continue
            rows = ", ".join(f"{row} {median:.3g}" for row, median in found["medians"].items())
            print(
                f"{name}, seed {options.seed}: {found['lines']} lines of a user's; killed: {found['killed']}; "
                f"medians: {rows}; fresh designs by sample {found['sampled']:.3g}, steered {found['steered']:.3g}; "
                f"{found['calls']} calls, {found['seconds']} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
