"""What the pages say of `images.jsonl`: pipelines trained on digits, and tuned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results" / "images.jsonl"
REWARDS = {
    "image_class": "log p of a three",
    "image_brightness": "brightness",
    "image_file_size": "bytes of the JPEG",
}
ROWS = ("base", "best_of_n", "tuned", "harvest")


def table() -> str:
    """The table of tuned pipelines, medians of what was optimised."""
    head = ["", "reward", "objective", "learning rate", "base", "best of N", "tuned", "KL", "harvest", "CPU s to tune"]
    rows = [head, ["---"] * len(head)]
    for line in sorted(lines("tuned"), key=lambda line: (line["model"], line["reward"], line["objective"], line["lr"])):
        told = {"unet": "UNet", "dit": "DiT, told a three"}[line["model"]]
        base, best, tuned, harvest = (number(line["medians"][row]) for row in ROWS)
        cells = [told, REWARDS[line["reward"]], line["objective"], f"{line['lr']:g}", base, best, tuned]
        rows.append([*cells, f"{line['kl']:.2f}", harvest, f"{line['seconds']:.0f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def trained(model: str) -> str:
    """How long a pipeline was trained."""
    (line,) = (line for line in lines("trained") if line["model"] == model)
    return f"{line['steps']} steps, {line['seconds']:.0f} s"


def number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def lines(part: str) -> list[dict[str, Any]]:
    """Return the lines of a part of the file."""
    found = [json.loads(text) for text in FILE.read_text(encoding="utf-8").splitlines()]
    return [line for line in found if line["part"] == part]


TABLES: dict[str, Callable[..., str]] = {"images": table, "images_trained": trained}
