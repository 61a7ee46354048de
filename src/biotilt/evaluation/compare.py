"""Comparison of finished runs from their `summary.json`: one line a run, and one line a group of seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biotilt.errors import DataError, suggest
from biotilt.evaluation.common import columns
from biotilt.evaluation.levels import took
from biotilt.evaluation.measure import Measure, described
from biotilt.files import read_json
from biotilt.folder import SUMMARY
from biotilt.schema import Summary, checked

NEEDED = ("task", "objective", "alpha", "seed", "calls", "seconds", "rows")
NUMBERS = tuple(m for m in columns() if m.written != "scores" and m.key not in NEEDED)  # of a row; others are the run's


@dataclass(frozen=True)
class Run:
    """What a finished run wrote in its `summary.json`; `rows` are panel rows by name.

    `signs` × score, of the reward and of the judge, is the number as the field writes it. `measures`: those that its
    task and its experiment added to the panel. `progress`: what it took to reach levels, from `evaluation.levels`; None
    in summaries of before that was written.
    """

    folder: Path
    task: str
    objective: str
    options: Mapping[str, Any]
    alpha: float
    seed: int
    calls: int
    seconds: float
    rows: Mapping[str, Mapping[str, Any]]
    signs: tuple[int, int] = (1, 1)
    measures: Sequence[Measure] = ()
    reward: str = "reward"
    progress: Mapping[str, Any] | None = None
    target_kl: float | None = None

    @property
    def tilt(self) -> dict[str, float | None]:
        """How hard it tilts, as it was asked: α, or the KL that α followed to another one for each seed."""
        return {"alpha": self.alpha if self.target_kl is None else None, "target_kl": self.target_kl}

    @property
    def settings(self) -> str:
        """All that decides the result but the seed, as text: runs with equal settings may be averaged."""
        return json.dumps([self.task, self.objective, dict(self.options), self.tilt], sort_keys=True)


def load_run(folder: str | Path) -> Run:
    """Read the summary of a run.

    Args:
        folder: of the run, or its `summary.json` itself.

    Raises:
        CheckpointError: there is no `summary.json`, or it is no JSON.
        DataError: it lacks a key of a run's summary.
    """
    path = Path(folder)
    path = path if path.suffix.lower() == ".json" else path / SUMMARY
    content = read_json(path)
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path} is not the summary of a run: it lacks {', '.join(missing)}")
    if not isinstance(content["rows"], list) or not all(
        isinstance(row, dict) and "name" in row for row in content["rows"]
    ):
        raise DataError(f'{path}: "rows" must be a list of objects, each with a "name"')
    content = checked(content, Summary, path, DataError)
    return Run(
        folder=path.parent,
        options=content.get("options") or {},
        rows={row["name"]: row for row in content["rows"]},
        signs=(_sign(content.get("reward")), _sign(content.get("held_out"))),
        measures=described(content.get("measures") or ()),
        reward=str((content.get("reward") or {}).get("label", "reward")),
        progress=content.get("progress"),
        target_kl=content.get("target_kl"),
        **{key: content[key] for key in NEEDED if key != "rows"},
    )


def _sign(about: Any) -> int:
    """Return the sign that a summary gives for a quantity; 1 for summaries of before there was one."""
    return -1 if isinstance(about, dict) and about.get("sign") == -1 else 1


def load_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read several runs, in the given order; raises as `load_run` does."""
    return [load_run(folder) for folder in folders]


def added_measures(runs: Sequence[Run]) -> list[Measure]:
    """Return the measures that tasks and experiments added to the panels of runs, each key once."""
    return list({measure.key: measure for run in runs for measure in run.measures}.values())


def at_common_levels(runs: Sequence[Run]) -> list[tuple[Run, dict[str, Any]]]:
    """Return the runs that tell what they took, each with that at the levels of the first of them of the same task.

    The levels of runs differ by the designs that were drawn of the base; those of one are the same for all.
    """
    levels: dict[tuple[str, str], Sequence[Mapping[str, Any]]] = {}
    found = []
    for run in runs:
        if run.progress is not None:
            common = levels.setdefault((run.task, run.reward), run.progress["levels"])
            found.append((run, took(run.progress["points"], common)))
    return found


def comparison(runs: Sequence[Run], row: str = "tuned") -> list[dict[str, Any]]:
    """Return one flat line a run: its settings, and the panel row called `row`.

    `optimised` and `held_out` are medians, the other numbers those of the panel; None where a run has none. `more` has
    the measures that were added to it.

    Raises:
        DataError: a run has no such row; the message names those it has.
    """
    return [_line(run, row) for run in runs]


def aggregate(runs: Sequence[Run], row: str = "tuned") -> list[dict[str, Any]]:
    """Return one line a group of runs that differ only by seed, in order of first appearance.

    A line has task, objective, options, alpha or `target_kl`, `seeds` (a list), and for every number of `comparison` an
    object with mean, low, high and n over the seeds that have it, or None when none has; so has `more` for what
    was added.

    Raises:
        DataError: a run has no such row, or a group has a seed twice, which would count one result twice.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.settings, []).append(run)
    return [_group(group, row) for group in groups.values()]


def _line(run: Run, row: str) -> dict[str, Any]:
    if row not in run.rows:
        raise DataError(f'{run.folder / SUMMARY} has no row "{row}"{suggest(row, run.rows)}')
    panel = run.rows[row]
    return {
        "run": str(run.folder),
        "task": run.task,
        "objective": run.objective,
        "options": dict(run.options),
        "alpha": run.alpha,
        "target_kl": run.target_kl,
        "seed": run.seed,
        "signs": list(run.signs),
        "optimised": (panel.get("optimised") or {}).get("median"),
        "held_out": (panel.get("held_out") or {}).get("median"),
        **{measure.key: measure.of(panel) for measure in NUMBERS},
        "calls": run.calls,
        "seconds": run.seconds,
        "more": {measure.key: measure.of(panel) for measure in run.measures},
    }


def _group(runs: Sequence[Run], row: str) -> dict[str, Any]:
    lines = comparison(runs, row)
    folders: dict[int, Path] = {}
    for run in runs:
        if run.seed in folders:
            raise DataError(
                f"{folders[run.seed]} and {run.folder} have the same settings and the same seed, {run.seed}; "
                "give one of them"
            )
        folders[run.seed] = run.folder
    numbers = ("optimised", "held_out", *(measure.key for measure in NUMBERS), "calls", "seconds")
    more = [measure.key for measure in added_measures(runs)]
    return {
        **{key: lines[0][key] for key in ("task", "objective", "options", "signs")},
        **runs[0].tilt,
        "seeds": [run.seed for run in runs],
        **{key: _spread([line[key] for line in lines]) for key in numbers},
        "more": {key: _spread([line["more"].get(key) for line in lines]) for key in more},
    }


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": statistics.fmean(known), "low": min(known), "high": max(known), "n": len(known)}
