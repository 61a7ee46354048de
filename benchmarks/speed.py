"""What a round of every objective, and every sampler, costs: seconds, network rows, oracle calls and memory.

    python benchmarks/speed.py --out FILE.jsonl              small cases of all of them: minutes
    python benchmarks/speed.py --out FILE.jsonl --peers      the updates of published code, at their size
    python benchmarks/speed.py --out FILE.jsonl --all        steps 32/128/512, two batches, lengths 50/200/1000: hours
    python benchmarks/speed.py --out FILE.jsonl --table      the table of a file (--json: its lines)

Each case runs alone in a process of one thread; cases that the file has already are not run again. Rows are states
that a network was given, `plain` and with a `graph` to go back by. `tflop`: CPU seconds times the rate of fp32 matrix
products of one core, which compares machines: the larger of those measured in the same process before and after.
`share`: the part of this rate that was reached, a row with a graph counted as three, and products with padding counted
as if they were made: a dilated convolution leaves most of them out, so the share may pass 100 %. `peak_mb`: the
process's peak less what it took before the round. The reward costs nothing: it is a sum over letters (points).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, before torch

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from biotilt.core import Context, Parts, Policy, Replay, Roles, Target, check_parts
from biotilt.errors import BiotiltError
from biotilt.networks import CNN, CNNConfig, ValueSize, VectorMLP, VectorMLPConfig, value_network
from biotilt.objectives import OBJECTIVES
from biotilt.processes import PROCESSES, Flow, Masked
from biotilt.samplers import SAMPLERS
from biotilt.testing import RowCounter
from biotilt.training import TrainConfig, Trainer
from biotilt.values import VALUES

Case = dict[str, Any]
SMALL: Case = {"channels": 32, "blocks": 4}
PEERS: Case = {"channels": 128, "blocks": 20, "kernel": 9, "dilations": [1, 1, 4, 16, 64]}
# Chains that all run to the end one by one would take hours of a small case; the rest keeps its defaults.
CHEAPER: dict[str, Case] = {
    "tree_search": {"iterations": 4, "children": 4},
    "split_gibbs": {"rounds": 2},
    "mcmc": {"rounds": 2},
    "refinement": {"rounds": 1},
    "smc": {"value": "posterior_mean"},
}
PAPER = {"anchor": "rollout", "value": "posterior_mean", "teacher": "sampled", "mirror": 1.0}


class Linear:
    """A reward that costs nothing: a sum over letters, or over coordinates; it counts what it is asked."""

    def __init__(self, length: int, letters: int):
        self.weights = torch.randn(length, letters, generator=torch.Generator().manual_seed(0)) / length**0.5
        self.calls = 0

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        if designs.is_floating_point():
            return designs.detach() @ self.weights[:, 0]
        return self.weights.gather(1, designs.long().T).sum(0)

    def relaxed(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        return designs @ self.weights[:, 0] if designs.dim() == 2 else (designs * self.weights).sum((1, 2))


def small_cases() -> Iterator[Case]:
    """Yield all algorithms at one small size, and those whose memory might grow at four times the steps."""
    size = {"length": 50, "network": SMALL}
    for name in OBJECTIVES:
        for steps in (16, 64):
            yield {"kind": "objective", "name": name, "steps": steps, "batch": 16, **size}
    yield {"kind": "objective", "name": "vidd", "steps": 16, "batch": 272, "options": PAPER, **size}
    for name in SAMPLERS:
        yield {"kind": "sampler", "name": name, "steps": 16, "batch": 16, **size}


def all_cases() -> Iterator[Case]:
    """Yield the grid of steps, batches and lengths, on the small network."""
    for (kind, names), steps, batch, length in itertools.product(
        (("objective", OBJECTIVES), ("sampler", SAMPLERS)), (32, 128, 512), (16, 64), (50, 200, 1000)
    ):
        for name in names:
            yield {"kind": kind, "name": name, "steps": steps, "batch": batch, "length": length, "network": SMALL}


def peer_cases() -> Iterator[Case]:
    """Yield what the published code was measured at: a CNN of 20 blocks of 128 channels, 200 letters."""
    size = {"length": 200, "network": PEERS}
    for steps in (128, 64):  # fewer reveal more letters at once, which is another law: see steps.py
        yield {"kind": "sampler", "name": "ancestral", "steps": steps, "batch": 64, **size}
    svdd = {"children": 10, "value": "posterior_mean"}
    yield {"kind": "sampler", "name": "svdd", "steps": 8, "batch": 16, "options": svdd, **size}
    # every transition is used once, and as many designs are scored as by eight chains of published code
    vidd = PAPER | {"updates": 32, "states": 64, "refresh": 32}
    yield {"kind": "objective", "name": "vidd", "steps": 128, "batch": 2072, "options": vidd, **size}
    ppo = {"updates": 10, "states": 40}
    yield {"kind": "objective", "name": "ppo", "steps": 50, "batch": 8, "options": ppo, **size}
    yield {"kind": "objective", "name": "backprop", "steps": 128, "batch": 4, "options": {"steps": 50}, **size}
    chains = {"updates": 1, "chains": 32}
    yield {"kind": "objective", "name": "trajectory_balance", "steps": 128, "batch": 32, "options": chains, **size}


def base_of(case: Case) -> Policy:
    """Return an untrained generator of a case's size: of letters, or of points where the algorithm wants those."""
    torch.manual_seed(0)
    length, steps = case["length"], case["steps"]
    if case["name"] == "adjoint_matching":
        return Policy(Flow(length, num_steps=steps), VectorMLP(VectorMLPConfig(length)).eval())
    network = case["network"]
    if "dilations" in network:
        network = network | {"dilations": tuple(network["dilations"])}
    net = CNN(CNNConfig(4, length, **network))
    return Policy(Masked(length, 4, num_steps=steps), net.eval())


def context_of(case: Case, algorithm: Any, base: Policy) -> Context:
    """Return a context whose parts fit together; ConfigError where they do not."""
    value = None
    if (kind := algorithm.value_name) is not None:
        options = VALUES.options_of(kind)()
        value = VALUES[kind].build(options, base.process, lambda *size: value_network(base, ValueSize(*size)))
    check_parts(algorithm, Parts(base.process, value, True, PROCESSES.values(), VALUES.values()))
    memory = Replay(algorithm.capacity) if case["kind"] == "objective" else Replay(None)
    generator = torch.Generator().manual_seed(case.get("seed", 0))
    return Context(Roles.start(base), Target(Linear(case["length"], 4), 1.0), generator, memory, value)


def measure(case: Case) -> dict[str, Any]:
    """Run one round of an objective, or draw once by a sampler; return what it took."""
    torch.set_num_threads(1)
    given = CHEAPER.get(case["name"], {}) | case.get("options", {})
    base = base_of(case)
    registry = OBJECTIVES if case["kind"] == "objective" else SAMPLERS
    try:
        algorithm = registry.build(case["name"], given, case["kind"])
        context = context_of(case, algorithm, base)
    except BiotiltError as error:
        return {"reason": str(error).splitlines()[0]}
    rates = rates_now()
    before, start, cpu = _status("VmHWM"), time.perf_counter(), time.process_time()
    with RowCounter.of(context) as rows:
        if case["kind"] == "objective":
            train = TrainConfig(max_calls=case["batch"], batch=case["batch"], trackers=())
            Trainer(context, algorithm, train, context.target.scorer).run()
        else:
            algorithm.draw(context, case["batch"])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    peak = round((_status("VmHWM") - before) / 1e3, 1)
    rates = {kind: max(known, now) for (kind, known), now in zip(rates.items(), rates_now().values())}
    flop = _flop(base) * (rows.total.plain + 3 * rows.total.graph)
    return {
        "cpu_s": round(cpu, 3), "wall_s": round(wall, 3), "calls": context.target.scorer.calls,
        "rows": {name: [count.plain, count.graph] for name, count in rows.items()},
        "plain": rows.total.plain, "graph": rows.total.graph,
        "peak_mb": peak,
        **rates,
        "tflop": round(cpu * rates["gflops_fp32"] / 1e3, 3),
        "share": round(flop / max(cpu * rates["gflops_fp32"] * 1e9, 1), 3),
    }  # fmt: skip


def rates_now() -> dict[str, float]:
    """Return the rates of matrix products, in GFLOP/s: another program beside this one may lower them for a moment."""
    return {f"gflops_{kind}": round(rate(dtype), 1) for kind, dtype in DTYPES.items()}


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def rate(dtype: torch.dtype, size: int = 768) -> float:
    """Return the rate of matrix products of one core, in GFLOP a second of CPU."""
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    a @ b  # warm
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        a @ b
        best = max(best, 2e-9 * size**3 / (time.process_time() - start))
    return best


def _flop(base: Policy) -> int:
    """Return the operations of one row: of the base, which value networks are shaped like."""
    x = base.process.noise(1, torch.Generator())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        base.kernel(x, 0)
    return counter.get_total_flops()


def _status(key: str) -> int:
    """Return a figure of this process in kB."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in text.splitlines() if line.startswith(key)).split()[1])


def table(lines: list[dict[str, Any]]) -> str:
    """Return a Markdown table, one line a case."""
    head = "| | length | steps | batch | calls | plain | graph | CPU s | TFLOP | share, padding counted | peak MB |"
    rows = [head, "|---" * head[1:].count("|") + "|"]
    for line in lines:
        case, found = line["case"], line["found"]
        name = " ".join([case["name"], *(f"{k}={v}" for k, v in case.get("options", {}).items())])
        sizes = f"| {name} | {case['length']} | {case['steps']} | {case['batch']} "
        if "reason" in found:
            rows.append(f"{sizes}| {found['reason']} |||||||")
        else:
            rows.append(
                f"{sizes}| {found['calls']} | {found['plain']} | {found['graph']} | {found['cpu_s']:.1f} "
                f"| {found['tflop']:.2f} | {found['share']:.0%} | {found['peak_mb']:.0f} |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--names", nargs="*", help="only these algorithms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    lines = []
    if options.out.exists():
        lines = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    if options.table or options.json:
        print(json.dumps(lines) if options.json else table(lines))
        return
    done = [line["case"] for line in lines]
    cases = all_cases() if options.all else peer_cases() if options.peers else small_cases()
    for case in cases:
        case = case | ({"seed": options.seed} if options.seed else {})
        if case in done or (options.names and case["name"] not in options.names):
            continue
        command = [sys.executable, __file__, "--out", str(options.out), "--one", json.dumps(case)]
        ran = subprocess.run(command, capture_output=True, text=True)
        last = ran.stderr.strip().splitlines()[-1:] or ["it died"]
        found = json.loads(ran.stdout) if ran.returncode == 0 else {"reason": last[0]}
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"case": case, "found": found}) + "\n")
        print(table([{"case": case, "found": found}]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
