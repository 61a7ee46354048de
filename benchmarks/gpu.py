"""What a graphics card computes, and how fast: checks against the processor, then sampling and tuning at real sizes.

    python benchmarks/gpu.py --out FILE.jsonl                         on a card: about eight minutes
    python benchmarks/gpu.py --out FILE.jsonl --seconds 140           the same, with as much as fits
    python benchmarks/gpu.py --out FILE.jsonl --device cpu --small    the script itself, anywhere

Each line is written at once and names the card. Checks: kernels and gradients of every process and network (fp32, no
tf32) against the processor's, as the largest difference relative to the largest number; laws that can be enumerated;
every objective and sampler with the processor's noise; the same seed twice; a run that was killed and went on.
Measurements, on random weights: `sequences` a second of `sample`, and of a round of PPO (drawn, scored for nothing, and
learned from); `share`: floating-point operations of the rows that networks were given, in the time, over the rate of
bf16 matrix products that was measured on this card first. A row with a graph counts as three, as two where adapters
alone are learned. `net`: the share that the network alone reaches on the whole batch. `peak_gb`: all that torch held.
Precisions: fp32 (no tf32), tf32, `bf16` (products under autocast), `bf16_weights` (all that is frozen is stored in 16
bits, what is trained in 32). `error`: of the log-probabilities of letters against fp32, the largest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or matrix products are refused where determinism is asked

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import gpu_checks as checks
from biotilt.core import Context, Policy, Replay, Roles, Target, sample
from biotilt.models.lora import LoRA, adapted
from biotilt.networks import CNN, CNNConfig, Transformer, TransformerConfig
from biotilt.objectives import OBJECTIVES
from biotilt.processes import Masked
from biotilt.testing import RowCounter
from biotilt.training import EachRound, TrainConfig, Trainer

Found = dict[str, Any]
PUBLISHED: Found = {"channels": 128, "blocks": 20, "kernel": 9, "dilations": (1, 1, 4, 16, 64)}
# `most`: designs at once; `round`: of a round. The first precision of all cases is measured before any second one.
CASES: list[Found] = [
    {
        "of": "cnn_128x20", "length": 200, "letters": 4, "steps": 128, "most": 512, "round": 64, "lora": False,
        "precisions": ("bf16", "fp32", "tf32", "bf16_weights"), "network": PUBLISHED,
    },
    {
        "of": "transformer_35m", "length": 256, "letters": 20, "steps": 64, "most": 256, "round": 64, "lora": True,
        "precisions": ("bf16_weights", "fp32", "bf16", "tf32"),
        "network": {"width": 480, "blocks": 12, "heads": 20},
    },
    {
        "of": "transformer_650m", "length": 256, "letters": 20, "steps": 64, "most": 64, "round": 32, "lora": True,
        "precisions": ("bf16_weights", "bf16", "tf32"),
        "network": {"width": 1280, "blocks": 33, "heads": 20},
    },
]  # fmt: skip
SMALL: list[Found] = [
    {
        "of": "cnn_8x2", "length": 12, "letters": 4, "steps": 4, "most": 16, "round": 8, "lora": False,
        "precisions": ("fp32", "bf16", "bf16_weights"), "network": {"channels": 8, "blocks": 2},
    },
    {
        "of": "transformer_tiny", "length": 12, "letters": 20, "steps": 4, "most": 16, "round": 8, "lora": True,
        "precisions": ("fp32", "bf16_weights"), "network": {"width": 32, "blocks": 2, "heads": 4},
    },
]  # fmt: skip


class Autocast(nn.Module):
    """A network whose products are taken in 16 bits, and whose outputs are in float32."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.net(x, t).float()


class Book:
    """Where lines go, at once, and how much of the time is left."""

    def __init__(self, out: Path, seconds: float, device: torch.device):
        self.out, self.until, self.device = out, time.perf_counter() + seconds, device
        self.rates: dict[str, float] = {}
        cuda = device.type == "cuda"
        self.card = torch.cuda.get_device_name(device) if cuda else "the processor"

    @property
    def left(self) -> float:
        return self.until - time.perf_counter()

    def write(self, line: Found) -> None:
        line = {"card": self.card, "torch": torch.__version__} | line
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"[{self.left:6.1f} s left] {json.dumps(line)}", flush=True)

    def all_of(self, what: str, lines: Callable[[], Iterator[Found]]) -> None:
        """Write lines as they come; what goes wrong is a line too, and no reason to stop."""
        try:
            for line in lines():
                self.write(line)
        except Exception as error:
            where = traceback.format_exc().splitlines()
            self.write({"check": what, "error": f"{type(error).__name__}: {error}"[:400], "at": where[-8:]})


def synchronised(device: torch.device) -> float:
    """Return the time when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def precision(kind: str) -> Iterator[None]:
    """Let products of float32 be taken in 32 bits, or in tf32 for all but "fp32"."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind != "fp32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = before


def matrix_rates(book: Book, size: int) -> Iterator[Found]:
    """Yield the card's rates of products of square matrices, in TFLOP/s."""
    for kind, dtype in (("bf16", torch.bfloat16), ("tf32", torch.float32), ("fp32", torch.float32)):
        a = torch.randn(size, size, device=book.device, dtype=dtype)
        times = 30 if kind == "bf16" else 10
        with precision(kind):
            for _ in range(3):
                a @ a
            best = float("inf")
            for _ in range(3):
                start = synchronised(book.device)
                for _ in range(times):
                    a @ a
                best = min(best, (synchronised(book.device) - start) / times)
        book.rates[kind] = 2e-12 * size**3 / best
        yield {"measure": "matrix", "of": kind, "size": size, "tflops": round(book.rates[kind], 2)}


def network(case: Found, device: torch.device) -> nn.Module:
    """Return a network of a case's size with random weights, made on the device."""
    torch.manual_seed(0)
    kind, options = (CNN, CNNConfig) if "channels" in case["network"] else (Transformer, TransformerConfig)
    with torch.device(device):
        net = kind(options(case["letters"], case["length"], **case["network"]))
    return net.eval()


def policy_of(case: Found, net: nn.Module, kind: str) -> Policy:
    """Return a generator in a precision, with adapters where the case has them."""
    if case["lora"]:
        net = adapted(net, LoRA(rank=8))
    if kind == "bf16_weights":
        trained = [p for p in net.parameters() if p.requires_grad] if case["lora"] else []
        net = net.to(torch.bfloat16)
        for parameter in trained:
            parameter.data = parameter.data.float()
    return Policy(
        Masked(case["length"], case["letters"], num_steps=case["steps"]), Autocast(net) if kind == "bf16" else net
    )


def row_flop(policy: Policy, device: torch.device) -> float:
    """Return the operations of one row."""
    x = policy.process.noise(1, torch.Generator(device).manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        policy.outputs(*policy.process.inputs(x, 0))
    return counter.get_total_flops()


def seconds_of(policy: Policy, x: Tensor, times: int = 3) -> float:
    """Return the seconds that the network takes for states at once, the best of some."""
    best, shown = float("inf"), policy.process.inputs(x, 0)
    with torch.no_grad():
        policy.outputs(*shown)
        for _ in range(times):
            start = synchronised(x.device)
            policy.outputs(*shown)
            best = min(best, synchronised(x.device) - start)
    return best


def sampled(book: Book, case: Found, policy: Policy, flop: float, budget: float) -> Found:
    """Return what drawing designs takes, of as many as fit into so many seconds."""
    count, device = case["most"], book.device
    generator = torch.Generator(device).manual_seed(1)
    one = seconds_of(policy, policy.process.noise(count, generator))
    share_net = flop * count / one / (book.rates["bf16"] * 1e12)
    while count > 8 and one * case["steps"] > budget:
        count, one = count // 2, one / 2
    sample(policy, min(count, 8), generator)
    reset_peak(device)
    start = synchronised(device)
    with RowCounter(net=policy.net) as rows:
        designs = sample(policy, count, generator, chunk=count)
    seconds = synchronised(device) - start
    return {
        "measure": "sample", "designs": len(designs), "seconds": round(seconds, 3), "rows": rows.total.plain,
        "sequences": round(count / seconds, 2), "net": round(share_net, 4), "peak_gb": peak_gb(device),
        "share": round(flop * rows.total.plain / seconds / (book.rates["bf16"] * 1e12), 4),
    }  # fmt: skip


def tuned(book: Book, case: Found, policy: Policy, flop: float) -> Found:
    """Return what a round of PPO takes: the second of two."""
    device, batch = book.device, case["round"]
    scorer = checks.Linear()
    objective = OBJECTIVES.build("ppo", {"updates": 4, "states": batch}, "objective")
    generator = torch.Generator(device).manual_seed(2)
    context = Context(Roles.start(policy), Target(scorer, 1.0), generator, Replay(objective.capacity), None)
    memory = 20_000 if device.type == "cuda" else 1000
    config = TrainConfig(max_calls=2 * batch, batch=batch, trackers=(), memory=memory)
    marks: list[tuple[float, int, int]] = []
    with RowCounter.of(context) as rows:

        def mark(row: Found) -> None:
            marks.append((synchronised(device), rows.total.plain, rows.total.graph))
            if len(marks) == 1:
                reset_peak(device)

        Trainer(context, objective, config, scorer, callbacks=[EachRound(mark)]).run()
    (before, plain0, graph0), (after, plain, graph) = marks
    seconds, plain, graph = after - before, plain - plain0, graph - graph0
    work = flop * (plain + (2 if case["lora"] else 3) * graph)
    return {
        "measure": "round", "designs": batch, "updates": 4, "states": batch, "seconds": round(seconds, 3),
        "rows": [plain, graph], "sequences": round(batch / seconds, 2), "peak_gb": peak_gb(device),
        "share": round(work / seconds / (book.rates["bf16"] * 1e12), 4),
    }  # fmt: skip


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None


def speed(book: Book, case: Found, kind: str, budget: float) -> Iterator[Found]:
    """Yield what sampling and tuning take in a precision."""
    with precision(kind):
        net = network(case, book.device)
        told = {"of": case["of"], "precision": kind, "lora": case["lora"], "steps": case["steps"],
                "length": case["length"], "weights": sum(p.numel() for p in net.parameters())}  # fmt: skip
        error = error_of(case, net, kind, book.device)
        policy = policy_of(case, net, kind)
        flop = row_flop(policy, book.device)
        told |= {"gflop": round(flop / 1e9, 2), "error": error}
        yield told | sampled(book, case, policy, flop, budget)
        if kind != "bf16_weights" or case["lora"]:  # weights of 16 bits cannot be trained
            yield told | tuned(book, case, policy, flop)


def error_of(case: Found, net: nn.Module, kind: str, device: torch.device) -> float | None:
    """Return the largest difference of log-probabilities of letters to those in fp32, on some noised states."""
    if kind == "fp32":
        return None
    exact = policy_of(case, net, "fp32")
    generator = torch.Generator(device).manual_seed(3)
    x = torch.randint(case["letters"] + 1, (4, case["length"]), generator=generator, device=device).to(torch.int8)
    k = case["steps"] // 2
    with torch.no_grad():
        with precision("fp32"):
            wanted = exact.kernel(x, k).x0.double()
        other = policy_of(case, network(case, device), kind)
        return round((other.kernel(x, k).x0.double() - wanted).abs().max().item(), 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=440.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", choices=("checks", "speed"), help="one half of it")
    options = parser.parse_args()
    torch.set_num_threads(min(torch.get_num_threads(), 8))
    device = torch.empty(0, device=options.device).device
    book = Book(options.out, options.seconds, device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    book.all_of("matrix", lambda: matrix_rates(book, 256 if options.small else 8192))
    if options.only != "speed":
        check(book, device, 0.5 * options.seconds)
    if options.only != "checks":
        measure(book, SMALL if options.small else CASES)
    book.write({"measure": "whole", "seconds": round(options.seconds - book.left, 1)})


def check(book: Book, device: torch.device, leave: float) -> None:
    """Make all checks; of algorithms, as many as leave so many seconds."""
    book.all_of("kernels", lambda: checks.kernels(device))
    book.all_of("update", lambda: checks.one_update(device))
    book.all_of("law", lambda: checks.laws(device))
    book.all_of("resume", lambda: checks.resumed(device))
    book.all_of("experiment", lambda: checks.experiment(device))
    book.all_of("algorithm", lambda: checks.compared(device, lambda: book.left < leave))


def measure(book: Book, cases: list[Found]) -> None:
    """Measure all cases, each in its first precision before any in its second."""
    for place in range(max(len(case["precisions"]) for case in cases)):
        for case in cases:
            if place < len(case["precisions"]) and book.left > 12:
                kind, budget = case["precisions"][place], min(5.0, book.left / 8)
                book.all_of(f"{case['of']} {kind}", partial(speed, book, case, kind, budget))
                if book.device.type == "cuda":
                    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
