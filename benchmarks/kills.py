"""`kill -9` at random moments: is every result the same bit for bit, whole or absent, and is one writer alone let in?

    python benchmarks/kills.py
    python benchmarks/kills.py --kills 50 --seed 3 --json

Each command runs once undisturbed; then it is killed at a random moment of the time that took, again and again.
`tune` is resumed after each kill until it ends, and then compared with the undisturbed run: weights, history, ledger.
The others may leave nothing or the whole file, never another one, and run again they give the undisturbed result. In
the end ten second resumes are started beside a run: each has to be refused with who holds the folder, and the run has
to end as if nobody had tried. Commands run in forks of this process, so that none spends its time on importing torch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import accelerate  # noqa: F401
import torch
import torch.utils.tensorboard

import biotilt.outputs  # noqa: F401  # all that commands import late is here before they are forked
from biotilt.cli import app

SHARES = {"tune": 0.3, "evaluate": 0.18, "pretrain": 0.14, "fit-oracle": 0.14, "sample": 0.1, "steer": 0.14}
SECOND_RESUMES = 10
CLOCK = ("seconds", "wall_seconds", "scoring_seconds", "utilisation", "busy", "wall", "command", "created")

REWARD = """
import os, time

def count(designs):
    while os.path.exists(os.environ.get("HELD_BY", "")):
        time.sleep(0.05)
    return [float(d.count("G")) for d in designs]
"""

EXPERIMENT = """
alpha = 0.5
model = { path = "base.safetensors" }
reward = { kind = "python", function = "mine.py:count" }
held_out = { kind = "learned", path = "judge.safetensors" }
objective = { name = "vidd", value = "mixed", updates = 3, states = 16 }
oracle = { batch_size = 4 }
train = { max_calls = 80, batch = 8 }
output = { samples = 12 }
sampler = { name = "smc" }
"""


@dataclass
class Tally:
    """Kills of one command that hit it, those that came after its end, and what was not as it should be."""

    kills: int = 0
    too_late: int = 0
    wrong: list[str] = field(default_factory=list)


def start(words: list[str], log: Path, held_by: Path | None = None) -> int:
    """Run a command line in a fork, whose reward waits while `held_by` exists; return its process number."""
    child = os.fork()
    if child:
        return child
    try:
        os.environ["HELD_BY"] = str(held_by or "")
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(stream), "w") for stream in (1, 2))
        torch.set_num_threads(1)
        code = 0
        try:
            app(words)
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        code = 70
    os._exit(code)


def finish(child: int) -> int:
    """Wait for a process; return its exit code, minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def done(words: list[str], log: Path) -> float:
    """Run a command to its end; return its seconds."""
    started = time.perf_counter()
    if finish(start(words, log)) != 0:
        sys.exit(f"biotilt {' '.join(words)} failed: {log.read_text()}")
    return time.perf_counter() - started


def killed(words: list[str], log: Path, after: float) -> bool:
    """Start a command and kill it after some seconds; return whether that hit it."""
    child = start(words, log)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return finish(child) == -signal.SIGKILL


def timeless(value: Any) -> Any:
    """Return JSON without what the clock says."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in CLOCK}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    """Return what two files must share: all bytes, or, of JSON and of a page, all but the clock."""
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    return path.read_text().rstrip().endswith("</html>") if path.suffix == ".html" else path.read_bytes()


def different(path: Path, reference: Path) -> str:
    """Say what is wrong with a file that was written beside a kill; nothing when it is absent or the same."""
    if not path.exists():
        return ""
    try:
        return "" if content(path) == content(reference) else f"{path.name} is another one"
    except ValueError:
        return f"{path.name} is not whole"


def ledger(folder: Path) -> list[tuple]:
    database = sqlite3.connect(folder / "oracle.sqlite")
    try:
        query = "SELECT position, design, score, cached FROM ledger WHERE run = 'tuning' ORDER BY position"
        return database.execute(query).fetchall()
    finally:
        database.close()


def not_the_same_run(folder: Path, reference: Path) -> list[str]:
    names = ("tuned.safetensors", "history.json")
    if absent := [name for name in names if not (folder / name).is_file()]:
        return [f"{folder.name}: {name} is not there" for name in absent]
    wrong = [different(folder / name, reference / name) for name in names]
    wrong += [] if ledger(folder) == ledger(reference) else ["the ledger is another one"]
    return [text for text in wrong if text]


def kill_tune(here: Path, kills: int, moment: random.Random, tally: Tally) -> None:
    log, reference = here / "log", here / "reference"
    fresh = ["tune", str(here / "e.toml"), "--no-evaluate", "--folder"]
    seconds = done([*fresh, str(reference)], log)
    number = 0
    while tally.kills < kills:
        folder = here / f"tune-{number}"
        words, hit, number = [*fresh, str(folder)], True, number + 1
        while hit and tally.kills < kills:
            hit = killed(words, log, moment.uniform(0, 0.8 * seconds))
            tally.kills, tally.too_late = tally.kills + hit, tally.too_late + (not hit)
            if (folder / "experiment.json").is_file():
                words = ["tune", "--resume", str(folder), "--no-evaluate"]
        if hit and finish(start(words, log)) not in (0, 2):  # 2: killed after its last file
            tally.wrong.append(log.read_text()[-300:])
        tally.wrong += not_the_same_run(folder, reference)


def kill_one(
    name: str, here: Path, kills: int, moment: random.Random, tally: Tally, outputs: tuple[str, ...],
    command: Callable[[Path], list[str]], prepare: Callable[[Path], object],
) -> None:  # fmt: skip
    """Kill a command whose `outputs`, in a folder of its own, must be whole or absent, and the same when run again."""
    log, reference = here / "log", here / f"{name}-reference"
    prepare(reference)
    seconds = done(command(reference), log)
    for number in range(10 * kills):
        if tally.kills >= kills:
            return
        folder = here / f"{name}-{number}"
        prepare(folder)
        hit = killed(command(folder), log, moment.uniform(0, seconds))
        tally.kills, tally.too_late = tally.kills + hit, tally.too_late + (not hit)
        tally.wrong += [text for o in outputs if (text := different(folder / o, reference / o))]
        if number % 3 == 0:  # every third is run again to its end
            if finish(start(command(folder), log)) != 0:
                tally.wrong.append(log.read_text()[-300:])
            tally.wrong += [text for o in outputs if (text := different(folder / o, reference / o))]
            tally.wrong += [f"{o} is not there" for o in outputs if not (folder / o).exists()]
        shutil.rmtree(folder)


def second_resumes(here: Path) -> list[str]:
    """Start ten resumes beside a run; return what was wrong."""
    folder, wrong = here / "held", []
    fresh = ["tune", str(here / "e.toml"), "--no-evaluate", "--folder", str(folder)]
    held_by = here / "held_by"
    first = start(fresh, here / "log", held_by)
    while not (folder / "checkpoint.safetensors").is_file():
        time.sleep(0.001)
    held_by.touch()  # the next request waits until all have tried
    logs = [here / f"second-{number}" for number in range(SECOND_RESUMES)]
    children = [start(["tune", "--resume", str(folder), "--no-evaluate"], log) for log in logs]
    for child, log in zip(children, logs):
        if finish(child) != 2 or f"process {first} on" not in log.read_text():
            wrong.append(f"a second resume was let in: {log.read_text()[-300:]}")
    if os.waitpid(first, os.WNOHANG)[0]:
        return ["the first run ended before the others had tried", *wrong]
    held_by.unlink()
    if finish(first) != 0:
        wrong.append(f"the first run was harmed: {(here / 'log').read_text()[-300:]}")
    return wrong + not_the_same_run(folder, here / "reference")


def make_inputs(here: Path, seed: int) -> None:
    """Write data, an experiment, a tiny generator and a tiny predictor."""
    draw = random.Random(seed)
    designs = ["".join(draw.choices("ACGT", (4, 3, 1, 2), k=10)) for _ in range(200)]
    rows = [f"{d},{d.count('G') + 0.1 * d.count('C')}" for d in designs]
    (here / "data.csv").write_text("sequence,load\n" + "\n".join(rows) + "\n")
    (here / "mine.py").write_text(REWARD)
    (here / "e.toml").write_text(EXPERIMENT)
    done(pretrain(here, "base.safetensors"), here / "log")
    done(fit(here, "judge.safetensors"), here / "log")


def pretrain(folder: Path, name: str = "m.safetensors", data: Path | None = None) -> list[str]:
    small = ["--steps", "60", "--channels", "8", "--blocks", "1", "--per-step", "2"]
    data = data or folder / "data.csv"
    return ["pretrain", str(data), "--alphabet", "dna", "--column", "sequence", "--out", str(folder / name), *small]


def fit(folder: Path, name: str = "o.safetensors", data: Path | None = None) -> list[str]:
    small = ["--members", "1", "--epochs", "2", "--target", "load"]
    return ["fit-oracle", str(data or folder / "data.csv"), "--alphabet", "dna", "--out", str(folder / name), *small]


def to(folder: Path) -> list[str]:
    return ["--out", str(folder / "d.csv")]


def measure(kills: int, seed: int, here: Path) -> dict[str, Any]:
    moment, data = random.Random(seed), here / "data.csv"
    make_inputs(here, seed)
    wanted = {name: round(share * kills) for name, share in SHARES.items()}
    wanted["tune"] += kills - sum(wanted.values())
    tallies = {name: Tally() for name in SHARES}
    kill_tune(here, wanted["tune"], moment, tallies["tune"])
    run, experiment = here / "reference", here / "e.toml"
    judged = ("summary.json", "designs.csv", "designs.fasta", "report.html")
    plans: dict[str, tuple[tuple[str, ...], Callable[[Path], list[str]], Callable[[Path], object]]] = {
        "evaluate": (judged, lambda f: ["evaluate", str(f)], lambda f: shutil.copytree(run, f)),
        "pretrain": (("m.safetensors", "m.json"), lambda f: pretrain(f, data=data), Path.mkdir),
        "fit-oracle": (("o.safetensors", "o.json"), lambda f: fit(f, data=data), Path.mkdir),
        "sample": (
            ("d.csv",),
            lambda f: ["sample", str(run), "--count", "2000", "--out", str(f / "d.csv")],
            Path.mkdir,
        ),
        "steer": (("d.csv",), lambda f: ["steer", str(experiment), "--out", str(f / "d.csv")], Path.mkdir),
    }
    for name, (outputs, command, prepare) in plans.items():
        kill_one(name, here, wanted[name], moment, tallies[name], outputs, command, prepare)
    return {
        "seed": seed,
        "kills": {name: vars(tally) for name, tally in tallies.items()},
        "second_resumes": {"started": SECOND_RESUMES, "wrong": second_resumes(here)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the secret by which runs know their maker
        found = measure(options.kills, options.seed, Path(folder))
    found["seconds"] = round(time.perf_counter() - started, 1)
    wrong = [text for tally in found["kills"].values() for text in tally["wrong"]] + found["second_resumes"]["wrong"]
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, tally in found["kills"].items():
            print(f"{name}: {tally['kills']} kills, {len(tally['wrong'])} wrong results")
        print(f"second resumes: {SECOND_RESUMES}, {len(found['second_resumes']['wrong'])} wrong; {found['seconds']} s")
        print(*wrong, sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
