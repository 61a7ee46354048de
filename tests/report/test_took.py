"""What runs took, as pages and terminals show it."""

from __future__ import annotations

import io
import json

import pytest
from report_samples import make_report
from rich.console import Console
from test_page import Reader

from biotilt.digits import NOTHING
from biotilt.errors import DataError
from biotilt.evaluation.compare import at_common_levels, load_runs
from biotilt.evaluation.levels import levels_of, points_of, took
from biotilt.report import report_html
from biotilt.report.compared import compared, compared_html, render_compared, took_json
from biotilt.report.took import Curves, costs_known, took_in_field, took_lines, took_table

HISTORY = [
    {"calls": 20, "seconds": 61.0, "network_rows": 1500, "reward": -3.0},
    {"calls": 40, "seconds": 130.0, "network_rows": 3400, "reward": -1.0},
]
BASE = [-float(i) for i in range(10)]  # the 90th percentile, the lower of two, is -1
TOOK = took(points_of(HISTORY, [(f"d{i}", float(i - 20)) for i in range(40)]), levels_of(BASE))


def summary_of(folder, sign=1, progress=TOOK, **changes):
    rows = [{"name": "tuned", "optimised": {"median": 1.0}, "held_out": None}]
    content = {
        "task": "utr", "objective": "ppo", "alpha": 0.3, "seed": 0, "calls": 40, "seconds": 130.0, "rows": rows,
        "reward": {"label": "energy", "sign": sign}, "held_out": None, "progress": progress,
    }  # fmt: skip
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(content | changes))
    return folder


def test_scores_and_levels_are_shown_in_the_sign_of_the_field():
    told = took_in_field(TOOK, -1)
    assert [each["round"] for each in told["points"]] == [3.0, 1.0]
    assert [each["best"] for each in told["points"]] == [5.5, -14.5]  # minus the median of -10 … -1, and of 10 … 19
    assert told["levels"][0]["value"] == 1.0
    assert told["levels"][0]["by_round"] == {"calls": 40, "seconds": 130.0, "network_rows": 3400}


def test_the_page_has_a_curve_a_cost_and_the_table():
    reader = Reader(report_html(make_report(took=took_in_field(TOOK, -1))))
    assert "90th percentile of the base 1.000 40 2 min 10 s 3,400 40 2 min 10 s 3,400" in reader.text
    labels = [attributes["aria-label"] for tag, attributes in reader.elements if tag == "svg"]
    assert sum("reached against" in str(label) for label in labels) == 3
    assert "What it took" not in report_html(make_report())


def test_rows_that_were_not_counted_have_no_curve():
    old = took(points_of([{k: v for k, v in row.items() if k != "network_rows"} for row in HISTORY], []), [])
    assert costs_known([old]) == ["calls", "seconds"]
    never = took(points_of(HISTORY, []), [{"name": "high", "title": "high", "value": 9.0}])
    assert next(iter(took_lines(never))) == ["high", "9.000", *(["not reached", NOTHING, NOTHING] * 2)]


def test_runs_are_compared_at_the_levels_of_the_first(tmp_path):
    higher = took(TOOK["points"], [{"name": "x", "title": "its own", "value": 5.0}])
    runs = load_runs([
        summary_of(tmp_path / "a", -1), summary_of(tmp_path / "b", -1, higher),
        summary_of(tmp_path / "old", progress=None), summary_of(tmp_path / "c", progress=higher, task="dna"),
    ])  # fmt: skip
    parts = compared(at_common_levels(runs))
    assert [(task, [str(run.label) for run in curves]) for (task, _), curves in parts] == [
        ("utr", [str(tmp_path / "a"), str(tmp_path / "b")]), ("dna", [str(tmp_path / "c")]),
    ]  # fmt: skip
    told = took_json(parts)
    assert [each["levels"][0]["title"] for each in told] == ["90th percentile of the base"] * 2 + ["its own"]
    assert told[1]["levels"][0]["value"] == 1.0 and told[1]["points"][1]["round"] == 1.0
    page = Reader(compared_html(parts))
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    assert len(labels) == 6
    names = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(names) == len(set(names))
    with pytest.raises(DataError, match="biotilt evaluate"):
        render_compared([], tmp_path / "page.html")


def test_the_terminal_names_runs_where_there_are_several():
    out = io.StringIO()
    Console(file=out, width=140, color_system=None).print(took_table([Curves("a", TOOK), Curves("b", TOOK)]))
    lines = out.getvalue().splitlines()
    assert [line.split()[1] for line in lines if "percentile" in line] == ["a", "b"]
