"""Measures of one's own, from a file, from Python and by name: shown, checked, trusted, and no part of a run."""

from __future__ import annotations

import csv
import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest

import biotilt
from biotilt import Experiment, Run
from biotilt.check import check
from biotilt.errors import ConfigError, UntrustedRun
from biotilt.evaluation.common import common_measures
from biotilt.evaluation.kinds import MEASURES
from biotilt.evaluation.measure import Limit, Measure, describe, described
from biotilt.provenance import digest
from biotilt.spaces.arrays import Points

FILE = '''"""Measures of a user."""
import biotilt

print("noise on stdout")

def adenines(designs):
    "Letters A in all designs."
    return sum(d.count("A") for d in designs)

def first_is_a(design):
    return float(design[0] == "A")

@biotilt.measure(name="runs", header="Longest run", per_design=True, at_most=0)
def longest(design):
    return max(len(list(group)) for _, group in __import__("itertools").groupby(design))
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    return tmp_path


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_a_file_names_its_measures_and_every_place_shows_them(keys, mine, capfd):
    sections = [
        {"function": "mine.py:adenines", "header": "As", "at_least": 1e6},
        {"function": "mine.py:first_is_a", "per_design": True, "written": "percent", "natural": True},
        {"function": "mine.py:longest"},
        {"kind": "letter_share", "options": {"letters": "GC"}, "name": "gc"},
    ]
    run = biotilt.tune(Experiment.from_dict(keys | {"measures": sections}, mine), mine / "run")
    summary = run.evaluate()
    assert "noise" not in capfd.readouterr().out, "what a measure prints must not stand among the answers"
    tables = {row["name"]: rows_of(mine / "run", summary["tables"]["files"][row["name"]]) for row in summary["rows"]}
    for row in summary["rows"]:
        designs = [line["sequence"] for line in tables[row["name"]]]
        assert row["more"]["adenines"] == sum(design.count("A") for design in designs)
        assert row["more"]["first_is_a"] == pytest.approx(sum(d[0] == "A" for d in designs) / len(designs))
        each = [float(line["runs"]) for line in tables[row["name"]]]
        assert row["more"]["runs"] == pytest.approx(sum(each) / len(each))
        assert row["more"]["gc"] == pytest.approx(sum(d.count("G") + d.count("C") for d in designs) / 10 / len(designs))
    assert "adenines" not in tables["tuned"][0], "a number of a set has no column"
    assert [m["header"] for m in summary["measures"]] == ["As", "first is a", "Longest run", "Share of G, C"]
    fired = {check["key"]: check["fired"] for check in summary["checks"]["made"]}
    assert "As" in fired["adenines"]["tuned"] and "at least 1e+06" in fired["adenines"]["tuned"]
    assert "runs" in fired, "limits may be given where the function is"
    assert {n["key"] for n in summary["verdict"]["cost"]["naturalness"]} == {"first_is_a"}
    page = (mine / "run/report.html").read_text(encoding="utf-8")
    assert "Letters A in all designs." in page and "Longest run" in page
    assert json.loads((mine / "run/summary.json").read_text(encoding="utf-8"))["measures"] == summary["measures"]


@pytest.mark.usefixtures("without_page")
def test_a_finished_run_is_judged_by_another_measure_without_being_tuned_again(keys, mine, biotilt_cli):
    biotilt.tune(Experiment.from_dict(keys, mine), mine / "run")
    before = (mine / "run/history.json").read_bytes()
    told = biotilt_cli("evaluate", "run", "--measure", "mine.py:adenines", "--measure", "length", "--json")
    assert told.exit_code == 0, told.stderr
    assert [row["more"]["length"] for row in json.loads(told.stdout)["rows"]] == [10.0] * 4
    assert {*json.loads(told.stdout)["rows"][0]["more"]} == {"adenines", "length"}
    (mine / "more.toml").write_text('[[measures]]\nfunction = "mine.py:longest"\nheader = "Run"\n', encoding="utf-8")
    told = biotilt_cli("evaluate", "run", "--measure", "more.toml")
    assert "Run" in told.stdout
    assert (mine / "run/history.json").read_bytes() == before
    assert biotilt_cli("evaluate", "run", "--measure", "lenght").exit_code == 2


@pytest.mark.usefixtures("without_page")
def test_measures_of_python_are_recorded_by_name_and_can_be_given_again(keys, mine):
    def thymines(designs):
        return sum(d.count("T") for d in designs)

    experiment = Experiment.from_dict(keys, mine, measures=[thymines, {"kind": "length"}])
    assert digest(experiment) == digest(Experiment.from_dict(keys, mine)), "what is measured is no part of the run"
    first = biotilt.tune(experiment, mine / "run").evaluate()
    recorded = json.loads((mine / "run/experiment.json").read_text(encoding="utf-8"))["config"]["measures"]
    assert [section.get("function") for section in recorded] == ["<thymines, given in Python>", None]
    alone = Run.load(mine / "run").evaluate()
    (problem,) = alone["problems"]
    assert problem == "thymines of every row: it was given in Python: Run.load(…, measures=[…]) shows it"
    assert alone["rows"][2]["more"] == first["rows"][2]["more"] | {"thymines": None}
    again = Run.load(mine / "run", measures=[thymines]).evaluate()
    assert again["problems"] == [] and again["rows"][2]["more"] == first["rows"][2]["more"]


@pytest.mark.usefixtures("without_page")
def test_a_measure_that_fails_or_says_nonsense_costs_only_itself(keys, mine):
    def broken(designs):
        raise ValueError("no such organism")

    def many(designs):
        return [1.0, 2.0]

    def nothing(designs):
        return math.nan

    def only_many(designs):
        if len(designs) < 12:
            raise ValueError("too few")
        return 1.0

    three = Measure("three", "Three", "", lambda designs: 3)
    given = [broken, many, nothing, three, only_many]
    summary = biotilt.tune(Experiment.from_dict(keys, mine, measures=given), mine / "run").evaluate()
    assert summary["rows"][0]["more"] == {"broken": None, "many": None, "nothing": None, "three": 3, "only_many": 1.0}
    assert "broken of every row: ValueError: no such organism" in summary["problems"]
    assert "many of every row: many returned list, not a number" in summary["problems"]
    assert "only many of best_of_n: ValueError: too few" in summary["problems"]
    assert summary["verdict"]["winner"] is not None


def test_a_look_before_a_run_tries_measures_on_designs_with_their_scores(keys, mine):
    def best(designs):
        return designs.optimised.max() + designs.held_out.min()

    def broken(designs):
        raise ValueError("no such organism")

    keys = keys | {"objective": {"name": "ppo", "updates": 1, "states": 8}}
    problems = check(Experiment.from_dict(keys, mine, measures=[best, broken]))["problems"]
    assert [problem for problem in problems if "best" in problem or "organism" in problem] == [
        "broken of the base: ValueError: no such organism"
    ]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"function": "mine.py:adenine"}, r'measures\.0\.function: .*did you mean "adenines"'),
        ({"kind": "lenght"}, r'measures\.0\.kind: unknown measure "lenght"; did you mean "length"'),
        ({"kind": "motif_share"}, r"measures\.0\.options.motif"),
        ({"kind": "letter_share", "options": {"letter": "G"}}, r'measures\.0\.options\.letter: unknown .*"letters"'),
        ({"kind": "length", "at_mots": 1}, r'measures\.0\.at_mots: unknown key; did you mean "at_most"'),
        ({"kind": "length", "function": "mine.py:adenines"}, "one of function"),
        ({}, "one of function"),
        ({"kind": "length", "name": "optimised"}, 'tables have a column "optimised" already'),
        (
            {"kind": "near", "options": {"centre": [0.0], "radius": 1}},
            "measures points, and these designs are text",
        ),
        ({"kind": "length", "written": "roman"}, r"measures\.0\.written"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(keys, mine, section, message):
    with pytest.raises(ConfigError, match=message):
        Experiment.from_dict(keys | {"measures": [section]}, mine)


def test_two_measures_of_one_name_are_refused_and_one_that_is_given_replaces_that_of_the_file(keys, mine):
    two = [{"kind": "motif_share", "options": {"motif": "A"}}, {"kind": "motif_share", "options": {"motif": "G"}}]
    with pytest.raises(ConfigError, match=r'measures\.1\.name: another measure is called "motif_share"'):
        Experiment.from_dict(keys | {"measures": two}, mine)

    def adenines(designs):
        return 7

    found = Experiment.from_dict(keys | {"measures": [{"function": "mine.py:adenines"}]}, mine, measures=[adenines])
    assert [own(["AA"]) for own in found.measures] == [7]
    for wrong in (3, str, lambda designs: 1):
        with pytest.raises(ConfigError, match="measures"):
            Experiment.from_dict(keys, mine, measures=[wrong])


def test_a_measure_of_ones_own_takes_the_place_of_the_tasks():
    from biotilt.measures import task_measures, together

    def gc(designs):
        return 0.5

    experiment = Experiment.for_task("utr_varying", measures=[gc])
    found = together(task_measures(experiment.config), experiment.measures)
    assert [m.key for m in found] == ["length", "length_sd", "measured_lengths", "upstream_aug", "gc"]
    assert found[-1](["AAAA"]) == 0.5


@pytest.mark.usefixtures("without_page")
def test_a_strangers_measure_is_not_run(keys, mine, monkeypatch, biotilt_cli):
    keys = keys | {"reward": {"kind": "gc", "options": {}}}
    for section, said in (
        ({"function": "mine.py:adenines"}, "the Python function mine.py:adenines"),
        ({"kind": "length"}, ""),
    ):
        biotilt.tune(Experiment.from_dict(keys | {"measures": [section]}, mine), mine / "run", overwrite=True)
        with monkeypatch.context() as other:
            other.setenv("XDG_STATE_HOME", str(mine / "other"))
            if said:
                (mine / "mine.py").write_text("raise RuntimeError('was run')", encoding="utf-8")
                with pytest.raises(UntrustedRun, match=said):
                    Run.load(mine / "run")
                assert biotilt.load_model(mine / "run").sample(1) and biotilt_cli("compare", "run").exit_code != 0
                loaded = Run.load(mine / "run", trust=True)
                assert loaded.sample(1), "a measure that cannot be loaded is no reason not to load a run"
            else:
                assert Run.load(mine / "run").sample(1)


def test_what_a_measure_sets_in_the_process_stays_with_it(keys, mine):
    def rude(designs):
        random.seed(0)
        os.environ["RUDE"] = "1"
        os.chdir("/")
        return len(designs)

    (own,) = Experiment.from_dict(keys, mine, measures=[rude]).measures
    here, state = Path.cwd(), random.getstate()
    assert own(["A", "C"]) == 2
    assert (Path.cwd(), random.getstate(), os.environ.get("RUDE")) == (here, state, None)


def test_limits_of_their_own_need_no_base_and_say_so():
    limit = Limit(at_least=0.4, at_most=0.6, fall=0.1)
    assert limit.says() == "at least 0.4 and at most 0.6 and at most 0.1 below the base's"
    assert not limit.broken(0.5) and limit.broken(0.3) and limit.broken(0.45, base=0.58) and limit.broken(0.61, 0.6)
    gc = Measure("gc", "GC", "Share.", len, limit=Limit(at_most=0.6), written="percent")
    assert gc.check is not None
    row = {"name": "tuned", "more": {"gc": 0.75}}
    assert gc.check.look(row, None) == "tuned: GC 75.0% (limit: at most 0.6). Share."
    assert gc.check.look(row | {"more": {}}, None) is None
    relative = Measure("gc", "GC", "Share.", len, limit=Limit(rise=0.1))
    assert relative.check is not None and relative.check.look(row, None) is None


def test_a_summary_shows_its_measures_again_also_one_of_before_they_said_how_they_are_written():
    gc = Measure("gc", "GC", "Share.", len, written="percent")
    (again,) = described(describe([gc]))
    assert again.text({"more": {"gc": 0.25}}) == gc.text({"more": {"gc": 0.25}}) == "25.0%"
    (old,) = described([{"key": "gc", "header": "GC", "meaning": "Share."}])
    assert old.text({"more": {"gc": 0.25}}) == "0.2500" and old.text({}) == "–"


def test_kinds_by_hand():
    def value(name, designs, **options):
        return MEASURES.build(name, options).measure()(designs)

    assert value("length", ["A", "ACGT"]) == 2.5
    assert value("letter_share", ["GGAA", "", "CCCC"], letters="GC") == 0.75
    assert value("motif_share", ["AAUAAAG", "G", "AUAA", "AAUAAA"], motif="AAUAAA") == 0.5
    # one position is always A, the other C or G with 1/4 and 3/4
    expected = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75)) / 2
    assert value("position_entropy", ["AC", "AG", "AG", "AG"]) == pytest.approx(expected)
    assert value("position_entropy", ["A", "AC"]) is None and value("position_entropy", []) is None
    assert value("near", [np.array([1.0, 2.5]), np.array([4.0, 2.0])], centre=[1.0, 2.0], radius=1.0) == 0.5


def test_distances_are_told_in_the_words_of_the_space():
    texts, points = ({m.key: m for m in common_measures(space)} for space in (None, Points(("x", "y"))))
    assert "number of positions at which they differ" in texts["distance"].meaning
    for key in ("distance", "closest"):
        assert "Euclidean distance" in points[key].meaning and "positions" not in points[key].meaning
    base, tuned = {"name": "base", "distance": 4.0}, {"name": "tuned", "distance": 1.0}
    assert texts["distance"].check is not None and points["distance"].check is not None
    assert "Two differ at 1.000 positions on average, against 4.000" in str(texts["distance"].check.look(tuned, base))
    assert "Two are 1.000 apart on average, against 4.000" in str(points["distance"].check.look(tuned, base))
    assert points["closest"].text({"closest": 0.25}) == "0.2500" and texts["closest"].text({"closest": 3}) == "3"
