"""What the pages say of `gpu.jsonl`: the checks on a graphics card, and its measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
FILE = Path(__file__).parent / "results" / "gpu.jsonl"
NAMES = {"cnn_128x20": "CNN, 20 × 128", "transformer_35m": "transformer, 33M", "transformer_650m": "transformer, 649M"}


def of(key: str, value: str) -> list[Line]:
    """Return the lines whose `key` is so."""
    found = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return [line for line in found if line.get(key) == value]


def short(value: float) -> str:
    """Return a small number with one digit: 0.00007."""
    return f"{value:.{max(-int(f'{value:.0e}'.partition('e')[2]), 1)}f}"


def speeds() -> str:
    """The table of sampling and of rounds."""
    head = ["", "precision", "designs", "steps", "seconds", "designs a second", "rows", "share of the bf16 rate",
            "share, the network alone", "peak GB"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for what, named in (("sample", "sampling"), ("round", "a round of PPO")):
        for line in of("measure", what):
            asked = f"{line['rows']:,}" if what == "sample" else " + ".join(f"{n:,}" for n in line["rows"])
            net = f"{line['net']:.0%}" if what == "sample" else ""
            rows.append(
                [
                    f"{NAMES[line['of']]}{', LoRA' * line['lora']}: {named}", line["precision"].replace("_", " "),
                    str(line["designs"]), str(line["steps"]), f"{line['seconds']:.1f}", f"{line['sequences']:.1f}",
                    asked, f"{line['share']:.1%}", net, f"{line['peak_gb']:.1f}",
                ]
            )  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def checked() -> str:
    """The table of checks."""
    algorithms, updates = of("check", "algorithm"), of("check", "update")
    objectives = [line for line in algorithms if line["kind"] == "objective"]
    samplers = [line for line in algorithms if line["kind"] == "sampler"]
    kernels, laws, resumed = of("check", "kernels"), of("check", "law"), of("check", "resume")
    plain = [line["apart"]["weights"] for line in objectives if line["of"] != "vidd"]
    learned = [line["apart"]["weights"] for line in objectives if line["of"] == "vidd"]
    designs = sum(line["apart"]["designs"] == 0 for line in samplers)
    failed = [line for line in of("check", "experiment") if "error" in line]
    rows = [
        ["check", "cases", "found"], ["---"] * 3,
        ["outputs, log-probabilities and gradients of each process and network, fp32", str(len(kernels)),
         f"at most {short(max(line['worst'] for line in kernels))} apart"],
        ["the gradient of an update of PPO", str(len(updates)),
         f"at most {short(max(line['apart'] for line in updates))} apart"],
        ["laws that can be enumerated, 40,000 designs: z-score of χ²", str(len(laws)),
         f"at most {short(max(line['z'] for line in laws))}"],
        ["samplers with the processor's noise", str(len(samplers)), f"the same designs in {designs}"],
        ["weights after two rounds, with the processor's noise", str(len(plain)), f"at most {short(max(plain))} apart"],
        ["the same, VIDD", str(len(learned)), f"at most {short(max(learned))} apart"],
        ["the same seed twice, with deterministic algorithms", str(len(algorithms)),
         f"the same to the last bit in {sum(line['same'] for line in algorithms)}, no operator refused in "
         f"{sum('refused' not in line for line in algorithms)}"],
        ["a run that was killed, and went on", str(len(resumed)),
         f"the same to the last bit in {sum(line['same'] for line in resumed)}"],
        ["an experiment from its description to its designs", "1",
         "did not start: the package was not installed there" if failed else "ran"],
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def value(what: str) -> str:
    """The name of the card, or its rate of matrix products in a precision, in TFLOP/s."""
    lines = of("measure", "matrix")
    return lines[0]["card"] if what == "card" else f"{next(x['tflops'] for x in lines if x['of'] == what):.0f}"


TABLES: dict[str, Callable[..., str]] = {"gpu": speeds, "gpu_checks": checked, "gpu_value": value}
