"""What the pages say of `revisit.jsonl`: samplers that choose or revisit, at equal network calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results" / "revisit.jsonl"


def table(task: str) -> str:
    """Return the table of a task: distance of 3-mer frequencies (of letters), log p by calls, and variety."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for text in FILE.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if line["task"] == task:
            found.setdefault(line["sampler"], {})[line["calls"]] = line
    calls = sorted({count for rows in found.values() for count in rows})
    words = [count for count in calls if all("kmer3_distance" in rows.get(count, {}) for rows in found.values())]
    head = ["", *(f"3-mers apart, {count} calls" for count in words), *(f"log p, {count} calls" for count in calls)]
    rows = [[*head, f"unique, {calls[-1]}", f"positions that differ, {calls[-1]}"]]
    rows.append(["---"] * len(rows[0]))
    for sampler, of in found.items():
        apart = [f"{of[count]['kmer3_distance']:.3f}" for count in words]
        nats = [f"{of[count]['nats']:.2f}".replace("-", "−") for count in calls]
        rows.append([sampler, *apart, *nats, *(f"{of[calls[-1]][key]:.0%}" for key in ("unique", "apart"))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TABLES: dict[str, Callable[..., str]] = {"revisit": table}
