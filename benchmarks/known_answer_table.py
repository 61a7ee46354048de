"""Print the results of `known_answer.py` as a Markdown table: `python benchmarks/known_answer_table.py FILE…`.

Each file holds the JSON object that one run of `known_answer.py --json` printed. Columns are budgets; a dash means that
the law was not computed there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BUDGETS = {
    "epistatic": (2048, 4096, 6016, 8000, 20000, 76800),
    "tfbind8": (2048, 10000, 20000, 50000, 100000),
}
SHOWN = ("value", "teacher", "anchor", "mirror", "updates", "train.lr", "value.lr")


def nearest(curve: list[list[float]], calls: int) -> str:
    """Return the TV measured within one twentieth of a budget, or a dash."""
    found = min(curve, key=lambda point: abs(point[0] - calls))
    return f"{found[1]:.3f}" if abs(found[0] - calls) <= calls / 20 else "–"


def line(result: dict[str, Any]) -> str:
    options = ", ".join(f"{k}={result['options'][k]}" for k in SHOWN if k in result["options"])
    cells = [nearest(result["curve"], calls) for calls in BUDGETS[result["landscape"]]]
    final = result["final"]
    seeds = f"{min(final['tv_seeds']):.3f}–{max(final['tv_seeds']):.3f}"
    return f"| {result['objective']}: {options} | " + " | ".join(cells) + f" | {seeds} | {final['seconds']:.0f} |"


def table(results: list[dict[str, Any]]) -> str:
    """Return the table of results of one landscape, the smallest distance first."""
    budgets = BUDGETS[results[0]["landscape"]]
    head = (
        "| objective and options | " + " | ".join(f"{b:,}" for b in budgets) + " | final, range of seeds | s a seed |"
    )
    ranked = sorted(results, key=lambda r: r["final"]["tv"])
    return "\n".join([head, "|---" * (len(budgets) + 3) + "|", *(line(result) for result in ranked)])


def main() -> None:
    print(table([json.loads(Path(name).read_text(encoding="utf-8").splitlines()[-1]) for name in sys.argv[1:]]))


if __name__ == "__main__":
    main()
