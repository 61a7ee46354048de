"""The tables of docs/ that come from files in benchmarks/results/, by the name that a page's mark gives them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ehrlich
import eterna100
import graphs
import known_answer_page
import known_answer_table
import lead
import matrix
import page_gpu
import page_images
import page_large
import page_models
import page_revisit
import pmo_table
import recovery
import redesign
import task_panels
import utr_objectives
import utr_table
from biotilt.rewards.molecule.endpoints import ENDPOINTS

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


@cache
def lines(name: str) -> list[Record]:
    """Return the records of a result file, one a line."""
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def whole(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def markdown(rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def graphs_of(reward: str, model: str) -> str:
    """Methods at equal calls, on molecules as graphs or as SELFIES."""
    return graphs.table(lines("graphs.jsonl"), reward, model)


def known_answers(kind: str) -> str:
    return known_answer_page.table(lines("known_answer.jsonl"), kind)


def epistatic_budgets() -> str:
    """TV of every objective on the epistatic landscape after 2,048 to 40,000 designs."""
    budgets = (2048, 8000, 20000, 40000)
    found = [
        r for r in lines("known_answer.jsonl")
        if (r["landscape"], r["tilt"], r["kind"]) == ("epistatic", "middle", "objectives") and "reason" not in r
    ]  # fmt: skip
    rows = [["objective", *(f"{b:,}" for b in budgets), "states given to networks", "s"]]
    for r in sorted(found, key=lambda r: r["distance"]):
        curve = [[point["calls"], point["distance"]] for point in r["curve"]]
        cells = [known_answer_table.nearest(curve, b) for b in budgets]
        rows.append([r["name"], *cells, f"{r['states'] / 1e6:.1f} M", f"{r['seconds']:.0f}"])
    return markdown(rows)


def known_value(name: str, key: str = "distance") -> str:
    """TV to p* on the epistatic landscape where an objective ended (`distance`) or began (`base_distance`)."""
    wanted = ("epistatic", "middle", name)
    (found,) = [r for r in lines("known_answer.jsonl") if (r["landscape"], r["tilt"], r["name"]) == wanted]
    return f"{found[key]:.3f}"


def known_table(landscape: str) -> str:
    files = sorted(RESULTS.glob(f"{landscape}_*.json"))
    return known_answer_table.table([json.loads(f.read_text(encoding="utf-8").splitlines()[-1]) for f in files])


def panel_of(task: str) -> str:
    """The panel of one task at equal calls, without its title."""
    found = [line for line in lines("task_panels.jsonl") if line["task"] == task]
    return task_panels.table(found).partition("\n\n")[2]


def probes() -> str:
    """What probes of few designs leave of the variance of others, on each task."""
    found = lines("probe.jsonl")
    sizes = list(found[0]["unknown"])
    rows = [["task", *(f"{size} designs: median (range)" for size in sizes)]]
    for line in found:
        cells = []
        for size in sizes:
            known = [part for part in line["unknown"][size] if part is not None]
            span = f" ({min(known):.2f}–{max(known):.2f})" if len(known) > 1 else ""
            cells.append(f"{statistics.median(known):.2f}{span}")
        rows.append([f"`{line['task']}`", *cells])
    return markdown(rows)


def panels_by(part: str) -> str:
    """The medians of all methods on all tasks by the judge, of fresh designs or of the harvest."""
    return task_panels.summary(lines("task_panels.jsonl"), part)


def floor() -> str:
    """Distances to p* where kernels reveal several letters a step."""
    cases = whole("factorised_floor.json")["cases"]
    heads = ["any_order, 3 letters in 1 step", "any_order, 2 letters a step", "masked, 3 steps"]

    def row(title: str, of: Callable[[Record], str]) -> list[str]:
        return [title, *(of(case) for case in cases)]

    def tv(proposal: str, key: str, sizes: list[int]) -> Callable[[Record], str]:
        return lambda case: " / ".join(f"{dict(map(tuple, case['tv'][proposal][key]))[s]:.3f}" for s in sizes)

    particles, few, children = [16, 64, 256, 1024], [4, 16, 64, 1024], [4, 16, 64]
    return markdown([
        ["", *heads],
        row("base", lambda c: f"{c['tv_base']:.3f}"),
        row("**floor**: tuned, largest J", lambda c: f"**{c['floor']['tv']:.3f}**"),
        row("J of it / of `p*`", lambda c: f"{c['floor']['J']:.3f} / {c['floor']['J_optimum']:.3f}"),
        row("any policy of the family, descent on TV itself", lambda c: f"{c['floor']['least_tv']:.3f}"),
        row("smc, base proposes, 16 / 64 / 256 / 1,024 particles", tv("base", "smc", particles)),
        row("importance, base proposes, the same", tv("base", "importance", particles)),
        row("smc, tuned proposes, 4 / 16 / 64 / 1,024", tv("tuned", "smc", few)),
        row("svdd, base proposes, 4 / 16 / 64 children", tv("base", "svdd", children)),
        row("svdd, exact value, base proposes, the same", tv("base", "svdd, exact value", children)),
        row("svdd, tuned proposes, the same", tv("tuned", "svdd", children)),
        row("svdd, exact value, tuned proposes, the same", tv("tuned", "svdd, exact value", children)),
        row("svdd, weighted, base proposes, the same", tv("base", "svdd, weighted", children)),
    ])  # fmt: skip


def docking() -> str:
    """Our docking scores against published ones."""
    found = [line for line in lines("docking.jsonl") if "summary" in line]
    titles = {"freed_jak2": "FREED, JAK2", "dockstring_jak2": "DOCKSTRING, JAK2"}
    shown: list[tuple[str, str, str]] = [
        ("molecules", "molecules", ".0f"),
        ("not scored", "not_scored", ".0f"),
        ("**Spearman with the published scores**", "spearman_with_published", ".2f"),
        ("at equal size", "spearman_at_equal_size", ".2f"),
        ("Spearman of size alone with the published scores", "spearman_of_size_with_published", ".2f"),
        ("mean of ours − published score, both as minus the energy, kcal/mol", "mean_ours_minus_published", ".2f"),
        ("SD between seeds, kcal/mol", "sd_between_seeds", ".2f"),
        ("largest difference between seeds, kcal/mol", "largest_spread_between_seeds", ".1f"),
        ("SD between molecules, kcal/mol", "sd_between_molecules", ".2f"),
        ("Spearman between seeds", "spearman_between_seeds", ".2f"),
    ]
    cells = [[title, *(format(r[key], how).replace("-", "−") for r in found)] for title, key, how in shown]
    return markdown([["", *(titles[r["summary"]] for r in found)], *cells])


def docking_value(table: str, key: str, how: str = ".2f") -> str:
    (found,) = [line for line in lines("docking.jsonl") if line.get("summary") == table]
    return format(found[key], how).replace("-", "−")


def speed() -> str:
    """What a round of each algorithm costs, on a small network."""
    rows = [["", "steps", "calls", "rows", "with a graph", "CPU s", "TFLOP", "peak MB"]]
    for line in lines("speed.jsonl"):
        case, found = line["case"], line["found"]
        if case["network"].get("blocks") != 4 or "plain" not in found:
            continue
        name = case["name"] + (", as published" if case.get("options") else "")
        cost = [f"{found['cpu_s']:.2f}", f"{found['tflop']:.2f}", f"{found['peak_mb']:.0f}"]
        sizes = [str(case["steps"]), *(f"{found[key]:,}" for key in ("calls", "plain", "graph"))]
        rows.append([name, *sizes, *cost])
    return markdown(rows)


def speed_peers() -> str:
    """What the updates of published code cost here, on a network of their size, in matrix TFLOP."""
    rows = [
        [
            "",
            "calls",
            "rows",
            "CPU s",
            "TFLOP",
            "TFLOP, published code",
            "peak MB",
            "share of the matrix rate, padding counted",
        ]
    ]
    for line in lines("speed.jsonl"):
        case, found = line["case"], line["found"]
        if case["network"].get("blocks") != 20 or "plain" not in found:
            continue
        asked = f"{found['plain']:,} + {found['graph']:,}"
        published = PUBLISHED_TFLOP.get(case["name"], "–")
        cost = [f"{found['cpu_s']:.0f}", f"{found['tflop']:.1f}", published, f"{found['peak_mb']:.0f}"]
        fewer = case["name"] == "ancestral" and case["steps"] != 128
        name = case["name"] + f", {case['steps']} steps" * fewer
        rows.append([name, str(found["calls"]), asked, *cost, f"{found['share']:.0%}"])
    return markdown(rows)


def steps() -> str:
    """What drawing several letters a step saves, and what it does to the law."""
    head = ["", "letters a step", "rows a design", "CPU ms a design", "bits lost a design", "share of the weights",
            "rows, weighed", "4-mers, bits"]  # fmt: skip
    rows = [head]
    for line in lines("steps.jsonl"):
        lost = "0" if line["per_step"] == 1 else f"{line['kl_bits']:.2f} ± {line['kl_bits_error']:.2f}"
        sizes = [f"{line['task']}, {line['length']} letters", str(line["per_step"]), f"{line['rows']:.0f}"]
        share = [f"{line['ess']:.2f}", f"{line['rows_weighed']:.0f}", f"{line['kmer_bits']:.4f}"]
        rows.append([*sizes, f"{line['cpu_ms']:.1f}", lost, *share])
    return markdown(rows)


def screening() -> str:
    """What a screen brings the hundred best of the same calls."""
    head = ["", "seed", "top 10, without", "with", "top 100, without", "with", "held-out median, without", "with",
            "ρ on its last picks", "CPU s, without", "with"]  # fmt: skip
    pairs: dict[tuple[str, str, int], dict[bool, Record]] = {}
    for line in lines("screening.jsonl"):
        case = line["case"]
        pairs.setdefault((case["task"], case["sampler"], case["seed"]), {})[bool(case["screen"])] = line["found"]
    rows = [head]
    for (task, sampler, seed), found in pairs.items():
        plain, screened = found[False], found[True]
        cells = [f"{task}, {sampler}", str(seed)]
        for key in ("top_10", "top_100", "held_out"):
            cells += ["–" if one[key] is None else f"{one[key]:.3f}" for one in (plain, screened)]
        rank = screened.get("screen/rank")
        cells += ["–" if rank is None else f"{rank:.2f}", f"{plain['seconds']:.0f}", f"{screened['seconds']:.0f}"]
        rows.append(cells)
    return markdown(rows)


# Seconds of published code on this network times the rate of the processor they were measured on, 127 GFLOP/s a core.
PUBLISHED_TFLOP = {
    "ancestral": "29",
    "svdd": "5.5",
    "vidd": "39",
    "ppo": "17, its own network",
    "backprop": "15 (DRAKES)",
}


def scaffolds() -> str:
    """How often a held scaffold survives decoding."""
    found = lines("scaffolds.jsonl")
    rows = [["scaffold", *(f"{what}, {tails}" for tails in ("random tails", "generator")
                           for what in ("atoms and bonds kept", "SMARTS matched"))]]  # fmt: skip
    for name in dict.fromkeys(line["scaffold"] for line in found):
        by = {line["tails"]: line for line in found if line["scaffold"] == name}
        shares = (by[tails][key] for tails in ("random", "generator") for key in ("skeleton", "smarts"))
        rows.append([f"`{name}`", *(f"{share:.1%}" for share in shares)])
    return markdown(rows)


def faulty() -> str:
    """Throughput of an oracle with every fault."""
    rows = [["backend", "with faults", "ideal", "of the ideal", "against the same without faults", "replaced workers"]]
    for line in lines("faulty_oracle.jsonl"):
        seconds = line["seconds"]
        ideal = seconds["ideal with faults (of which waiting for hangs)"][0]
        name = {"pool": "pool", "ray": "Ray"}[line["backend"]] + (", a worker killed in the middle" * line["kill"])
        rows.append([
            name, f"{seconds['with faults']:.1f} s", f"{ideal:.1f} s", f"{line['throughput of the ideal']:.0%}",
            f"{line['throughput of this backend without faults']:.0%}", f"{line['accounts']['workers_replaced']:.0f}",
        ])  # fmt: skip
    return markdown(rows)


def objectives_value(name: str, key: str, how: str = ".2f") -> str:
    """A number of the runs of every objective on utr, one seed."""
    (row,) = [line["row"] for line in lines("utr_objectives.jsonl") if line["name"] == name]
    return format(row[key]["median"] if isinstance(row[key], dict) else row[key], how)


def utr_value(file: str, variant: str, alpha: str, key: str, how: str = ".2f") -> str:
    """A number of the utr table, mean of its seeds."""
    rows = [r["row"] for r in lines(file) if r["variant"] == variant and r["alpha"] == float(alpha)]
    return format(statistics.mean(r[key]["median"] if isinstance(r[key], dict) else r[key] for r in rows), how)


def utr_range(file: str, variant: str, alpha: str) -> str:
    """The range over the seeds of the held-out median."""
    rows = [r["row"] for r in lines(file) if r["variant"] == variant and r["alpha"] == float(alpha)]
    medians = [row["held_out"]["median"] for row in rows]
    return f"{min(medians):.2f} to {max(medians):.2f}"


def admet_endpoints() -> str:
    """The endpoints of the reward `admet`: a line each."""
    cells = [["`column`", "what", "unit", "better", "molecules", "test"]]
    for e in ENDPOINTS:
        figure = f"{e.figure:.2f}".replace("-", "−")
        cells.append([f"`{e.name}`", e.what, e.units, e.better, f"{e.molecules:,}", figure])
    return markdown(cells)


TABLES: dict[str, Callable[..., str]] = {
    "admet_endpoints": admet_endpoints,
    "docking": docking,
    "docking_value": docking_value,
    "epistatic_budgets": epistatic_budgets,
    "ehrlich": lambda: ehrlich.table(lines("ehrlich.jsonl")),
    "eterna100": lambda: f"```text\n{eterna100.table(lines('eterna100.jsonl'))}\n```",
    "faulty": faulty,
    "floor": floor,
    "graphs_of": graphs_of,
    **page_gpu.TABLES,
    **page_images.TABLES,
    **page_large.TABLES,
    **page_models.TABLES,
    **page_revisit.TABLES,
    "known_answers": known_answers,
    "known_table": known_table,
    "known_value": known_value,
    "lead": lambda: markdown(lead.table(lines("lead.jsonl"))),
    "lead_bounds": lambda: markdown(lead.bounds(lines("lead.jsonl"))),
    "lead_value": lambda method, key, how: lead.value(lines("lead.jsonl"), method, key, how),
    "matrix": lambda kind: matrix.table(lines("matrix.jsonl"), kind),
    "objectives_value": objectives_value,
    "panel_of": panel_of,
    "panels_by": panels_by,
    "pmo_cost": lambda calls: pmo_table.cost(lines("pmo.jsonl"), int(calls)),
    "pmo_published": pmo_table.published,
    "pmo_table": lambda calls: pmo_table.table(lines("pmo.jsonl"), int(calls)),
    "probes": probes,
    "pmo_verdict": lambda calls: pmo_table.verdict(lines("pmo.jsonl"), int(calls)),
    "recovery": lambda: markdown(recovery.table(lines("recovery.jsonl"))),
    "recovery_published": lambda what: recovery.PUBLISHED_RECOVERY[what],
    "redesign": lambda: markdown(redesign.table(lines("redesign.jsonl"))),
    "redesign_native": lambda backbone: redesign.native(lines("redesign.jsonl"), backbone),
    "redesign_value": lambda backbone, method, key, how: redesign.value(
        lines("redesign.jsonl"), backbone, method, key, how
    ),
    "scaffolds": scaffolds,
    "speed": speed,
    "speed_peers": speed_peers,
    "steps": steps,
    "screening": screening,
    "utr_range": utr_range,
    "utr_objectives": lambda: utr_objectives.table(lines("utr_objectives.jsonl")),
    "utr_table": lambda file: utr_table.table(lines(file)),
    "utr_value": utr_value,
}
