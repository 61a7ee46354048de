"""Draw the figures of `docs/known_answers.md` from what `known_answer.py --all` measured; `pages.py` writes its tables.

    python benchmarks/known_answer_page.py --runs benchmarks/results/known_answer.jsonl --images docs/images

A sampler is charged for 640 designs, as many as a tuned model is asked for after its training; a tuned model draws as
many as one likes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib import ticker

from landscapes import LANDSCAPES, TILTS

AXES = {"calls": "designs scored", "states": "states given to networks", "seconds": "seconds on one core"}
DESIGNS = 640
Row = dict[str, Any]


def rows_of(rows: list[Row], **wanted: str) -> list[Row]:
    return [r for r in rows if all(r[key] == value for key, value in wanted.items()) and "reason" not in r]


def cost(row: Row, axis: str) -> float:
    """Return what 640 designs of a sampler cost."""
    return row[axis] * DESIGNS / row["designs"]


def figure(rows: list[Row], landscape: str, tilt: str, path: Path) -> None:
    """Draw distance against calls, network states and seconds: lines for objectives, marks for samplers."""
    chart, panels = plt.subplots(1, 3, figsize=(13, 4.6), sharey=True)
    base = rows[0]["base_distance"]
    objectives = sorted({r["name"] for r in rows if r["kind"] == "objectives"})
    samplers = sorted({r["name"] for r in rows if r["kind"] == "samplers"})
    for (axis, label), panel in zip(AXES.items(), panels):
        for i, name in enumerate(objectives):
            curves = [r["curve"] for r in rows_of(rows, kind="objectives", name=name)]
            points = [(c[0][axis], statistics.mean(p["distance"] for p in c) / base) for c in zip(*curves)]
            style = ("-", "--", ":")[i // 10]
            panel.plot(*zip(*points), style, color=f"C{i % 10}", label=name, linewidth=1.6)
        for i, name in enumerate(samplers):
            found = rows_of(rows, kind="samplers", name=name)
            spent = statistics.mean(cost(r, axis) for r in found)
            if spent > 0:  # ancestral sampling asks the reward nothing
                mark = "osD^vP*Xd<>h"[i % 12]
                distance = statistics.mean(r["distance"] for r in found) / base
                panel.plot(spent, distance, mark, color="0.35", markersize=6, markerfacecolor="none", label=name)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
        panel.axhline(1, color="0.6", linewidth=0.8)
    panels[0].set_ylabel("distance to p*, base = 1")
    handles, labels = panels[0].get_legend_handles_labels()
    chart.legend(handles, labels, loc="center left", bbox_to_anchor=(0.82, 0.5), fontsize=8, ncols=1, frameon=False)
    chart.suptitle(f"{landscape}, {tilt} tilt", fontsize=11)
    chart.subplots_adjust(left=0.06, right=0.81, bottom=0.13, top=0.91, wspace=0.08)
    chart.savefig(path, dpi=110)
    plt.close(chart)


def table(rows: list[Row], kind: str) -> str:
    """Return a Markdown table: distance over the base's, mean of the seeds, a line an algorithm."""
    settings = [s for s in itertools.product(LANDSCAPES, TILTS) if rows_of(rows, kind=kind, landscape=s[0], tilt=s[1])]
    names = list(dict.fromkeys(r["name"] for r in rows if r["kind"] == kind))
    head = " | ".join(f"{landscape} {tilt}" for landscape, tilt in settings)
    lines = [f"| {kind} | {head} |", "|---" * (len(settings) + 1) + "|"]
    for name in names:
        cells = []
        for landscape, tilt in settings:
            wanted = [
                r for r in rows if (r["kind"], r["name"], r["landscape"], r["tilt"]) == (kind, name, landscape, tilt)
            ]
            found = [r for r in wanted if "reason" not in r]
            ratio = statistics.mean(r["distance"] / r["base_distance"] for r in found) if found else None
            seeds = f" ({len(found)})" if len(found) > 1 else ""
            cells.append(f"{ratio:.3f}{seeds}" if ratio is not None else "cannot" if wanted else "not run")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if kind == "samplers":
        floors = []
        for landscape, tilt in settings:
            found = rows_of(rows, kind=kind, landscape=landscape, tilt=tilt)
            floors.append(f"{statistics.mean(r['floor'] / r['base_distance'] for r in found):.3f}")
        lines.append("| as many exact draws | " + " | ".join(floors) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.runs.read_text(encoding="utf-8").splitlines()]
    for landscape in LANDSCAPES:
        found = rows_of(rows, landscape=landscape, tilt="middle")
        if found:
            figure(found, landscape, "middle", options.images / f"known_{landscape}.png")


if __name__ == "__main__":
    main()
