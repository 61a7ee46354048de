"""What a run leaves for people: base, best-of-N, tuned and the harvest drawn and judged; tables, summary and page."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biotilt.core import Target, team
from biotilt.errors import Problems
from biotilt.evaluation.attainable import attainable
from biotilt.evaluation.binding import binding
from biotilt.evaluation.checks import made_and_not, sentences
from biotilt.evaluation.common import common_measures
from biotilt.evaluation.drawing import draw_beside
from biotilt.evaluation.levels import levels_of, points_of, took
from biotilt.evaluation.likelihood import likelihood
from biotilt.evaluation.measure import Measure, describe, plain
from biotilt.evaluation.mending import mending_measures
from biotilt.evaluation.panel import measure_all
from biotilt.evaluation.pareto import front_summary
from biotilt.evaluation.quantity import column_of, quantity
from biotilt.evaluation.tables import COLUMNS, Designs, flagged, write_table
from biotilt.evaluation.verdict import verdict_of
from biotilt.experiment import Experiment
from biotilt.files import read_json, write_json
from biotilt.folder import ACCOUNTS, LEDGER, SUMMARY, TABLES
from biotilt.harvest import harvest, scored_in_order, within
from biotilt.judge import Finished, Judge, alpha_of, alphabet_of
from biotilt.measures import task_measures, together
from biotilt.oracle import Store
from biotilt.pages import write_page
from biotilt.provenance import git_commit, versions
from biotilt.ranks import is_first
from biotilt.report.words import verdict_words
from biotilt.rewards.generic.combine import Combination, Sum
from biotilt.rewards.generic.declare import Declared
from biotilt.schema import Accounts
from biotilt.spaces import Text

Components = dict[str, dict[str, list[float]]]


def evaluate(run: Finished, samples: int) -> dict[str, Any]:
    """Draw and judge fresh designs of base and tuned, best-of-N with as many base designs as tuning had calls, and the
    best of all that tuning scored.

    Writes a table a row, `summary.json` and `report.html` into the run's folder; returns the summary. No score of the
    fresh designs was seen in tuning, and none counts as one of its oracle calls. What fails on the way to the tables'
    further columns, the checks or the page is told there, and costs nothing else. Of several processes all draw, and
    the first one judges and writes.
    """
    problems = Problems()
    experiment, folder = run.experiment, run.folder
    if team.several() and not is_first():
        for _ in _drawn(run, samples, None, problems):
            raise AssertionError("what was drawn is judged by the first process")
        team.wait()
        return read_json(folder / SUMMARY)
    with team.alone():
        judge = Judge(experiment, folder / LEDGER, f"{folder}:evaluation", problems)
    rows: dict[str, Designs] = {}
    for designs in _drawn(run, samples, judge, problems):
        rows[designs.name] = designs
        write_table(folder, designs, experiment.model.space)
    with team.alone():
        summary = _told(run, judge, rows, problems)
    team.wait()
    return summary


def _spent(run: Finished) -> tuple[int, float]:
    """Return the calls and the seconds of tuning."""
    return (int(run.rows[-1]["calls"]), run.rows[-1]["seconds"]) if run.rows else (0, 0.0)


def _told(run: Finished, judge: Judge, rows: Mapping[str, Designs], problems: Problems) -> dict[str, Any]:
    """Complete the tables, and write the summary and the page."""
    experiment, folder, space = run.experiment, run.folder, run.experiment.model.space
    for name in TABLES.keys() - rows.keys():
        (folder / TABLES[name]).unlink(missing_ok=True)  # of an earlier evaluation with more rows
    about = finish(experiment, judge, rows, problems, alpha_of(run))
    for designs in rows.values():
        problems.attempt(f"the table of {designs.name}", None, lambda d=designs: write_table(folder, d, space))
    progress = problems.attempt("what it took to reach a level", None, lambda: _progress(run, rows))
    about |= problems.attempt("which constraints bind", {}, lambda: _constraints(run, rows))
    summary = _summary(run, *_spent(run)) | about | {"progress": progress, "problems": list(problems)}
    write_json(folder / SUMMARY, summary)

    problems.attempt("the page", None, lambda: write_page(run, summary, rows, judge, problems))
    if len(problems) > len(summary["problems"]):
        summary["problems"] = list(problems)
        write_json(folder / SUMMARY, summary)
    return summary


def _drawn(run: Finished, samples: int, judge: Judge | None, problems: Problems) -> Iterator[Designs]:
    """Yield the rows as they are drawn and judged, each before the next is begun; without a judge they are drawn."""
    experiment, (calls, spent) = run.experiment, _spent(run)
    experiment.model.policy.net.to(experiment.device)
    base, tuned = experiment.model.policy.frozen_view(), run.model.policy
    tuned.net.to(experiment.device)
    generator = torch.Generator(experiment.device).manual_seed(experiment.config.seed + 1_000_003)

    def fresh(
        name: str, designs: Tensor, calls: int, seconds: float, kls: tuple[float | None, float | None]
    ) -> list[Designs]:
        loglik = likelihood(base, designs, generator).tolist()
        if judge is None:
            return []
        with team.alone():
            items = experiment.model.decode(designs)
            judge.learn(_tuned_by(judge, run), items)
            return [judge.row(name, items, kls, calls, seconds, loglik=loglik)]

    kept = min(samples, calls // 3)  # to keep more would hardly be a choice
    # best-of-N's designs are the base's too: the first of them are its row, and all show how far tuning has left it
    of_base = draw_beside(base, tuned, max(samples, calls if kept >= 2 else 0), generator, samples=samples)
    yield from fresh("base", of_base.designs[:samples], 0, of_base.seconds * samples / len(of_base.designs), (0.0, 0.0))
    if kept >= 2:
        # the law of the best part q of many draws has density 1/q on part of the base: KL = -log q, and the KL the
        # other way is infinite
        started = time.perf_counter()
        scores, best = team.from_first(lambda: _best(run, judge, of_base.designs[:calls], kept))
        seconds = time.perf_counter() - started + of_base.seconds * calls / len(of_base.designs)
        for chosen in fresh("best_of_n", of_base.designs[best], calls, seconds, (math.log(calls / kept), None)):
            chosen.among = scores
            yield chosen
    of_tuned = draw_beside(tuned, base, samples, generator, samples=samples)
    kls = (of_tuned.mean_kl, of_base.mean_kl)
    yield from fresh("tuned", of_tuned.designs, calls, spent + of_tuned.seconds, kls)
    if judge is not None:
        with team.alone():
            found = _harvested(run, samples, judge, generator, problems)
        yield from found


def _tuned_by(judge: Judge, run: Finished) -> Store:
    """Return where tuning kept its scores: a cache that runs share is another file than the judge's."""
    experiment = run.experiment
    return judge.store if experiment.config.oracle.cache is None else experiment.oracles.store(run.folder)


def _best(run: Finished, judge: Judge | None, designs: Tensor, kept: int) -> tuple[list[float], list[int]]:
    """Return the scores of designs, and the places of the best, as the sampler best_of_n ranks them."""
    assert judge is not None  # of the first process
    target = Target(judge.optimised, alpha_of(run))
    scores = target.scores(designs)
    return scores.tolist(), target.log_weight(scores).argsort(descending=True, stable=True)[:kept].tolist()


def _harvested(
    run: Finished, samples: int, judge: Judge, generator: torch.Generator, problems: Problems
) -> list[Designs]:
    """Return the best of all that tuning scored, as a row; nothing where there is none."""
    experiment, base = run.experiment, run.experiment.model.policy.frozen_view()
    best_scored = problems.attempt("the harvest", [], lambda: harvest(experiment, run.folder, samples))
    if len(best_scored) < 2:
        return []
    items, scores = [item for item, _ in best_scored], [score for _, score in best_scored]
    judge.learn(_tuned_by(judge, run), items)
    states = problems.attempt("states of the harvest", None, lambda: experiment.model.encode(items))
    loglik = None
    if states is not None:
        states = states.to(experiment.device)
        loglik = problems.attempt("log p of the harvest", None, lambda: likelihood(base, states, generator).tolist())
    return [judge.row("harvest", items, (None, None), *_spent(run), loglik=loglik, optimised=scores)]


def _progress(run: Finished, rows: Mapping[str, Designs]) -> dict[str, Any]:
    """Return what tuning took to reach levels of the base and of best-of-N, for the summary."""
    points = points_of(run.rows, scored_in_order(run.experiment, run.folder))
    chosen = rows.get("best_of_n")
    if chosen is None or chosen.among is None:
        return took(points, levels_of(rows["base"].optimised))
    return took(points, levels_of(chosen.among, chosen.optimised))


def finish(
    experiment: Experiment, judge: Judge, rows: Mapping[str, Designs], problems: Problems, alpha: float,
    files: Mapping[str, str] = TABLES,
) -> dict[str, Any]:  # fmt: skip
    """Complete rows and tables with measures, parts and constraints; return what the summary says of them."""
    of_task = problems.attempt("the measures of the task", [], lambda: task_measures(experiment.config))
    own = [*mending_measures(judge.space), *together(of_task, experiment.measures)]
    measures = (*common_measures(judge.space), *own)
    reward = quantity(experiment.reward)
    held_out = None if experiment.held_out is None else quantity(experiment.held_out)
    components, directions = _components(experiment, judge, rows, problems)
    for name, designs in rows.items():
        designs.columns |= problems.attempt(f"the columns of {name}", {}, lambda d=designs: judge.columns(d.items))
        if reward["sign"] < 0:
            designs.columns[column_of(reward["label"])] = [-score for score in designs.optimised]
        designs.row["more"] = {}
        designs.columns |= {f"reward_{part}": scores for part, scores in components.get(name, {}).items()}
        _fill_columns(designs, measures, problems)
        bounds = _bounds(experiment, designs, components.get(name, {}))
        designs.flags = flagged(designs, judge.space, judge.reference.measured_max, bounds)
    measure_all(own, [(designs.row, designs.judged) for designs in rows.values()], problems)
    panel_rows = [designs.row for designs in rows.values()]
    checks = made_and_not(panel_rows, measures, _reasons(experiment, judge))
    guarded = held_out is not None and held_out["guards"]  # a judge of what is to be kept names no winner
    scores = {name: (designs.optimised, None if guarded else designs.held_out) for name, designs in rows.items()}
    broken = {name: [c["name"] for c in d.row.get("constraints", []) if c["broken"]] for name, d in rows.items()}
    about: dict[str, Any] = {
        "reward": reward,
        "held_out": held_out,
        "rows": panel_rows,
        "checks": checks,
        "warnings": [*judge.silent(), *sentences(panel_rows, checks)],
        "measures": describe(own),
        "verdict": verdict_of(panel_rows, scores, broken=broken, measures=measures),
        "tables": {
            "files": {name: files[name] for name in rows if name in files},
            "rank_by": {name: designs.rank_by for name, designs in rows.items()},
            "columns": _column_meanings(rows, reward, measures, judge),
        },
    }
    chosen = rows.get("best_of_n")
    if chosen is not None and chosen.among is not None:
        part = len(chosen.items) / len(chosen.among)
        about["attainable"] = attainable(chosen.among, alpha, part)
    about["verdict"] |= verdict_words(about)
    if len(next(iter(components.values()), {})) > 1:
        front = problems.attempt("the Pareto fronts", None, lambda: front_summary(components, directions=directions))
        about |= {"front": front, "directions": directions} if front else {}
    return about


def _fill_columns(designs: Designs, measures: Sequence[Measure], problems: Problems) -> None:
    """Put what measures say of each design into the columns of its table."""
    for measure in measures:
        if measure.each is not None:
            missing = [None] * len(designs.items)
            what = f"{measure.header} of {designs.name}, each"
            values = problems.attempt(what, missing, lambda measure=measure: measure.of_each(designs.items))
            designs.columns[measure.key] = values


def _column_meanings(
    rows: Mapping[str, Designs], reward: Mapping[str, Any], measures: Sequence[Measure], judge: Judge
) -> dict[str, str]:
    """Return what each column of the tables means, for those that the tables have."""
    first = [record for designs in rows.values() for record in designs.records()[:1]]
    present = dict.fromkeys(key for record in first for key in record.values)
    known = dict(COLUMNS)
    for measure in measures:
        known |= measure.meanings
    if reward["sign"] < 0:
        known["optimised"] = f"minus the {reward['label']}: {known['optimised']}"
        known[column_of(reward["label"])] = f"{reward['label']}; lower is better"
    else:
        known["optimised"] = f"{reward['label']}, {known['optimised']}"
    for source in judge.sources:
        known |= {
            name: f"{name.removeprefix(start)}: a column of {source.name}, as it gives it"
            for name in present
            if name.startswith(start := f"{source.name}.")
        }
    return {
        name: known.get(name) or f"{name.removeprefix('reward_')}: a part of the reward, or a constraint"
        for name in present
    }


def _components(
    experiment: Experiment, judge: Judge, rows: Mapping[str, Designs], problems: Problems
) -> tuple[Components, dict[str, str]]:
    """Return the scores of each objective for each row, and which are minimised; nothing where there is but one.

    Objectives are the parts of a combined reward, or the reward, and the constraints.
    """
    reward = experiment.reward
    whole = reward.part if isinstance(reward, Declared) else reward
    objectives = {reward.name: (reward, True)}
    if isinstance(whole, Combination):
        weights = whole.weights if isinstance(whole, Sum) else (1.0,) * len(whole.parts)
        objectives = {name: (part, weight >= 0) for name, part, weight in zip(whole.names, whole.parts, weights)}
    for name, section, constraint in experiment.bounds():
        objectives[name] = (constraint, section.at_least is not None)
    if len(objectives) < 2:
        return {}, {}
    found: Components = {row: {} for row in rows}
    for row, designs in rows.items():
        for name, (part, _) in objectives.items():
            missing = [math.nan] * len(designs.items)
            ask = lambda p=part, n=name, d=designs: judge.oracle(p, n).score(d.items).tolist()  # noqa: E731
            found[row][name] = problems.attempt(f"{name} of {row}", missing, ask)
    return found, {name: "minimise" for name, (_, maximised) in objectives.items() if not maximised}


def _bounds(experiment: Experiment, designs: Designs, components: dict[str, list[float]]) -> dict[str, list[bool]]:
    """Put the mean of each constraint into the panel row; return which designs keep it."""
    kept = {}
    for name, section, _ in experiment.bounds():
        values = components.get(name, [math.nan] * len(designs.items))
        kept[name] = [within(value, section.at_least, section.at_most) for value in values]
        known = np.array([value for value in values if math.isfinite(value)])
        mean, noise = (known.mean(), 1.96 * known.std() / math.sqrt(len(known))) if len(known) else (math.nan, 0.0)
        # a bound holds on average: the mean may lie outside by its noise
        low = -math.inf if section.at_least is None else section.at_least - noise
        high = math.inf if section.at_most is None else section.at_most + noise
        designs.row.setdefault("constraints", []).append(
            {
                "name": name, "mean": plain(mean), "at_least": section.at_least, "at_most": section.at_most,
                "broken": bool(len(known)) and not low <= mean <= high,
                "failing": plain(1.0 - np.mean(kept[name])) if kept[name] else None,
            }
        )  # fmt: skip
    if kept and designs.items:
        designs.row["within_all"] = sum(map(all, zip(*kept.values()))) / len(designs.items)
    return kept


def _constraints(run: Finished, rows: Mapping[str, Designs]) -> dict[str, Any]:
    """Return what the summary says of the constraints, by the rounds of tuning; nothing where there are none."""
    names = [name for name, _, _ in run.experiment.bounds()]
    if not names:
        return {}
    base = rows["base"]
    columns = {name: np.array(base.columns[f"reward_{name}"], dtype=float) for name in names}
    spreads = {name: float(np.std(values[np.isfinite(values)])) for name, values in columns.items()}
    return {"constraints": binding(base.row["constraints"], run.rows, spreads, alpha_of(run))}


def _reasons(experiment: Experiment, judge: Judge) -> dict[str, tuple[str, str]]:
    """Return why some checks are not possible for this experiment, and what would make them so."""
    found = {}
    if judge.held_out is not None and not judge.comparable:
        other = ("the judge speaks in another unit than the reward", "take a judge of the same quantity")
        found |= {"gap": other, "beyond_measured": other}
    if not isinstance(judge.space, Text):
        found["nearest"] = ("these designs have no positions to count", "see their distances in the table")
    if alphabet_of(experiment) is None:
        found["kmer3"] = ("these designs are not made of letters", "see the measures of the task in its place")
    return found


def _summary(run: Finished, calls: int, seconds: float) -> dict[str, Any]:
    config = run.experiment.config
    accounts = run.folder / ACCOUNTS
    return {
        "oracle": read_json(accounts, Accounts) if accounts.is_file() else {},  # the first versions wrote none
        "task": config.task or config.name,
        "objective": config.objective.get("name", "vidd"),
        "options": dict(vars(config.build_objective()).items()),
        "alpha": alpha_of(run),
        **({} if config.target_kl is None else {"target_kl": config.target_kl}),
        "seed": config.seed,
        "calls": calls,
        "seconds": seconds,
        "stopped": run.stopped or None,
        "versions": versions() | {"git": git_commit() or "unknown"},
    }
