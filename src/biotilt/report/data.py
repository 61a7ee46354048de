"""What a report needs to know about a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from biotilt.evaluation.common import PANEL
from biotilt.evaluation.measure import Measure

Scored = tuple[Sequence[float], Sequence[float] | None]


@dataclass(frozen=True)
class ReportData:
    """Everything that the page of one run shows; texts may hold any characters.

    Args:
        title: heading of the page.
        task: name of the task; None where there is none.
        objective: name of the algorithm.
        alpha: temperature of the tilt, > 0.
        target_kl: the KL, nats, that the temperature followed; None where it was given.
        seed: of the run.
        rows: panel rows, scores in the field's sign; "base", "tuned" and "steered" are named in the summary.
        letters: the alphabet of the designs, in order.
        options: other options of the objective.
        reward: what a score measures, with its unit, as in "mean ribosome load".
        better: "higher" or "lower", which way of the reward is good.
        verdict: from `evaluation.verdict` and `verdict_words`; empty for none.
        warnings: signs of reward hacking, plain sentences.
        checks: `made` and `not_possible`, from `evaluation.checks`.
        problems: what went wrong on the way to this page, a line each.
        stopped: why tuning ended before its budget was spent, "" when it did not.
        history: one mapping a round with calls, reward, held_out, kl and seconds; numbers may be None.
        scores: row name -> (optimised, held-out or None), `(B,)` each; NaN and -inf are allowed.
        top: the best designs of the row `top_of`, each (design, optimised, held-out or None), ranked by `rank_by`.
        tables: `files`, a name for each row, and `columns`, what they mean.
        base_sequences, tuned_sequences: for the logos; of one length each, else no logo is drawn.
        frontier: runs over alpha, mappings with label, kl, held_out and alpha; may be empty.
        measured_max: largest value ever measured, or None.
        commands: shell lines that reproduce the run.
        versions: name -> version of what ran.
        notes: citations, model cards, licences.
        fixed: `(L,)` bools, True where a position was held fixed; None when all were free.
        columns: the measures of every panel.
        measures: what the task and the experiment add to them, in a table of their own.
        pictures: drawings of the best designs, SVG.
        overview: one drawing of untuned and tuned designs side by side, SVG; "" where the space has none.
        oracle: what tuning asked of the reward, as `Oracle.accounts` counts it, and `reasons` of failures.
        took: what it took to reach levels, from `evaluation.levels.took`, scores in the field's sign; may be empty.
        constraints: what is known of each bound, from `evaluation.binding`.
        components: row name -> objective -> scores `(B,)`, where there are two objectives or more; else empty.
        directions: objective -> "minimise", of those that are.
        front: the Pareto front of each row, from `evaluation.pareto.front_summary`.
    """

    title: str
    task: str | None
    objective: str
    alpha: float
    seed: int
    rows: Sequence[Mapping[str, Any]]
    letters: str
    target_kl: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    reward: str = "reward"
    better: str = "higher"
    verdict: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    checks: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()
    history: Sequence[Mapping[str, float | None]] = ()
    stopped: str = ""
    scores: Mapping[str, Scored] = field(default_factory=dict)
    top: Sequence[tuple[str, float, float | None]] = ()
    top_of: str = "tuned"
    rank_by: str = "held_out"
    tables: Mapping[str, Any] = field(default_factory=dict)
    base_sequences: Sequence[str] = ()
    tuned_sequences: Sequence[str] = ()
    frontier: Sequence[Mapping[str, Any]] = ()
    measured_max: float | None = None
    commands: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    fixed: Sequence[bool] | None = None
    columns: Sequence[Measure] = PANEL
    measures: Sequence[Measure] = ()
    pictures: Sequence[str] = ()
    overview: str = ""
    oracle: Mapping[str, Any] = field(default_factory=dict)
    took: Mapping[str, Any] = field(default_factory=dict)
    constraints: Sequence[Mapping[str, Any]] = ()
    components: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    directions: Mapping[str, str] = field(default_factory=dict)
    front: Mapping[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> Mapping[str, Any] | None:
        """Return the row of that name, or None."""
        return next((row for row in self.rows if row["name"] == name), None)
