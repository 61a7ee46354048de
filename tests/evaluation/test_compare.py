from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from biotilt.errors import CheckpointError, DataError
from biotilt.evaluation import added_measures, aggregate, comparison, load_run, load_runs
from biotilt.report import measures_table


def write(folder: Path, held_out: float, **changes: Any) -> Path:
    scores = {"median": held_out, "p5": 1.0, "p95": 9.0, "mean": 5.0}
    row = {"name": "tuned", "optimised": scores | {"median": 8.0}, "held_out": scores, "gap": 8.0 - held_out}
    content = {
        "task": "utr",
        "objective": "vidd",
        "alpha": 0.3,
        "seed": 0,
        "calls": 512,
        "seconds": 60.0,
        "rows": [{"name": "base"}, row | {"distance": 36.0, "kl_policy_base": None}],
    }
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(content | changes))
    return folder


def test_one_line_a_run_with_the_medians_of_the_tuned_row(tmp_path: Path) -> None:
    runs = load_runs([write(tmp_path / "a", 7.0), write(tmp_path / "b", 7.5, objective="ppo", seed=4)])
    first, second = comparison(runs)
    assert (first["objective"], first["alpha"], first["seed"], first["calls"]) == ("vidd", 0.3, 0, 512)
    assert (first["optimised"], first["held_out"], first["gap"], first["distance"]) == (8.0, 7.0, 1.0, 36.0)
    assert (second["objective"], second["seed"], second["held_out"]) == ("ppo", 4, 7.5)
    assert first["unique"] is None and first["run"] == str(tmp_path / "a")


def test_seeds_are_averaged_and_other_settings_are_not(tmp_path: Path) -> None:
    write(tmp_path / "a", 7.0, calls=512)
    write(tmp_path / "b", 8.5, seed=1, calls=520)
    write(tmp_path / "c", 2.0, alpha=0.1)
    write(tmp_path / "d", 3.0, options={"value": "return"})
    write(tmp_path / "e", 7.6, seed=2, calls=512)
    lines = aggregate(load_runs([tmp_path / name for name in "abcde"]))
    assert [line["seeds"] for line in lines] == [[0, 1, 2], [0], [0]]
    assert lines[0]["held_out"] == {"mean": pytest.approx(7.7), "low": 7.0, "high": 8.5, "n": 3}
    assert lines[0]["calls"]["high"] == 520
    assert lines[0]["kl_policy_base"] is None
    assert lines[2]["options"] == {"value": "return"}


def test_measures_that_were_added_are_compared_and_averaged(tmp_path: Path) -> None:
    def with_more(name: str, gc: float | None, **changes: Any) -> None:
        folder = write(tmp_path / name, 7.0, **changes)
        content = json.loads((folder / "summary.json").read_text())
        content["measures"] = [{"key": "gc", "header": "GC", "meaning": "Share.", "written": "percent"}]
        content["rows"][1]["more"] = {"gc": gc}
        (folder / "summary.json").write_text(json.dumps(content))

    with_more("a", 0.25)
    with_more("b", 0.5, seed=1)
    with_more("c", None, seed=2)
    write(tmp_path / "d", 7.0, task="other")
    runs = load_runs([tmp_path / name for name in "abcd"])
    lines = comparison(runs)
    assert [line["more"] for line in lines] == [{"gc": 0.25}, {"gc": 0.5}, {"gc": None}, {}]
    assert [line["more"] for line in aggregate(runs)] == [{"gc": {"mean": 0.375, "low": 0.25, "high": 0.5, "n": 2}}, {}]
    out = io.StringIO()
    Console(file=out, width=100).print(measures_table(lines, added_measures(runs)))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.getvalue().splitlines() if "│" in line]
    assert [row[-1] for row in cells] == ["25.0%", "50.0%", "–", "–"] and "GC" in out.getvalue()


def test_one_result_is_not_counted_twice(tmp_path: Path) -> None:
    write(tmp_path / "a", 7.0)
    write(tmp_path / "b", 7.0)
    with pytest.raises(DataError, match=r"same settings and the same seed, 0"):
        aggregate(load_runs([tmp_path / "a", tmp_path / "b"]))


def test_the_file_itself_may_be_named(tmp_path: Path) -> None:
    assert load_run(write(tmp_path / "a", 7.0) / "summary.json").folder == tmp_path / "a"


def test_bad_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"summary\.json does not exist"):
        load_run(tmp_path)
    folder = write(tmp_path / "a", 7.0)
    with pytest.raises(DataError, match=r'has no row "tunde"; did you mean "tuned"'):
        comparison([load_run(folder)], "tunde")
    (folder / "summary.json").write_text('{"task": "utr", "rows": []}')
    with pytest.raises(DataError, match="lacks objective, alpha, seed, calls, seconds"):
        load_run(folder)
    (folder / "summary.json").write_text("[]")
    with pytest.raises(DataError, match="lacks task"):
        load_run(folder)


def test_rows_without_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='"rows" must be a list of objects'):
        load_run(write(tmp_path / "a", 7.0, rows=[{"median": 1}]))


@pytest.mark.parametrize(
    ("key", "value"),
    [("optimised", [1.0]), ("held_out", {"median": "x"}), ("kmer3", [0.5]), ("kl_base_policy", "x")],
)
def test_rows_with_odd_values_are_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(DataError, match=rf"summary\.json: rows\.0\.{key}"):
        load_run(write(tmp_path / "a", 7.0, rows=[{"name": "tuned", key: value}]))
