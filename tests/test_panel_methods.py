"""The genetic algorithm of the panels, and which run `auto` is, by hand."""

from __future__ import annotations

import random
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from biotilt.rewards import GCFraction

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

panel_methods, task_panels = (import_module(name) for name in ("panel_methods", "task_panels"))
Genetic, asked = import_module("genetic").Genetic, import_module("asked")


def test_children_are_new_of_the_letters_and_lengths_that_there_were():
    first = ["ACGT", "ACG", "TTTTT"]
    children = Genetic(first, random.Random(0)).children(first, 200, set(first))
    assert len(set(children)) == len(children) > 100 and not set(children) & set(first)
    assert {len(child) for child in children} == {3, 4, 5} and set("".join(children)) <= set("ACGT")


def test_a_cross_is_the_start_of_the_one_and_the_end_of_the_other():
    algorithm = Genetic(["AAAAAA", "CCCCCC"], random.Random(1))
    found = {algorithm.crossed("AAAAAA", "CCCCCC") for _ in range(200)}
    assert found == {"A" * place + "C" * (6 - place) for place in range(1, 6)}


def test_better_parents_are_drawn_more_often():
    """Of two parents that differ everywhere, with weights 1/5 and 1/6: five of eleven are of the second."""
    algorithm = Genetic(["A" * 40, "C" * 40], random.Random(2))
    ranked = ["A" * 40, "C" * 40]
    mostly = ["C" if child.count("C") > 20 else "A" for child in algorithm.children(ranked, 2000, set(ranked))]
    share = mostly.count("C") / len(mostly)
    assert share == pytest.approx(5 / 11, abs=0.05)


def test_it_climbs_and_asks_no_more_than_it_may():
    """The share of G and C of 12 letters, from designs that have half at most."""
    first = ["A" * 12, "AGTACTAGTACT", "T" * 12, "C" * 6 + "T" * 6]
    known = asked.Asked(GCFraction(), 300)
    with pytest.raises(asked.Spent):
        panel_methods.bred(known, first, random.Random(0))
    scores = list(known.scores.values())
    assert len(scores) == 300 and max(scores) > 0.9 > 0.6 > max(scores[:4])


def line(task: str, method: str, seed: int) -> dict[str, Any]:
    rows: dict[str, Any] = {part: {"name": method} for part in ("fresh", "harvest")}
    return {"task": task, "method": method, "seed": seed, "calls": 512} | rows


@pytest.mark.parametrize(("auto", "method"), [("ppo", "ppo"), ("evolve", None)])
def test_auto_is_the_run_that_it_would_repeat(monkeypatch, auto, method):
    monkeypatch.setitem(panel_methods.KEYS, "auto", {"objective": {"name": auto}})
    lines = [line("utr", "ppo", 1), line("utr", "vidd", 0), line("utr", "ppo", 0), line("protein", "ppo", 0)]
    case = {"task": "utr", "method": "auto", "seed": 0, "calls": 512}
    found = task_panels.same_run(case, 64, [], lines)
    if method is None:  # no such run is there
        assert found is None
    else:
        assert found == line("utr", "auto", 0) | {"same_as": "ppo"}
