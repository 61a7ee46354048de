"""What the pages say of `models.jsonl`: loading and tuning the models people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

FILE = Path(__file__).parent / "results" / "models.jsonl"


def table() -> str:
    """The table of models."""
    head = ["", "weights", "numbers", "letters or coordinates", "lines of `[model]`", "CPU s to load",
            "CPU s of an update", "peak MB",
            "of it before loading", "largest difference", "from"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for text in FILE.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        costs = [f"{line['load_seconds']:.2f}", f"{line['step_seconds']:.2f}"]
        costs += [f"{line['memory_mb']:,}", f"{line['idle_mb']:,}"]
        sizes = [line["weights"], f"{line['numbers'] / 1e6:.1f}M", str(line["length"]), str(line["lines"])]
        rows.append([line["family"], *sizes, *costs, f"{line['parity']:.0e}", line["against"]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TABLES: dict[str, Callable[..., str]] = {"models": table}
