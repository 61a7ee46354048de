"""What a run leaves for people: the panel of base, best-of-N and tuned, designs, summary and page."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from biotilt.config import Config
from biotilt.core import Context, Policy, Replay, Roles, path_kl, sample
from biotilt.designs import Record, read_designs, write_designs
from biotilt.digits import exact
from biotilt.evaluation.measure import describe, measure_all
from biotilt.evaluation.metrics import kmer_counts
from biotilt.evaluation.panel import CHECKS, Reference, likelihood, panel, warnings
from biotilt.evaluation.pareto import front_summary
from biotilt.experiment import ACCOUNTS, Experiment
from biotilt.files import read_json, write_json
from biotilt.folder import shown
from biotilt.oracle import Oracle, Store
from biotilt.record import git_commit, read_record, versions
from biotilt.report import ReportData, render_report
from biotilt.samplers import BestOfN
from biotilt.tasks import task_defaults, task_folder, task_measures, task_pictures

if TYPE_CHECKING:
    from biotilt.run import Run

Scored = tuple[list[str], list[float], list[float] | None]

PICTURES = 12  # designs that are drawn, where a task draws them


def evaluate(run: Run, samples: int) -> dict[str, Any]:
    """Draw and judge fresh designs of base and tuned, and best-of-N with as many base designs as tuning had calls.

    Writes `designs.csv`, `designs.fasta`, `summary.json` and `report.html` into the run's folder; returns the
    summary. No score of these designs was seen in tuning, and none counts as one of its oracle calls.
    """
    experiment, folder = run.experiment, run.folder
    judge = _Judge(experiment, folder)
    measures = task_measures(experiment.config.panel or experiment.config.task, experiment.config)
    base, tuned = experiment.model.policy, run.model.policy
    device = experiment.device
    base.net.to(device)
    tuned.net.to(device)
    generator = torch.Generator(device).manual_seed(experiment.config.seed + 1_000_003)
    calls = int(run.history[-1]["calls"]) if run.history else 0
    spent = run.history[-1]["seconds"] if run.history else 0.0
    rows: list[dict[str, Any]] = []
    scored: dict[str, Scored] = {}

    def add(name: str, draw: Callable[[], torch.Tensor], calls: int, seconds: float, kls: tuple[Any, Any]) -> None:
        started = time.perf_counter()
        designs = draw()
        seconds += time.perf_counter() - started
        scored[name] = judge(designs)
        rows.append(
            panel(
                name, *scored[name], reference=judge.reference,
                loglik_base=likelihood(base, designs, generator).tolist(), kl_policy_base=kls[0],
                kl_base_policy=kls[1], calls=calls, seconds=seconds,
            )
        )  # fmt: skip
        if not comparable(experiment):
            rows[-1]["gap"] = None
        rows[-1]["more"] = measure_all(measures, scored[name][0])

    add("base", lambda: sample(base, samples, generator), 0, 0.0, (0.0, 0.0))
    kept = min(samples, calls // 3)  # to keep more would hardly be a choice
    if kept >= 2:
        # the law of the best part q of many draws has density 1/q on part of the base: KL = -log q, and the KL the
        # other way is infinite
        kls = (math.log(calls / kept), None)
        context = Context(Roles(base, base, base), judge.optimised, experiment.config.alpha, generator, Replay(None))
        best = BestOfN(factor=calls / kept)
        add("best_of_n", lambda: best.draw(context, kept).designs, calls, 0.0, kls)
    kls = _both_kls(tuned, base, samples, generator)
    add("tuned", lambda: sample(tuned, samples, generator), calls, spent, kls)

    summary = _summary(run, rows, calls, spent) | {"measures": describe(measures)}
    write_json(folder / "summary.json", summary)
    top = _write_designs(folder, scored["tuned"], fasta=experiment.model.alphabet is not None)
    report = _report(run, rows, scored, top, judge.reference)
    pictures = task_pictures(experiment.config.panel or experiment.config.task, [d for d, *_ in top[:PICTURES]])
    components, directions = _components(experiment, judge, scored)
    if components:
        summary["front"] = front_summary(components, directions=directions)
        write_json(folder / "summary.json", summary)
        report = replace(report, components=components, directions=directions, front=summary["front"])
    more = {"measures": summary["measures"], "pictures": pictures, "oracle": summary["oracle"]}
    render_report(replace(report, **more), folder / "report.html")
    return summary


def _components(
    experiment: Experiment, judge: _Judge, scored: dict[str, Scored]
) -> tuple[dict[str, dict[str, list[float]]], dict[str, str]]:
    """Return the scores of each objective for each row, and which are minimised; nothing where there is but one.

    Objectives are the parts of a combined reward, or the reward, and the constraints.
    """
    reward = experiment.reward
    names, parts = getattr(reward, "names", [reward.name]), getattr(reward, "parts", [reward])
    weights = getattr(reward, "weights", [1.0] * len(parts))
    objectives = {name: (part, weight >= 0) for name, part, weight in zip(names, parts, weights)}
    for section, constraint in zip(experiment.config.constraints, experiment.constraints):
        objectives[section.name or constraint.name] = (constraint, section.at_least is not None)
    if len(objectives) < 2:
        return {}, {}
    components = {
        row: {name: judge.oracle(part, name).score(found[0]).tolist() for name, (part, _) in objectives.items()}
        for row, found in scored.items()
    }
    return components, {name: "minimise" for name, (_, maximised) in objectives.items() if not maximised}


class _Judge:
    """Scores designs by both oracles, outside the accounts of tuning."""

    def __init__(self, experiment: Experiment, folder: Path):
        store = Store(folder / "oracle.sqlite")

        def oracle(reward: Any, which: str) -> Oracle:
            made = experiment.oracle(reward, store, f"{folder}:evaluation:{which}")
            # scores are known; what failed in an earlier evaluation is asked again, since its cause may be gone
            made.load_state_dict({"position": 0, "calls": 0})
            return made

        self.oracle = oracle
        self.decode = experiment.decode
        self.optimised = oracle(experiment.reward, "optimised")
        self.held_out = None if experiment.held_out is None else oracle(experiment.held_out, "held_out")
        self.reference = reference(experiment)

    def __call__(self, designs: torch.Tensor) -> Scored:
        held_out = None if self.held_out is None else self.held_out(designs).tolist()
        return self.decode(designs), self.optimised(designs).tolist(), held_out


def comparable(experiment: Experiment) -> bool:
    """Whether both oracles speak in the same unit: only then mean a gap, or a measured maximum, anything."""
    judge = experiment.held_out
    return judge is None or getattr(judge, "units", "") == getattr(experiment.reward, "units", "")


def reference(experiment: Experiment) -> Reference:
    """Return what is known of real sequences: from the experiment's own file, or the task's card."""
    config, alphabet = experiment.config, experiment.model.alphabet
    card = task_card(experiment)
    counts, highest = None, _measured_max(experiment) if comparable(experiment) else None
    if alphabet is None:  # designs that are not made of letters have no k-mers
        return Reference(None, highest)
    letters = alphabet.letters
    if config.reference.sequences is not None:
        records = read_designs(experiment.base / config.reference.sequences, alphabet)
        counts = kmer_counts([r.sequence for r in records], 3, letters)
    elif "kmer3_high" in card and len(letters) == 4:
        counts = np.array(card["kmer3_high"])
    return Reference(counts, highest, letters=letters)


def task_card(experiment: Experiment) -> dict[str, Any]:
    """Return the card beside the experiment's generator; an empty one when there is none."""
    return _card(experiment.base / experiment.config.model.path)


def _card(model: Path) -> dict[str, Any]:
    card = model.with_suffix(".json")
    return read_json(card) if card.is_file() else {}


def _measured_max(experiment: Experiment) -> float | None:
    """Return the largest value ever measured: as the experiment says, or as the cards of its oracles do."""
    config = experiment.config
    if config.reference.measured_max is not None or config.reward.kind != "learned":
        return config.reference.measured_max
    sections = [s for s in (config.reward, config.held_out) if s is not None and s.path is not None]
    cards = [_card(experiment.base / str(section.path)) for section in sections]
    return max((card["measured_max"] for card in cards if "measured_max" in card), default=None)


def _both_kls(p: Policy, q: Policy, batch: int, generator: torch.Generator) -> tuple[float, float]:
    return path_kl(p, q, batch, generator).mean().item(), path_kl(q, p, batch, generator).mean().item()


def _summary(run: Run, rows: list[dict[str, Any]], calls: int, seconds: float) -> dict[str, Any]:
    config = run.experiment.config
    accounts = run.folder / ACCOUNTS
    return {
        "oracle": read_json(accounts) if accounts.is_file() else {},  # folders of the first versions have none
        "task": config.task or config.name,
        "objective": config.objective.get("name", "vidd"),
        "options": dict(vars(config.build_objective()).items()),
        "alpha": config.alpha,
        "seed": config.seed,
        "calls": calls,
        "seconds": seconds,
        "versions": versions() | {"git": git_commit() or "unknown"},
        "rows": rows,
        "warnings": warnings(rows),
    }


def _write_designs(folder: Path, scored: Scored, *, fasta: bool) -> list[tuple[str, float, float | None]]:
    """Write the tuned designs, best first by the optimised oracle; return the top ones."""
    designs, optimised, held_out = scored
    nothing: list[float | None] = [None] * len(designs)
    order = sorted(range(len(designs)), key=lambda i: -np.nan_to_num(optimised[i], nan=-np.inf))
    rows = [(designs[i], optimised[i], (held_out or nothing)[i]) for i in order]
    records = [
        Record(f"design_{i + 1}", d, {"optimised": exact(a)} | ({} if b is None else {"held_out": exact(b)}))
        for i, (d, a, b) in enumerate(rows)
    ]
    write_designs(folder / "designs.csv", records)
    if fasta:
        write_designs(folder / "designs.fasta", records)
    return rows[:20]


def _commands(run: Run) -> list[str]:
    """Return what to type to get this page again; a run that was started from Python has no command of its own."""
    started = read_record(run.folder).command
    return [*([started] if started else []), shlex.join(["biotilt", "evaluate", str(shown(run.folder))])]


def _task_frontier(config: Config) -> list[dict[str, Any]]:
    """Return the runs over α that ship with a task; none when the reward is another than the task's."""
    if config.task is None or config.reward.path != task_defaults(config.task)["reward"].get("path"):
        return []
    path = task_folder(config.task) / "frontier.json"
    return read_json(path)["points"] if path.is_file() else []


def _report(
    run: Run, rows: list[dict[str, Any]], scored: dict[str, Scored], top: list[Any], known: Reference
) -> ReportData:
    config, model = run.experiment.config, run.experiment.model
    fixed = model.policy.process.fixed  # type: ignore[attr-defined]
    align = getattr(model.codec, "align", list)
    return ReportData(
        title=f"{config.task or config.name}: {config.objective.get('name', 'vidd')}",
        task=config.task or config.name,
        objective=config.objective.get("name", "vidd"),
        options=vars(config.build_objective()),
        alpha=config.alpha,
        seed=config.seed,
        rows=rows,
        letters="" if model.alphabet is None else model.alphabet.letters,
        reward=getattr(run.experiment.reward, "units", "") or "score",
        warnings=warnings(rows),
        checks=CHECKS,
        history=run.history,
        scores={name: (optimised, held_out) for name, (_, optimised, held_out) in scored.items()},
        top=top,
        base_sequences=align(scored["base"][0]),
        tuned_sequences=align(scored["tuned"][0]),
        frontier=_task_frontier(config),
        measured_max=known.measured_max,
        commands=_commands(run),
        versions=versions() | {"git": git_commit() or "unknown"},
        notes=task_card(run.experiment).get("notes", []),
        fixed=None if fixed is None or model.alphabet is None else fixed.mask.tolist(),
    )
