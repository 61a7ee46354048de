"""An oracle with every fault: does a run survive it, is every design accounted for, and what does it cost?

    python benchmarks/faulty_oracle.py
    python benchmarks/faulty_oracle.py --backend ray
    python benchmarks/faulty_oracle.py --backend ray --kill

Of the designs 1 % hang, 5 % raise, 5 % give NaN and 1 % kill their process; the others sleep for `--seconds`, so that
two workers do not compete for cores. `--kill` kills a worker from outside at about half time: with Ray, its actor; in a
pool, the process that workers are forked from, and so all of them at once.

The ideal is what the very same designs must take on as many workers that are replaced in no time and asked at no cost:
each attempt its `--seconds`, each hang its time limit, divided by the workers. The hangs' time limits cannot be avoided
by any oracle that has to wait for them; the second figure leaves them out of both. The third takes for the ideal what
the same backend took, right afterwards, for as many designs without faults, plus those time limits. Starting the first
workers is shown apart and is in none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from biotilt.files import write_text
from biotilt.oracle import Oracle, Store, build_backend
from biotilt.testing.spaces import Written

SHARES = {"hang": 0.01, "raise": 0.05, "nan": 0.05, "kill": 0.01}
RETRIES = 1


class Faulty:
    """The score of "3-raise" is 3 or a fault, as the word says; "3-good" is scored after `seconds`."""

    name, version, differentiable, batched = "faulty", "1", False, False

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, designs: list[str]) -> list[float]:
        return [self.one(*design.split("-")) for design in designs]

    def one(self, number: str, fate: str) -> float:
        time.sleep(10_000 if fate == "hang" else self.seconds)
        if fate == "raise":
            raise ValueError("this design is odd")
        if fate == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return float("nan" if fate == "nan" else number)


def fates(count: int, seed: int) -> list[str]:
    """Return `count` designs in random order, with exactly the shares of faults."""
    words = [fate for fate, share in SHARES.items() for _ in range(round(share * count))]
    words += ["good"] * (count - len(words))
    random.Random(seed).shuffle(words)
    return [f"{number}-{word}" for number, word in enumerate(words)]


def expected_reasons(time_limit: float) -> dict[str, str]:
    return {
        "hang": f"took longer than {time_limit:g} s",
        "raise": "ValueError: this design is odd",
        "nan": "the reward returned NaN",
        "kill": "the worker died (signal 9, SIGKILL)",
        "good": "",
    }


def run(options: argparse.Namespace, designs: list[str], kill: bool = False) -> tuple[Oracle, float, float]:
    """Score the designs in requests of `options.request`; return the oracle, the seconds to start and to score."""
    reward = Faulty(options.seconds)
    begin = time.perf_counter()
    limits = {"time_limit": options.time_limit, "retries": RETRIES}
    backend = build_backend(options.backend, reward, workers=options.workers, **limits)
    folder = Path(tempfile.mkdtemp())
    oracle = Oracle(
        reward,
        store=Store(folder / "oracle.sqlite"),
        max_calls=None,
        space=Written(list),
        run_id="run",
        backend=backend,
    )
    warm = backend.submit([f"{number}-good" for number in range(options.workers)])
    while not warm.wait(1.0):
        pass
    start = time.perf_counter()
    if kill:
        threading.Thread(target=kill_one, args=(start, options), daemon=True).start()
    for first in range(0, len(designs), options.request):
        oracle.score(designs[first : first + options.request])
    end = time.perf_counter()
    oracle.close()
    return oracle, start - begin, end - start


def kill_one(start: float, options: argparse.Namespace) -> None:
    """Kill, at half time, the parent of a worker process: an actor of Ray, or the process that bears workers."""
    time.sleep(0.5 * options.count * options.seconds / options.workers)
    victim = next(pid for pid, command in descendants(os.getpid()) if victim_of(options.backend, command))
    os.kill(victim, signal.SIGKILL)
    print(f"killed process {victim} after {time.perf_counter() - start:.1f} s", file=sys.stderr)


def victim_of(backend: str, command: str) -> bool:
    return command.startswith("ray::Host") if backend == "ray" else "biotilt.oracle.workers.worker" in command


def descendants(root: int) -> list[tuple[int, str]]:
    """Return (process number, command line) of all processes below `root`."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended
    found, waiting = [], [root]
    while waiting:
        parent = waiting.pop(0)
        below = sorted(pid for pid, its in parents.items() if its == parent)
        found += [(pid, commands[pid]) for pid in below]
        waiting += below
    return found


def check_ledger(oracle: Oracle, designs: list[str], time_limit: float) -> Counter[tuple[str, str]]:
    """Return how often each fate has each reason; stop when a design is missing or has the wrong one."""
    reasons = expected_reasons(time_limit)
    rows = list(oracle.ledger.rows())
    assert [row.design for row in rows] == designs, "a row a design, in order"
    for row in rows:
        number, fate = row.design.split("-")
        assert row.reason == reasons[fate], row
        assert (row.score == float(number)) == (fate == "good"), row
        assert not row.cached
    return Counter((row.design.split("-")[1], row.reason) for row in rows)


def report(options: argparse.Namespace) -> dict[str, object]:
    designs = fates(options.count, options.seed)
    healthy = [f"{number}-good" for number in range(options.count)]
    oracle, started, took = run(options, designs, options.kill)
    counts = check_ledger(oracle, designs, options.time_limit)
    _, _, without_faults = run(options, healthy)
    hangs = round(SHARES["hang"] * options.count)
    kills = round(SHARES["kill"] * options.count)
    attempts = options.count - hangs + kills * RETRIES
    sleeping = attempts * options.seconds / options.workers
    waiting = hangs * options.time_limit / options.workers
    return {
        "backend": options.backend,
        "kill": options.kill,
        "workers": options.workers,
        "designs": options.count,
        "ledger": {f"{fate}: {reason or 'scored'}": count for (fate, reason), count in sorted(counts.items())},
        "accounts": {key: round(value, 3) for key, value in oracle.accounts().items()},
        "seconds": {
            "start of the first workers": round(started, 2),
            "with faults": round(took, 2),
            "ideal with faults (of which waiting for hangs)": [round(sleeping + waiting, 2), round(waiting, 2)],
            "without faults": round(without_faults, 2),
            "ideal without faults": round(options.count * options.seconds / options.workers, 2),
        },
        "throughput of the ideal": round((sleeping + waiting) / took, 3),
        "the same, time limits of hangs left out of both": round(sleeping / (took - waiting), 3),
        "throughput of this backend without faults": round((without_faults + waiting) / took, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["pool", "ray"], default="pool")
    parser.add_argument("--kill", action="store_true", help="kill a worker from outside in the middle")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.02, help="that scoring a design takes")
    parser.add_argument("--time-limit", type=float, default=0.5)
    parser.add_argument("--request", type=int, default=500, help="designs that are asked for together, as in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a .jsonl file: the report is added, unless it is there already")
    options = parser.parse_args()
    done = (
        [json.loads(line) for line in options.out.read_text().splitlines()]
        if options.out and options.out.exists()
        else []
    )
    if any((line["backend"], line["kill"]) == (options.backend, options.kill) for line in done):
        return
    found = report(options)
    print(json.dumps(found, indent=2))
    if options.out is not None:
        write_text(options.out, "".join(json.dumps(line) + "\n" for line in [*done, found]))


if __name__ == "__main__":
    main()
