"""What evaluating a run leaves: a table a row, the harvest, a verdict; and what a failure on the way costs."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path

import pytest

import biotilt
from biotilt import Experiment, reward
from biotilt.evaluation.measure import Limit, Measure
from biotilt.oracle import Ledger, Store


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def counted(asked: list[str] | None = None):
    def guanines(designs):
        if asked is not None:
            asked.extend(designs)
        return [float(d.count("G")) for d in designs]

    return reward(version="1")(guanines)


def tuned(keys, folder: Path, **changes):
    return biotilt.tune(Experiment.from_dict(keys, folder, **changes), folder / "run")


def bare(keys, *left_out: str, **changes):
    return {key: value for key, value in keys.items() if key not in left_out} | changes


def test_every_row_has_its_table_and_the_summary_says_which(keys, tmp_path):
    summary = tuned(keys, tmp_path).evaluate()
    files = {"base": "base.csv", "best_of_n": "best_of_n.csv", "tuned": "designs.csv", "harvest": "harvest.csv"}
    assert summary["tables"]["files"] == files
    for row in summary["rows"]:
        rows = table(tmp_path / "run", files[row["name"]])
        assert len(rows) == row["n"]
        assert list(rows[0]) == ["name", "sequence", "held_out", "optimised", "log_p_base", "flags"]
        judged = [float(line["held_out"]) for line in rows]
        assert judged == sorted(judged, reverse=True), "ranked by the judge"
    assert set(summary["tables"]["rank_by"].values()) == {"held_out"}
    assert summary["tables"]["columns"].keys() == {"held_out", "optimised", "log_p_base", "flags"}
    assert summary["verdict"]["take"] in files
    assert summary["verdict"]["headline"] in (tmp_path / "run/report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("without_page")
def test_the_harvest_is_the_best_of_the_ledger_and_costs_no_call(keys, tmp_path):
    asked: list[str] = []
    run = tuned(bare(keys, "held_out", "reward"), tmp_path, reward=counted(asked))
    paid = list(asked)
    run.evaluate()
    rows = table(tmp_path / "run", "harvest.csv")
    ledger = Ledger(Store(tmp_path / "run/oracle.sqlite"), "tuning", "guanines")
    known = {row.design: row.score for row in ledger.rows()}
    best = sorted(known.values(), reverse=True)[:12]
    assert [float(row["optimised"]) for row in rows] == best
    assert all(known[row["sequence"]] == float(row["optimised"]) for row in rows)
    assert len({row["sequence"] for row in rows}) == 12
    assert {row["name"].rpartition("_")[0] for row in rows} == {"harvest"}
    # what evaluation asks for are fresh designs: none of those that tuning paid for is asked again
    assert not set(asked[len(paid) :]) & set(paid)


def test_a_harvest_breaks_no_constraint_and_rows_that_do_are_named(keys, tmp_path):
    bounds = [{"kind": "gc", "at_most": 0.35, "name": "poor"}, {"kind": "gc", "at_least": 0.0, "name": "free"}]
    run = tuned(bare(keys, constraints=bounds, lagrangian={"draws": 8}), tmp_path)
    summary = run.evaluate()
    rows = table(tmp_path / "run", "harvest.csv")
    assert all(sum(letter in "GC" for letter in row["sequence"]) <= 3 for row in rows)
    assert all(float(row["reward_poor"]) <= 0.35 for row in rows)
    for row in summary["rows"]:
        constraint, free = row["constraints"]
        values = [
            float(line["reward_poor"]) for line in table(tmp_path / "run", summary["tables"]["files"][row["name"]])
        ]
        assert constraint["mean"] == pytest.approx(sum(values) / len(values))
        assert constraint["broken"] is (row["name"] in summary["verdict"]["constraints_broken"])
        assert constraint["failing"] == pytest.approx(sum(value > 0.35 for value in values) / len(values))
        assert (free["failing"], row["within_all"]) == (0.0, pytest.approx(1 - constraint["failing"]))
    flags = [row["flags"] for row in table(tmp_path / "run", "base.csv") if float(row["reward_poor"]) > 0.35]
    assert flags and all("breaks_poor" in flag for flag in flags)
    poor, free = summary["constraints"]
    late = [row["multiplier/poor_at_most"] for row in run.rows[len(run.rows) // 2 :]]
    spread = statistics.pstdev(float(row["reward_poor"]) for row in table(tmp_path / "run", "base.csv"))
    assert poor["multiplier"] == pytest.approx(statistics.fmean(late)) and poor["multiplier"] > 0
    assert poor["pull"] == pytest.approx(statistics.fmean(late) * spread / 0.5)  # alpha
    assert (poor["binds"], free["multiplier"], free["binds"]) == (True, 0.0, False)
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "What binds: poor (at most 0.35)" in page and "free (at least 0)" in page


def test_a_minimised_reward_keeps_its_unit_and_sign(keys, tmp_path):
    energy = reward(name="binding_energy", version="1", units="kcal/mol", direction="minimise")(
        lambda designs: [-1.5 - d.count("G") for d in designs]
    )
    summary = tuned(bare(keys, "held_out", "reward"), tmp_path, reward=energy).evaluate()
    rows = table(tmp_path / "run", "best_of_n.csv")
    energies = [float(row["binding_energy_kcal_mol"]) for row in rows]
    assert energies == sorted(energies) == [-float(row["optimised"]) for row in rows]
    assert all(e == -1.5 - row["sequence"].count("G") for e, row in zip(energies, rows))
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "with a lower binding energy, kcal/mol" in page and "higher binding" not in page
    middle = summary["rows"][1]["optimised"]["median"]
    assert middle > 0 and f"−{middle:.3f}" in page, "the summary has the higher the better, the page the field's sign"


def test_where_nothing_can_be_scored_the_page_says_so_and_the_harvest_is_there(keys, tmp_path):
    tuned(bare(keys, "held_out", "reward"), tmp_path, reward=counted())
    broken = reward(name="guanines", version="2")(lambda designs: [math.nan] * len(designs))
    summary = biotilt.Run.load(tmp_path / "run", reward=broken).evaluate()
    assert (summary["verdict"]["outcome"], summary["verdict"]["tone"]) == ("nothing_scored", "bad")
    assert summary["verdict"]["take"] is None
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "Nothing could be scored: there is no verdict." in page
    assert len(table(tmp_path / "run", "designs.csv")) == len(table(tmp_path / "run", "harvest.csv")) == 12
    assert {row["flags"] for row in table(tmp_path / "run", "base.csv")} <= {"not_scored", "not_scored;repeat"}


def test_measures_of_each_design_are_columns_and_one_that_fails_costs_nothing_else(keys, tmp_path, monkeypatch):
    def broken(designs):
        raise ValueError("no such organism")

    measures = [
        Measure("gs", "Gs", "How many.", lambda designs: 1.0, lambda designs: [d.count("G") for d in designs]),
        Measure("bad", "bad thing", "Fails.", broken, broken, limit=Limit(fall=0.1)),
    ]
    monkeypatch.setattr("biotilt.outputs.task_measures", lambda config: measures)
    summary = tuned(keys, tmp_path).evaluate()
    for row in table(tmp_path / "run", "designs.csv"):
        assert (float(row["gs"]), row["bad"]) == (row["sequence"].count("G"), "")
    assert [row["more"] for row in summary["rows"]] == [{"gs": 1.0, "bad": None}] * 4
    assert "bad thing of every row: ValueError: no such organism" in summary["problems"]
    assert [c["key"] for c in summary["checks"]["not_possible"]][-1] == "bad"
    assert "no such organism" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8")) == summary


def test_what_a_task_measured_bounds_its_own_reward_only():
    from biotilt.judge import reference

    assert reference(Experiment.for_task("utr")).measured_max == 8.95
    assert reference(Experiment.for_task("utr", reward=counted())).measured_max is None
    ours = Experiment.for_task("utr", reward=counted(), reference={"measured_max": 40.0}, held_out={"kind": "none"})
    assert reference(ours).measured_max == 40.0


def test_a_page_that_fails_leaves_tables_and_summary(keys, tmp_path, monkeypatch):
    def broken(*given):
        raise RuntimeError("no ink")

    run = tuned(keys, tmp_path)
    monkeypatch.setattr("biotilt.pages.render_report", broken)
    summary = run.evaluate()
    assert summary["problems"] == ["the page: RuntimeError: no ink"]
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["problems"] == summary["problems"]
    assert len(table(tmp_path / "run", "designs.csv")) == 12


def test_a_judge_that_breaks_down_leaves_the_rewards_scores(keys, tmp_path):
    def judge(designs):
        raise biotilt.errors.RewardError("the judge is ill")

    run = tuned(bare(keys, "reward"), tmp_path, reward=counted())
    run.experiment.held_out = reward(version="1")(judge)
    summary = run.evaluate()
    assert "judging base: the judge is ill" in summary["problems"]
    assert summary["verdict"]["by"] == "optimised" and summary["verdict"]["winner"] is not None
    rows = table(tmp_path / "run", "designs.csv")
    assert all(float(row["optimised"]) == row["sequence"].count("G") for row in rows)
    assert {row["held_out"] for row in rows} == {""}
