"""From a run, its summary and its designs to the page about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from biotilt.config import Config
from biotilt.core.fixed import Holding
from biotilt.core.space import Pictured
from biotilt.errors import Problems
from biotilt.evaluation.common import common_measures
from biotilt.evaluation.measure import described
from biotilt.evaluation.tables import Designs
from biotilt.experiment import Experiment
from biotilt.files import read_json
from biotilt.folder import PAGE
from biotilt.folder import shown as shown_path
from biotilt.judge import Finished, Judge, task_card
from biotilt.provenance import read_record
from biotilt.report import ReportData, render_report
from biotilt.report.data import Scored
from biotilt.report.shown import in_field, row_title, shown_rows, sign_of
from biotilt.report.took import took_in_field
from biotilt.spaces import Text
from biotilt.tasks import find_task, has_reward_of_task

TOP, PICTURES = 20, 12  # designs on the page, and those that are drawn where a task draws them


def write_page(
    run: Finished, summary: Mapping[str, Any], rows: Mapping[str, Designs], judge: Judge, problems: Problems
) -> None:
    """Write `report.html` into the folder of a run."""
    config = run.experiment.config
    data = report_data(
        run.experiment, summary, rows, judge, problems,
        title=f"{config.task or config.name}: {config.objective.get('name', 'vidd')}",
        history=history_in_field(run, summary), frontier=_task_frontier(config), commands=_commands(run), kind="tuned",
        stopped=run.stopped,
    )  # fmt: skip
    render_report(data, run.folder / PAGE)


def report_data(
    experiment: Experiment, summary: Mapping[str, Any], rows: Mapping[str, Designs], judge: Judge, problems: Problems,
    *, kind: str, **more: Any,
) -> ReportData:  # fmt: skip
    """Return what the page needs; `kind` is the row that the run is about, "tuned" or "steered"."""
    config, model = experiment.config, experiment.model
    process, space = model.policy.process, model.space
    fixed = process.fixed if isinstance(process, Holding) else None
    letters = space.written_in.letters if isinstance(space, Text) and space.written_in else ""
    align = space.align if isinstance(space, Text) else lambda items: []
    sets = {row_title(name): rows[name].items for name in ("base", "best_of_n", kind) if name in rows}
    reward, held_out = sign_of(summary["reward"]), sign_of(summary["held_out"])
    shown = rows[summary["verdict"]["take"] or kind]
    order = shown.order()[:TOP]
    judged = in_field(shown.held_out or [None] * len(shown.items), held_out)
    optimised = in_field(shown.optimised, reward)
    best = [shown.items[i] for i in order]
    panel, limit = config.panel or config.task, judge.reference.measured_max
    return ReportData(
        task=config.task,
        objective=str(summary["objective"]),
        options=summary["options"],
        alpha=summary["alpha"],
        target_kl=summary.get("target_kl"),
        seed=config.seed,
        rows=shown_rows(summary),
        letters=letters,
        reward=summary["reward"]["label"],
        better=summary["reward"]["better"],
        verdict=summary["verdict"],
        checks=summary["checks"],
        warnings=summary["warnings"],
        problems=problems,
        scores={name: _in_field(designs, reward, held_out) for name, designs in rows.items()},
        top=[(space.label(shown.items[i]), optimised[i], judged[i]) for i in order],
        top_of=shown.name,
        rank_by=shown.rank_by,
        base_sequences=align(rows["base"].items),
        tuned_sequences=align(rows[kind].items),
        measured_max=None if limit is None else reward * limit,
        versions=summary["versions"],
        notes=task_card(experiment).get("notes", []),
        fixed=None if fixed is None or not letters else fixed.mask.tolist(),
        columns=common_measures(space),
        measures=described(summary["measures"]),
        pictures=problems.attempt(
            "the pictures", [], lambda: find_task(panel, "panel").pictures(best[:PICTURES]) if panel else []
        ),
        overview=problems.attempt(
            "the picture of the designs", "", lambda: space.picture(sets) if isinstance(space, Pictured) else ""
        ),
        oracle=summary["oracle"],
        took=took_in_field(summary["progress"], reward) if summary.get("progress") else {},
        constraints=summary.get("constraints", []),
        components={name: _parts(d, summary) for name, d in rows.items()} if summary.get("front") else {},
        directions=summary.get("directions", {}),
        front=summary.get("front", {}),
        tables=summary["tables"],
        **more,
    )


def _in_field(designs: Designs, reward: int, held_out: int) -> Scored:
    judged = None if designs.held_out is None else in_field(designs.held_out, held_out)
    return in_field(designs.optimised, reward), judged


def _parts(designs: Designs, summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: designs.columns[f"reward_{name}"] for name in summary["front"]["objectives"]}


def history_in_field(run: Finished, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a run with scores in the field's sign; `summary` tells of `reward` and `held_out`."""
    signs = {"reward": sign_of(summary["reward"]), "held_out": sign_of(summary["held_out"])}
    return [
        {key: value if value is None else signs.get(key, 1) * value for key, value in row.items()} for row in run.rows
    ]


def _commands(run: Finished) -> list[str]:
    """Return what to type to get this page again; a run that was started from Python has no command of its own."""
    started = read_record(run.folder).command
    return [*([started] if started else []), shlex.join(["biotilt", "evaluate", str(shown_path(run.folder))])]


def _task_frontier(config: Config) -> list[dict[str, Any]]:
    """Return the runs over α that ship with a task; none when the reward is another than the task's."""
    if config.task is None or not has_reward_of_task(config):
        return []
    path = find_task(config.task).folder / "frontier.json"
    return read_json(path)["points"] if path.is_file() else []
