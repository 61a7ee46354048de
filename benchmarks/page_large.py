"""What the pages say of `large.jsonl`: rounds of tuning networks of 38M and 150M numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
FILE = Path(__file__).parent / "results" / "large.jsonl"


def of_cases() -> list[Line]:
    found = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return [line for line in found if line["case"] != "machine"]


def rounds() -> str:
    """The table of rounds."""
    head = ["", "states", "`train.memory`", "processes", "numbers trained", "s of the round", "CPU s of a process",
            "peak MB of a process", "weights apart"]  # fmt: skip
    table = [head, ["---"] * len(head)]
    for line in of_cases():
        case, found = line["case"], line["found"]
        tuned = f"LoRA, rank {case['rank']}" if case["rank"] else "all weights"
        row = [f"{case['size']}, {tuned}, {case['precision']}", str(case["states"]), str(case["memory"])]
        row.append(str(case["processes"]))
        if "reason" in found:
            table.append([*row, *["–"] * 5])
            continue
        same = f"{found['same']:.0e}" if "same" in found else ""
        table.append(
            [
                *row, f"{found['trained']:.1f}M", f"{found['round_s']:.0f}", f"{found['cpu_s']:.0f}",
                f"{found['peak_mb']:,}", same,
            ]
        )  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def rate(precision: str) -> str:
    """The rate of matrix products of one core, in GFLOP/s."""
    found = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return f"{next(line for line in found if line['case'] == 'machine')['found'][precision]:.1f}"


TABLES: dict[str, Callable[..., str]] = {"large": rounds, "large_rate": rate}
