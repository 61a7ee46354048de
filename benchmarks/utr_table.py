"""The VIDD variants and PPO on the `utr` task: held-out score, diversity, both KLs, calls and seconds.

    python benchmarks/utr_table.py --out benchmarks/results/utr.jsonl
    python benchmarks/utr_table.py --out benchmarks/results/utr.jsonl --table

Each line of the output is one run (variant, α, seed); runs that are there already are not done again, so the command
can be stopped and given again. Every run gets the same 768 oracle calls.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from biotilt.core import Policy, path_kl, sample
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.panel import panel
from biotilt.experiment import Experiment
from biotilt.files import write_json
from biotilt.judge import reference
from biotilt.wiring import build_trainer

SAMPLES = 640
RECENT = {"name": "vidd", "mirror": 0.5, "refresh": 20, "updates": 20, "states": 64, "buffer": 512}
ALL = RECENT | {"buffer": 4096}
# Two calls a transition leave few of them: with 20 updates a round they were learned by heart (KL 37 to 49 at α = 0.3).
ASKING = ALL | {"value": "posterior_mean", "teacher": "sampled", "mirror": 1.0, "updates": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "vidd surrogate, closed form": ALL | {"value": "surrogate"},
    "vidd return, closed form": RECENT | {"value": "return"},
    "vidd return, sampled": RECENT | {"value": "return", "teacher": "sampled"},
    "vidd bootstrapped, closed form": ALL | {"value": "bootstrapped"},
    "vidd mixed, closed form": RECENT | {"value": "mixed"},
    "vidd r(x0), anchored": ASKING,
    "vidd r(x0), paper form": ASKING | {"anchor": "rollout", "refresh": 5},
    "ppo": {"name": "ppo", "updates": 20, "states": 64},
}
LEARNED_VALUE = {"lr": 0.002}
ALPHAS = (0.3, 0.1, 0.05)


def run(variant: str, alpha: float, seed: int, calls: int, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Tune once in memory and judge 640 fresh designs of the last weights."""
    experiment = Experiment.for_task(
        "utr",
        model=changes.get("model", {}),
        alpha=alpha,
        seed=seed,
        objective=VARIANTS[variant] | changes["objective"],
        train={"max_calls": calls} | changes["train"],
        value=LEARNED_VALUE | changes["value"]
        if VARIANTS[variant].get("value") in ("surrogate", "return", "bootstrapped", "mixed")
        else {},
    )
    row, history = tuned_row(variant, experiment)
    curve = [[r["calls"], r.get("reward"), r["held_out"], r["kl"]] for r in history]
    return {"variant": variant, "alpha": alpha, "seed": seed, "row": row, "curve": curve}


def tuned_row(name: str, experiment: Experiment) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Tune an experiment in memory; return the panel's row of 640 fresh designs, and the history."""
    seed = experiment.config.seed
    trainer = build_trainer(experiment, None)
    started = time.perf_counter()
    net = trainer.run()
    seconds = time.perf_counter() - started
    base = experiment.model.policy
    tuned = Policy(base.process, net)
    generator = torch.Generator().manual_seed(10_000 + seed)
    designs = experiment.model.decode(sample(tuned, SAMPLES, generator))
    assert experiment.held_out is not None
    judged = Judged(
        designs, space=experiment.model.space, optimised=experiment.reward(designs),
        held_out=experiment.held_out(designs), reference=reference(experiment),
        kl_policy_base=path_kl(tuned, base, SAMPLES, generator).mean().item(),
        kl_base_policy=path_kl(base, tuned, SAMPLES, generator).mean().item(),
        calls=trainer.oracle.calls, seconds=seconds,
    )  # fmt: skip
    return panel(name, judged), trainer.history


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table, means over seeds with the range of the held-out median."""
    lines = [
        "| variant | α | optimised / held-out median | held-out range of seeds | beyond measured | unique | distance "
        "| KL policy‖base | KL base‖policy | calls | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for variant, alpha in itertools.product(VARIANTS, ALPHAS):
        rows = [r["row"] for r in results if r["variant"] == variant and r["alpha"] == alpha]
        if not rows:
            continue
        optimised, held_out = ([row[which]["median"] for row in rows] for which in ("optimised", "held_out"))

        def mean(key: str, rows: list[dict[str, Any]] = rows) -> float:
            return statistics.mean(row[key] for row in rows)

        lines.append(
            f"| {variant} | {alpha} | {statistics.mean(optimised):.2f} / {statistics.mean(held_out):.2f} "
            f"| {min(held_out):.2f}–{max(held_out):.2f} | {mean('beyond_measured'):.1%} "
            f"| {mean('unique'):.3f} | {mean('distance'):.1f} | {mean('kl_policy_base'):.2f} "
            f"| {mean('kl_base_policy'):.2f} | {mean('calls'):.0f} | {mean('seconds'):.0f} |"
        )
    return "\n".join(lines)


def frontier(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the points of VIDD's default, mean over seeds, as the report of the task reads them."""
    points = []
    for alpha in ALPHAS:
        rows = [r["row"] for r in results if r["variant"] == next(iter(VARIANTS)) and r["alpha"] == alpha]
        if rows:
            point = {
                "label": f"α = {alpha:g}, {rows[0]['calls']} calls",
                "alpha": alpha,
                "kl": statistics.mean(row["kl_policy_base"] for row in rows),
                "held_out": statistics.mean(row["held_out"]["median"] for row in rows),
            }
            points.append(point)
    return {"command": "python benchmarks/utr_table.py", "points": points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=768)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--alphas", nargs="*", type=float, default=list(ALPHAS))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for trials: mirror=0.5, train.lr=0.002",
    )
    parser.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    parser.add_argument("--frontier", type=Path, help="write the frontier that the task's report shows, and stop")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print(table(done))
        return
    if options.frontier:
        write_json(options.frontier, frontier(done))
        return
    changes: dict[str, dict[str, Any]] = {"objective": {}, "train": {}, "value": {}, "model": {}}
    for text in options.set:
        key, _, value = text.partition("=")
        group, _, name = key.rpartition(".")
        changes[group or "objective"][name] = json.loads(value)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    finished = {(r["variant"], r["alpha"], r["seed"]) for r in done}
    for seed, alpha, variant in itertools.product(range(options.seeds), options.alphas, options.variants):
        if (variant, alpha, seed) in finished:
            continue
        result = run(variant, alpha, seed, options.calls, changes)
        with options.out.open("a") as handle:
            handle.write(json.dumps(result) + "\n")
        print(table([result]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
