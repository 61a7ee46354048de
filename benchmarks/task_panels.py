"""The ready-made tasks at equal oracle calls, by every method: judged by the panel of each, fresh designs and harvest.

    python benchmarks/task_panels.py --out benchmarks/results/task_panels.jsonl --tasks enhancer protein --seeds 0
    python benchmarks/task_panels.py --out benchmarks/results/task_panels.jsonl --table

Every method gets the task's own defaults and α, and the same calls in rounds of one size. `fresh` are designs that the
method ends with: of the tuned policy, of best of N the best, of SMC its particles (calls / (steps + 1) of them, which
it asks about at every step) drawn by their weights, of refinement and the genetic algorithm the last population. The
harvest is the best 100 of all that was scored. `evolve_gp` is evolve with a screen. Where `auto` chooses what another
method is, it is that run. Seconds are of the processor, of one thread. A line of the output is one run; runs that are
in the file already are not done again.
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

from biotilt.errors import Problems
from biotilt.evaluation.checks import warnings
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.panel import measure_all, panel
from biotilt.experiment import Experiment
from biotilt.judge import reference
from biotilt.measures import task_measures
from biotilt.tasks import TASKS
from panel_methods import HOW, KEYS, METHODS, MORE, Found, experiment_of, installed, oracle, ranked

HARVEST = 100
STRANGE = 0.05  # less of a correlation of words than the base has
Row = dict[str, Any]


def run(case: Row, batch: int, samples: int, changes: list[str]) -> Row:
    """Do one run in memory and judge its designs."""
    experiment = experiment_of(case["task"], case["method"], case["seed"], case["calls"], batch, changes)
    generator = torch.Generator().manual_seed(10_000 + case["seed"])
    started = time.process_time()
    found = HOW[case["method"]](experiment, case["calls"], samples, generator)
    seconds = time.process_time() - started
    fresh = judged(experiment, case["method"], found.designs, found, seconds)
    best = ranked(found.scored)[:HARVEST]
    harvest = judged(experiment, case["method"], best, None, seconds) if best else None
    top = [found.scored[design] for design in best]
    tops = {f"top_{count}": statistics.fmean(top[:count]) for count in (1, 10, 100) if top}
    config = experiment.config
    chosen = {"objective": config.objective, "screen": config.screen} if case["method"] in KEYS else {}
    told = {"batch": batch, "alpha": config.alpha, "chosen": chosen, "set": changes}
    return case | told | {"fresh": fresh, "harvest": harvest, **tops}


def judged(experiment: Experiment, method: str, designs: list[str], found: Found | None, seconds: float) -> Row:
    """Return the panel's row of a set of designs, with the task's own measures; `found`: whose law it is."""
    scores = [
        None if reward is None else oracle(experiment, reward).score(designs)
        for reward in (experiment.reward, experiment.held_out)
    ]
    assert scores[0] is not None
    kls = (None, None) if found is None else found.kls
    known = Judged(
        designs, space=experiment.model.space, optimised=scores[0], held_out=scores[1],
        reference=reference(experiment), comparable=experiment.comparable,
        kl_policy_base=kls[0], kl_base_policy=kls[1], calls=0 if found is None else len(found.scored), seconds=seconds,
    )  # fmt: skip
    problems = Problems()
    row = panel(method, known, problems)
    measure_all(task_measures(experiment.config), [(row, known)], problems)
    for problem in problems:  # a package that is not there: the designs are dearer than the measure
        print(problem, flush=True)
    row.setdefault("more", {})
    return row


def natural(row: Row) -> float | None:
    """Return the correlation of words with those of real designs: of three letters, or of one of proteins."""
    return row["more"].get("composition_r") if row["kmer3"] is None else row["kmer3"]


def table(results: list[Row]) -> str:
    """Return a Markdown table a task: means over seeds, the range of the judge's median, and what the checks say."""
    blocks = []
    for task in sorted({r["task"] for r in results}):
        mine = [r for r in results if r["task"] == task]
        more = list(mine[0]["fresh"]["more"])
        lines = [
            f"### {task} (α {mine[0]['alpha']:g}, {mine[0]['calls']} calls)",
            "",
            f"| {' | '.join(HEADS + more)} |",
        ]
        lines.append("|" + "---|" * len(HEADS + more))
        for method in METHODS:
            rows = [r for r in mine if r["method"] == method]
            if rows:
                lines.append(f"| {' | '.join(cells(method, rows, more))} |")
        lines += ["", *sorted({w for seed in {r["seed"] for r in mine} for w in said(mine, seed)})]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def summary(results: list[Row], part: str) -> str:
    """Return a Markdown table, a line a task and a column a method: means over seeds of the median by the judge.

    `part`: fresh or harvest. Without a judge it is the reward. † where words correlate with those of real designs by
    more than 0.05 less than the base's; the best of the others is bold.
    """
    methods = [method for method in METHODS if any(r["method"] == method and r[part] for r in results)]
    lines = [f"| task | {' | '.join(f'`{method}`' for method in methods)} |", "|" + "---|" * (len(methods) + 1)]
    for task in sorted({r["task"] for r in results}):
        found: dict[str, tuple[float, bool]] = {}
        like = natural_of(results, task, "base", "fresh")
        for method in methods:
            rows = [r[part] for r in results if (r["task"], r["method"]) == (task, method)]
            if rows:
                words = natural_of(results, task, method, part)
                strange = words is not None and like is not None and words < like - STRANGE
                found[method] = (statistics.mean(medians(rows, "held_out") or medians(rows, "optimised")), strange)
        best = max((score for score, strange in found.values() if not strange), default=None)
        lines.append(f"| `{task}` | {' | '.join(cell(found.get(method), best) for method in methods)} |")
    return "\n".join(lines)


def cell(found: tuple[float, bool] | None, best: float | None) -> str:
    """Return a score with its mark.

    >>> cell((1.2345, True), 2.0), cell((2.0, False), 2.0), cell(None, 2.0)
    ('1.23†', '**2**', '–')
    """
    if found is None:
        return "–"
    score, strange = found
    return f"{score:.3g}†" if strange else f"**{score:.3g}**" if score == best else f"{score:.3g}"


def natural_of(results: list[Row], task: str, method: str, part: str) -> float | None:
    rows = [r[part] for r in results if (r["task"], r["method"]) == (task, method) and r[part]]
    known = [words for row in rows if (words := natural(row)) is not None]
    return statistics.mean(known) if known else None


HEADS = [
    "method", "seeds", "fresh, judged (range)", "fresh", "unique", "words r", "KL", "best 100", "best 100, judged",
    "words r of these", "calls", "s",
]  # fmt: skip


def cells(method: str, rows: list[Row], more: list[str]) -> list[str]:
    """Return the cells of one method: medians of fresh designs and of the best 100 by both oracles."""
    fresh, best = [row["fresh"] for row in rows], [row["harvest"] for row in rows if row["harvest"]]
    held = medians(fresh, "held_out")
    span = f" ({min(held):.3g}–{max(held):.3g})" if len(held) > 1 else ""
    same = sorted({row["same_as"] for row in rows if row.get("same_as")})
    named = f"`{method}`" + (f" (= `{'`, `'.join(same)}`)" if same else "")
    return [
        named, str(len(rows)), mean(held) + span, mean(medians(fresh, "optimised")),
        mean([row["unique"] for row in fresh]), mean([natural(row) for row in fresh]),
        mean([row["kl_policy_base"] for row in fresh]), mean([row.get("top_100") for row in rows]),
        mean(medians(best, "held_out")), mean([natural(row) for row in best]),
        mean([row["calls"] for row in fresh], ".0f"), mean([row["seconds"] for row in fresh], ".0f"),
        *(mean([row["more"].get(key) for row in fresh]) for key in more),
    ]  # fmt: skip


def medians(rows: list[Row], oracle: str) -> list[float]:
    return [row[oracle]["median"] for row in rows if row[oracle] and row[oracle]["median"] is not None]


def mean(values: list[float | None] | list[float], digits: str = ".3g") -> str:
    known = [value for value in values if value is not None]
    return format(statistics.mean(known), digits) if known else "–"


def said(results: list[Row], seed: int) -> list[str]:
    """Return what the panel's checks for an exploited oracle say of one seed's rows of fresh designs."""
    return [f"- seed {seed}: {w}" for w in warnings([r["fresh"] for r in results if r["seed"] == seed])]


def same_run(case: Row, batch: int, changes: list[str], results: list[Row]) -> Row | None:
    """Return the line of the run that `auto` would repeat, as its own, where there is one."""

    def chosen(method: str) -> Any:
        config = experiment_of(case["task"], method, case["seed"], case["calls"], batch, changes).config
        return config.build_objective(), config.screen

    for line in results:
        like = all(line[key] == case[key] for key in ("task", "seed", "calls"))
        if like and line["method"] in KEYS and line["method"] != "auto" and chosen(line["method"]) == chosen("auto"):
            named = {part: line[part] | {"name": "auto"} for part in ("fresh", "harvest")}
            return line | case | named | {"same_as": line["method"]}
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--tasks", nargs="*", default=[task for task in sorted(TASKS) if task not in ("docking", "lead")]
    )
    parser.add_argument("--methods", nargs="*", default=[m for m in METHODS if m not in MORE], choices=METHODS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--calls", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print(table(done))
        return
    finished = {(r["task"], r["method"], r["seed"], r["calls"]) for r in done}
    for seed, task, method in itertools.product(options.seeds, options.tasks, options.methods):
        if (task, method, seed, options.calls) in finished or not installed(task, method):
            continue
        case = {"task": task, "method": method, "seed": seed, "calls": options.calls}
        again = same_run(case, options.batch, options.set, done) if method == "auto" else None
        result = again or run(case, options.batch, options.samples, options.set)
        done.append(result)
        with options.out.open("a") as handle:
            handle.write(json.dumps(result) + "\n")
        print(table([result]), flush=True)


if __name__ == "__main__":
    main()
