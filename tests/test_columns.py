"""From the experiment file to the tables: one call a design, several outputs."""

from __future__ import annotations

import csv
import math
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import biotilt
from biotilt import Experiment
from biotilt.check import check
from biotilt.errors import ConfigError, RewardError
from biotilt.oracle import Ledger
from biotilt.rewards import columns
from biotilt.steered import report_steered
from biotilt.steering import steer

# every design that is asked leaves a line; "purine" is missing for designs that begin with T, "length" is in no section
MINE = """
from pathlib import Path
from biotilt.rewards import columns

def all(designs):
    with open({log!r}, "a") as file:
        file.writelines(d + "\\n" for d in designs)
    return [
        {{"g": float(d.count("G")), "purine": float("nan") if d[0] == "T" else d.count("A") + d.count("G"),
         "c": d.count("C"), "length": len(d)}}
        for d in designs
    ]

declared = columns("g", "purine", "c", "length")(all)
"""

PROGRAM = """
import csv, sys
with open(sys.argv[2], "a") as log, open(sys.argv[1], newline="") as given:
    print("c", "id", "note", "g", sep=",")
    for row in csv.DictReader(given):
        log.write(row["design"] + "\\n")
        print(row["design"].count("C"), row["id"], "text", row["design"].count("G"), sep=",")
"""


def python(column, called="all", **more):
    return {"kind": "python", "function": f"mine.py:{called}", "column": column} | more


COMMAND = {"kind": "command", "column": "g"}
SECTIONS = {
    "reward": {"kind": "sum", "parts": [python("g", weight=2.0), python("c", weight=-1.0)]},
    "held_out": {"kind": "threshold", "parts": [python("g")], "options": {"at_least": 0.0}},
    "constraints": [python("purine", at_least=3.0), python("c", at_most=4.0, name="few_c")],
    "lagrangian": {"draws": 8},
}


@pytest.fixture
def mine(tmp_path):
    """Write the user's file; return what it was asked, each design with how often."""
    log = tmp_path / "asked.txt"
    (tmp_path / "mine.py").write_text(MINE.format(log=str(log)))
    (tmp_path / "program.py").write_text(PROGRAM)
    return lambda: Counter(log.read_text().split() if log.is_file() else [])


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def number(cell):
    return math.nan if cell == "" else float(cell)


def built(keys, tmp_path, **changes):
    return Experiment.from_dict(keys | SECTIONS | changes, tmp_path)


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("oracle", [{}, {"cache": "shared.sqlite"}, {"backend": "pool", "workers": 2}])
def test_reward_constraints_and_judge_ask_once_and_every_column_is_in_the_tables(keys, tmp_path, mine, oracle):
    run = biotilt.tune(built(keys, tmp_path, oracle=oracle), tmp_path / "run")
    assert run.rows[-1]["calls"] == 32
    assert set(mine().values()) == {1}
    run.evaluate()
    tuned_and_judged = mine()
    # judging asks again for what could not be scored
    assert {times for design, times in tuned_and_judged.items() if design[0] != "T"} == {1}
    for name in ("designs.csv", "harvest.csv", "base.csv"):
        rows = table(tmp_path / "run" / name)
        assert rows
        for row in rows:
            design = row["sequence"]
            assert tuned_and_judged[design] >= 1
            assert [number(row[f"all.{c}"]) for c in ("g", "c", "length")] == [
                *(design.count("G"), design.count("C")),
                len(design),
            ]
            purine = math.nan if design[0] == "T" else float(design.count("A") + design.count("G"))
            assert str(number(row["all.purine"])) == str(purine)
            assert float(row["optimised"]) == 2.0 * design.count("G") - design.count("C")
            assert number(row["reward_few_c"]) == design.count("C")
            assert row["reward_all.purine"] == row["all.purine"]
    ledger = {row.design for row in Ledger(*_tuning(run)).rows()}
    assert {row["sequence"] for row in table(tmp_path / "run/harvest.csv")} <= ledger


def _tuning(run):
    oracles = run.experiment.oracles
    return oracles.store(run.folder), oracles.account(run.folder), run.experiment.reward.name


@pytest.mark.usefixtures("without_page")
def test_the_meaning_of_each_column_is_told(keys, tmp_path, mine):
    run = biotilt.tune(built(keys, tmp_path), tmp_path / "run")
    meanings = run.evaluate()["tables"]["columns"]
    assert meanings["all.length"] == "length: a column of all, as it gives it"
    assert meanings["reward_few_c"] == "few_c: a part of the reward, or a constraint"


def test_a_program_with_several_columns_is_started_for_all_of_them(keys, tmp_path, mine):
    words = [sys.executable, str(tmp_path / "program.py"), "{designs}", str(tmp_path / "asked.txt")]
    program = {"kind": "command", "options": {"command": words, "stdout": True}}
    changes = {
        "reward": program | {"column": "g"},
        "constraints": [program | {"column": "c", "at_most": 2.0}],
        "held_out": program | {"column": "g", "direction": "minimise"},
    }
    experiment = built(keys, tmp_path, **changes)
    run = biotilt.tune(experiment, tmp_path / "run")
    assert run.rows[-1]["calls"] == 32 and set(mine().values()) == {1}
    assert [source.columns for source in experiment.sources] == [()]
    (store, *_) = _tuning(run)
    assert store.columns(*experiment.sources[0].key) == ["c", "g"]  # "note" is text


def test_killed_and_resumed_is_the_same_run(keys, tmp_path, mine, monkeypatch):
    """The process ends between the constraints and the reward of the third round."""
    whole = biotilt.tune(built(keys, tmp_path), tmp_path / "whole")
    asked = mine()

    class Killed(BaseException):
        pass

    experiment = built(keys, tmp_path)
    reward = experiment.oracles.of

    def dying(*parts, **more):
        made = reward(*parts, **more)
        if more.get("max_calls"):
            score = made.score

            def killed(designs, meanwhile=None):
                if made.calls >= 16:
                    raise Killed
                return score(designs, meanwhile)

            monkeypatch.setattr(made, "score", killed)
        return made

    monkeypatch.setattr(experiment.oracles, "of", dying)
    with pytest.raises(Killed):
        biotilt.tune(experiment, tmp_path / "killed")
    resumed = biotilt.resume(tmp_path / "killed")
    files = [(tmp_path / name / "tuned.safetensors").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]
    without_time = [[row | {"seconds": 0} for row in run.rows] for run in (whole, resumed)]
    assert without_time[0] == without_time[1]
    twice = Counter(mine())
    twice.subtract(asked)
    # designs that have no "purine" are failures of that constraint: after a kill they may be asked again, once
    extra = {design for design, times in twice.items() if times > 1}
    assert all(design[0] == "T" for design in extra)


def test_steering_asks_once(keys, tmp_path, mine):
    changes = {"sampler": {"name": "best_of_n", "factor": 2}}
    experiment = built(keys, tmp_path, **changes)
    found = steer(experiment, 4)
    assert found.held_out == [design.count("G") for design in found.designs]
    assert set(mine().values()) == {1}
    before = mine()
    report_steered(found, experiment, tmp_path / "steered.csv", tmp_path / "steered.html")
    # judging asks again for what could not be scored
    assert all(mine()[design] == before[design] for design in found.designs if design[0] != "T")
    assert {int(float(row["all.length"])) for row in table(tmp_path / "steered.csv")} == {10}


def test_a_look_before_a_run_asks_once(keys, tmp_path, mine):
    told = check(built(keys, tmp_path, constraints=[], lagrangian={}))
    assert told["base"]["held_out"]["mean"] is not None
    assert max(mine().values()) <= 2  # once with the base, once in the small round


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": python("purin", "declared")}, r'reward\.column: .*has no column "purin"; did you mean "purine"'),
        ({"held_out": python("len", "declared")}, r'held_out\.column: .*no column "len"'),
        ({"reward": python(None, "declared") | {"column": None}}, r"several columns; name the one .* of g, purine, c"),
        ({"reward": {"kind": "gc", "column": "g"}}, r'reward\.column: a reward of kind "gc" gives one score'),
        ({"reward": python("g", repeats=2)}, r'columns of "all" are read with different repeats'),
        (
            {"reward": {"kind": "sum", "parts": [python("g", repeats=3)], "repeats": 2}, "held_out": None},
            "repeats = 2 must stand where its columns are named",
        ),
        (
            {"reward": COMMAND | {"options": {"command": "ls {designs} {scores}", "column": "g"}}},
            r'no column among the options: name it beside them',
        ),
        (
            {"reward": COMMAND | {"options": {"command": "ls {designs}", "columns": ["gg"], "stdout": True}}},
            r'has no column "g"; did you mean "gg"',
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_before_any_compute(keys, tmp_path, mine, changes, message):
    data = {key: value for key, value in (keys | SECTIONS | changes).items() if value is not None}
    data["reward"] = {key: value for key, value in data["reward"].items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        Experiment.from_dict(data, tmp_path)
    assert not mine()


def test_a_column_that_nobody_declared_and_nobody_gives(keys, tmp_path, mine):
    changes = {"constraints": [python("purin", at_least=3.0)]}
    with pytest.raises(RewardError, match=r'"all" gives no column "purin"; did you mean "purine"'):
        biotilt.tune(built(keys, tmp_path, **changes), tmp_path / "run")
    assert sum(mine().values()) == 8  # the constraint's first draws


@pytest.mark.usefixtures("without_page")
def test_the_example_of_the_page_asks_once(tmp_path):
    """The two blocks of docs/rewards.md, as a user would save them; the function leaves a line a design."""
    page = (Path(__file__).parents[1] / "docs/rewards.md").read_text(encoding="utf-8")
    section = page.partition("## One call, several outputs")[2].partition("\n## ")[0]
    function, experiment = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL)[1] for kind in ("python", "toml"))
    start = "def composition(designs):\n"
    logged = f"{start}    open('asked.txt', 'a').writelines(d + chr(10) for d in designs)\n"
    (tmp_path / "several.py").write_text(function.replace(start, logged.replace("asked.txt", f"{tmp_path}/asked.txt")))
    (tmp_path / "mine.toml").write_text(experiment)
    small = [
        *("objective.updates=2", "objective.states=8", "value.imagine=8", "value.keep=8", "lagrangian.draws=8"),
        *("train.max_calls=16", "train.batch=8", "output.samples=8"),
    ]
    run = biotilt.tune(Experiment.load(tmp_path / "mine.toml", overrides=small), tmp_path / "run")
    run.evaluate()
    asked = Counter((tmp_path / "asked.txt").read_text().split())
    assert set(asked.values()) == {1}
    for row in table(tmp_path / "run/designs.csv"):
        design, cells = row["sequence"], {k: row[f"composition.{k}"] for k in ("gc", "cpg", "longest_run")}
        run_of_letters = max(len(found[0]) for found in re.finditer(r"(.)\1*", design))
        gc = sum(letter in "GC" for letter in design) / len(design)
        assert [float(cell) for cell in cells.values()] == [gc, len(design.split("CG")) - 1, run_of_letters]


def test_a_source_given_in_python(keys, tmp_path):
    asked = []

    @columns("g", "c", version="1")
    def both(designs):
        asked.extend(designs)
        return [{"g": d.count("G"), "c": d.count("C")} for d in designs]

    plain = {key: value for key, value in keys.items() if key not in ("reward", "held_out")}
    reward, judge = both.column("g"), both.column("c")
    biotilt.tune(Experiment.from_dict(plain, tmp_path, reward=reward, held_out=judge), tmp_path / "run")
    assert asked and set(Counter(asked).values()) == {1}
    with pytest.raises(ConfigError, match=r'reward: "both" gives several columns; give one of them'):
        Experiment.from_dict(plain, tmp_path, reward=both)
