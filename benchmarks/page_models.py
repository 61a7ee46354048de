"""What the pages say of `models.jsonl`, loading and tuning the models people have, and of `gdss.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

FILE = Path(__file__).parent / "results" / "models.jsonl"
GDSS = FILE.with_name("gdss.jsonl")
PUBLISHED = ["published", "10,000", "1,000", "yes", "95.7%", "", "98.5%", ""]  # table 2 of arXiv 2202.02514, QM9


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
        parity = f"{line['parity']:.0e}" if line["parity"] else "0"
        rows.append([line["family"], *sizes, *costs, parity, line["against"]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def gdss() -> str:
    """The table of molecules drawn from the public weights of GDSS."""
    head = ["", "designs", "levels", "correctors", "valid as drawn", "valid", "unique", "CPU s"]
    rows = [head, ["---"] * len(head), PUBLISHED]
    for text in GDSS.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        shares = [f"{line[key]:.1%}" for key in ("valid", "molecules", "unique")]
        said = [str(line["designs"]), str(line["levels"]), "yes" if line["snr"] else "no"]
        rows.append(["here", *said, *shares, f"{line['seconds']:.0f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TABLES: dict[str, Callable[..., str]] = {"models": table, "gdss": gdss}
