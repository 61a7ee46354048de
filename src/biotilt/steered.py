"""Steered designs judged beside the base: their table, their verdict and their page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from biotilt.core import sample, team
from biotilt.errors import Problems
from biotilt.evaluation.levels import levels_of, took
from biotilt.evaluation.likelihood import likelihood
from biotilt.evaluation.tables import Designs
from biotilt.experiment import Experiment
from biotilt.judge import Judge
from biotilt.outputs import finish
from biotilt.pages import report_data
from biotilt.provenance import command_line, git_commit, versions
from biotilt.report import render_report
from biotilt.steering import Steered, alpha_given

EQUAL = 0.99  # part of the designs that must count for the weights to be left out of medians


def page_beside(out: Path) -> Path:
    """Return where the page goes: beside the table, with the suffix .html.

    >>> page_beside(Path("runs/designs.csv.gz")).as_posix()
    'runs/designs.html'
    """
    name = out.name.removesuffix(".gz")
    return out.with_name(f"{Path(name).stem}.html")


def report_steered(found: Steered, experiment: Experiment, out: Path, page: Path) -> dict[str, Any]:
    """Write the table of steered designs with what is known about each, and a page that compares them with the base.

    As many designs of the base are scored: that is a part of judging, as in `evaluate`, and no call of the sampler.
    Returns the summary, as `evaluate` does. What fails on the way is told on the page.
    """
    found.write(out)  # before anything that can fail
    problems = Problems()
    try:
        with team.alone():  # of several processes the first one is here
            rows, summary, judge = _summary(found, experiment, out, problems)
        problems.attempt("the table", None, lambda: experiment.model.space.write(out, rows["steered"].records()))
        sampler = summary["objective"]
        data = report_data(
            experiment, summary, rows, judge, problems, kind="steered",
            title=f"{summary['task']}: steered with {sampler.replace('_', ' ')}",
            commands=[line for line in [command_line()] if line],
        )  # fmt: skip
        problems.attempt("the page", None, lambda: render_report(data, page))
    finally:
        experiment.close()
    return summary | {"problems": list(problems)}


def _summary(
    found: Steered, experiment: Experiment, out: Path, problems: Problems
) -> tuple[dict[str, Designs], dict[str, Any], Judge]:
    config, base = experiment.config, experiment.model.policy
    judge = Judge(experiment, None, "steering", problems)
    generator = torch.Generator(experiment.device).manual_seed(config.seed + 1_000_003)
    drawn = sample(base, max(len(found.designs), 2), generator)
    known = likelihood(base, drawn, generator).tolist()
    rows = {"base": judge.row("base", experiment.model.decode(drawn), (0.0, 0.0), 0, 0.0, loglik=known)}

    judge.learn(found.store, found.designs)
    encode = experiment.model.space.encode
    steered = found.as_row()
    steered.loglik = problems.attempt(
        "log p of the designs", None,
        lambda: likelihood(base, encode(found.designs).to(experiment.device), generator).tolist(),
    )  # fmt: skip
    picked = _by_weight(found)
    counted = [None if c is None else [c[i] for i in picked] for c in (found.rewards, found.held_out, steered.loglik)]
    assert counted[0] is not None
    items = [found.designs[i] for i in picked]
    judge.put_row(steered, items, counted[0], counted[1], counted[2], (None, None), found.calls, found.seconds)
    rows["steered"] = steered
    alpha = alpha_given(config)
    about = finish(experiment, judge, rows, problems, alpha, files={"steered": out.name})
    sampler = config.build_sampler()
    options = dict(vars(sampler)) | ({"value": f"of {found.value_of}"} if found.value_of else {})
    summary = {
        "oracle": {}, "task": config.task or config.name, "objective": sampler.name, "options": options,
        "alpha": alpha, "seed": config.seed, "calls": found.calls, "seconds": found.seconds,
        "versions": versions() | {"git": git_commit() or "unknown"},
    }  # fmt: skip
    progress = took(found.trail, levels_of(rows["base"].optimised)) if found.trail else None
    return rows, summary | about | {"progress": progress}, judge


def _by_weight(found: Steered) -> list[int]:
    """Return the places of the designs that the panel counts: each once, or drawn by weight where weights differ."""
    weights = [0.0 if math.isnan(weight) else weight for weight in found.weights]
    squares = sum(weight * weight for weight in weights)
    if not squares or 1 / squares >= EQUAL * len(weights):
        return list(range(len(weights)))
    drawn = torch.multinomial(
        torch.tensor(weights), len(weights), replacement=True, generator=torch.Generator().manual_seed(0)
    )
    return drawn.tolist()
