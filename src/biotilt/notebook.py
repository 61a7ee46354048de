"""A run as Python shows it: five lines of text, a table and plots in a notebook, and its tables as DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biotilt.digits import count, duration, pretty
from biotilt.errors import BiotiltError, ConfigError
from biotilt.evaluation.measure import described
from biotilt.evaluation.quantity import quantity
from biotilt.files import read_json
from biotilt.folder import PAGE, SUMMARY, TABLES
from biotilt.judge import Finished, alpha_of
from biotilt.schema import Summary
from biotilt.spaces.tables import read_table
from biotilt.spaces.told import ToldText

if TYPE_CHECKING:
    from pandas import DataFrame

    from biotilt.report import ReportData

_STYLE = (
    "<style>.biotilt{font-family:system-ui,sans-serif}.biotilt table{border-collapse:collapse}"
    ".biotilt td,.biotilt th{padding:3px 10px;text-align:right}.biotilt th:first-child{text-align:left}"
    ".biotilt .grid{display:flex;flex-wrap:wrap;gap:12px}.biotilt figure{margin:8px 0;max-width:480px}"
    ".biotilt svg{max-width:100%;height:auto}.biotilt figcaption{font-size:12px}</style>"
)


def frame(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Return rows as a DataFrame; ConfigError says what to install where there is no pandas."""
    return _pandas().DataFrame(list(rows))


def scored(run: Finished) -> DataFrame:
    """Return the ledger of tuning as a DataFrame: position, design, score, reason, seconds and cached.

    Where the reward reads it, also the condition under which the design was drawn.
    """
    from biotilt.wiring import ledgers

    reward, _ = ledgers(run.experiment, run.folder)
    keys = ("position", "design", "score", "reason", "seconds", "cached")
    frame = _pandas().DataFrame([{key: getattr(row, key) for key in keys} for row in reward.rows()], columns=keys)
    told = [ToldText.of_key(key) for key in frame["design"]]
    if any(isinstance(design, ToldText) for design in told):
        frame["design"] = [str(design) for design in told]
        frame["condition"] = [design.condition if isinstance(design, ToldText) else "" for design in told]
    return frame


def designs(run: Finished) -> DataFrame:
    """Return the table of the tuned designs; BiotiltError before the run was judged."""
    pandas, path = _pandas(), run.folder / TABLES["tuned"]
    if not path.is_file():
        raise _not_judged(run)
    return pandas.read_csv(path, keep_default_na=False, na_values={column: [""] for column in _numbers(path)})


def panel(run: Finished) -> DataFrame:
    """Return the rows of the panel, what lies deeper under names such as "held_out.median"; the index is their name."""
    pandas, summary = _pandas(), _summary(run)
    if summary is None:
        raise _not_judged(run)
    return pandas.json_normalize(summary["rows"]).set_index("name")


def text(run: Finished) -> str:
    """Return five lines: what was tuned, what it cost, how far it came, where it is, what next."""
    config, summary = run.experiment.config, _summary(run)
    calls, seconds = (run.rows[-1]["calls"], run.rows[-1]["seconds"]) if run.rows else (0, 0.0)
    label = quantity(run.experiment.reward)["label"]
    lines = [
        f"Run {config.name}: {config.objective.get('name', 'vidd')} toward {label}, α = {alpha_of(run):.3g}"
        + (f", task {config.task}" if config.task else ""),
        f"  {count(int(calls))} oracle calls in {count(len(run.rows))} rounds, {duration(seconds)}"
        + (f"; ended early: {run.stopped}" if run.stopped else ""),
        f"  {_best(run) if summary is None else _verdict(summary)}",
        f"  in {run.folder}",
        f"  next: run.evaluate() judges it and writes {PAGE}; run.sample(10) draws designs"
        if summary is None
        else f"  next: open {PAGE} in that folder; run.panel, run.designs and run.scored are its tables",
    ]
    return "\n".join(lines)


def html(run: Finished) -> str:
    """Return what a notebook shows: the text, and once the run was judged the table and the plots of the page."""
    from biotilt.report.page import curves, distributions

    data = _data(run)
    drawn = "".join(
        f"<figure>{figure.svg}<figcaption>{escape(figure.caption)}</figcaption></figure>"
        for figure in [*curves(data), *distributions(data)]
    )
    told = f"<pre>{escape(text(run))}</pre>"
    return f'{_STYLE}<div class="biotilt">{told}{_table(data)}<div class="grid">{drawn}</div></div>'


def _table(data: ReportData) -> str:
    """Return the panel as HTML, a line a number and a column a set of designs, "" where there is none."""
    from biotilt.evaluation.common import columns
    from biotilt.report.shown import row_title

    if not data.rows:
        return ""
    head = "".join(f"<th>{escape(row_title(str(row['name'])))}</th>" for row in data.rows)
    filled = [column for column in columns() if any(column.of(row) is not None for row in data.rows)]
    lines = [(measure.header, [measure.text(row) for row in data.rows]) for measure in (*filled, *data.measures)]
    body = "".join(
        f"<tr><th>{escape(header)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for header, cells in lines
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _data(run: Finished) -> ReportData:
    """Return what the page's figures need, from the files of the run; without a panel before it was judged."""
    from biotilt.pages import history_in_field
    from biotilt.report import ReportData
    from biotilt.report.shown import shown_rows

    config, experiment = run.experiment.config, run.experiment
    about = {
        "reward": quantity(experiment.reward),
        "held_out": None if experiment.held_out is None else quantity(experiment.held_out),
    }
    summary = _summary(run)
    return ReportData(
        title=config.name, task=config.task, objective=str(config.objective.get("name", "vidd")),
        alpha=alpha_of(run), target_kl=config.target_kl, seed=config.seed, letters="", reward=about["reward"]["label"],
        better=about["reward"]["better"], history=history_in_field(run, about),
        rows=[] if summary is None else shown_rows(summary),
        measures=[] if summary is None else described(summary["measures"]),
        scores={} if summary is None else _scores(run, about),
    )  # fmt: skip


def _scores(run: Finished, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of each row that has a table, by both oracles, in the field's sign."""
    found = {}
    for name, file in TABLES.items():
        if (run.folder / file).is_file():
            header, rows = read_table(run.folder / file)
            columns = {
                key: [about[which]["sign"] * float(cells[key] or "nan") for _, cells in rows]
                for key, which in (("optimised", "reward"), ("held_out", "held_out"))
                if key in header and about[which] is not None
            }
            found[name] = (columns["optimised"], columns.get("held_out"))
    return found


def _best(run: Finished) -> str:
    """Return the best round in words, before the run was judged."""
    about = quantity(run.experiment.reward)
    known = [row for row in run.rows if isinstance(row.get("reward"), int | float)]
    if not known:
        return "no round has a mean reward"
    best = max(known, key=lambda row: row["reward"])
    judged = best.get("held_out")
    return (
        f"best mean of a round: {pretty(about['sign'] * best['reward'])} (round {int(best['round'])}, at first "
        f"{pretty(about['sign'] * known[0]['reward'])})" + ("" if judged is None else "; not judged yet")
    )


def _verdict(summary: Mapping[str, Any]) -> str:
    """Return the verdict with the medians that it compares."""
    from biotilt.report.shown import shown_rows

    by = summary["verdict"]["by"]
    medians = ", ".join(
        f"{row['name'].replace('_', ' ')} {pretty(row[by]['median'])}" for row in shown_rows(summary) if row.get(by)
    )
    return f"{summary['verdict']['headline']} ({by.replace('_', '-')} medians: {medians})"


def _summary(run: Finished) -> dict[str, Any] | None:
    """Return what `evaluate` wrote, None where it has not, or by a version without a verdict."""
    path = run.folder / SUMMARY
    if not path.is_file():
        return None
    try:
        found = read_json(path, Summary)
    except BiotiltError:
        return None
    return found if "headline" in found.get("verdict", {}) and "measures" in found else None


def _not_judged(run: Finished) -> BiotiltError:
    return BiotiltError(f"{run.folder} has not been judged yet: call run.evaluate() first")


def _numbers(path: Path) -> list[str]:
    return [name for name in read_table(path)[0] if name not in ("name", "sequence", "flags")]


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ModuleNotFoundError as error:
        raise ConfigError(
            'tables of a run are pandas DataFrames, and pandas is not installed: pip install "pandas>=2.2", '
            'or biotilt with its extra "notebook"; run.rows are the same figures without it'
        ) from error
