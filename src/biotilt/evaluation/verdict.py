"""Which row of a panel won, by how much beyond its noise, at what cost, and which file to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from biotilt.evaluation.common import PANEL
from biotilt.evaluation.measure import Measure, Row
from biotilt.evaluation.metrics import Scores, as_array, quantile

RESAMPLES, LEVEL = 2000, 0.95
HARVEST = "harvest"


def difference_of_medians(first: Scores, second: Scores, *, seed: int = 0) -> dict[str, float | None]:
    """Return `value`, median(first) − median(second), and `low` and `high`, its bootstrap interval of 95 %.

    The two sets are resampled independently, 2,000 times, by a generator of this seed. Base and best-of-N share draws,
    which moves both medians together; but where more of the draws are high, more has to be beaten to be chosen, which
    resampling the chosen leaves out, and as much again: the interval is right within a few percent (tested). NaN scores
    are left out, −inf is the lowest score. None where a number does not exist: a side without a score, or −inf on both.
    """
    sides = [values[~np.isnan(values)] for values in map(as_array, (first, second))]
    if not all(len(side) for side in sides):
        return {"value": None, "low": None, "high": None}
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        np.median(side[torch.randint(len(side), (RESAMPLES, len(side)), generator=generator).numpy()], axis=1)
        for side in sides
    ]
    with np.errstate(invalid="ignore"):  # −inf − −inf
        changes = drawn[0] - drawn[1]
        value = float(np.median(sides[0]) - np.median(sides[1]))
    known = np.sort(changes[~np.isnan(changes)])
    tail = (1 - LEVEL) / 2
    bounds = [_bound(known, tail), _bound(known, 1 - tail)] if len(known) == len(changes) else [None, None]
    return {"value": value if math.isfinite(value) else None, "low": bounds[0], "high": bounds[1]}


def _bound(ordered: np.ndarray, part: float) -> float | None:
    found = quantile(ordered, part) if np.isfinite(ordered).all() else float(ordered[round(part * (len(ordered) - 1))])
    return found if math.isfinite(found) else None


def verdict_of(
    rows: Sequence[Row],
    scores: Mapping[str, tuple[Sequence[float], Sequence[float] | None]],
    *,
    broken: Mapping[str, Sequence[str]] | None = None,
    measures: Sequence[Measure] = PANEL,
) -> dict[str, Any]:
    """Return which row won, and what to take, as plain JSON; scores are the higher the better.

    Args:
        rows: of the panel; "base", "best_of_n" and "tuned" (or "steered") compete, "harvest" is only recommended.
        scores: row name -> (optimised, held-out or None), `(B,)` each; NaN = not scored, −inf = infeasible.
        broken: row name -> names of the constraints that it breaks on average.
        measures: of these the verdict names those that tell how natural designs are.

    `outcome` is "won" (one row is above all others beyond noise), "level" (others are within noise of the best),
    "no_gain" (the base is among those), "infeasible" or "nothing_scored"; `by` "held_out" or "optimised"; `winner` the
    row with the best median; `level_with` the rows within its noise; `differences` the winner's lead on every other
    row, with its interval; `below_base`, rows that the base beats beyond noise; `cost` and `use`, the row to take;
    `harvest` its lead on the row that is to be taken, where it was judged, and whether it is beyond noise.
    """
    broken = broken or {}
    fresh = [str(row["name"]) for row in rows if row["name"] != HARVEST]
    by = _by(scores, fresh)
    # of float32, as the panel's, so that prose and table round alike
    judged = {
        name: as_array(scores[name][1 if by == "held_out" else 0] or []).astype(np.float32).astype(float)
        for name in scores
    }
    medians = {name: _median(judged[name]) for name in fresh}
    known = [name for name in fresh if medians[name] is not None]
    found: dict[str, Any] = {"by": by, "medians": {name: _finite(medians[name]) for name in fresh}, "level": LEVEL}
    found["constraints_broken"] = {name: list(names) for name, names in broken.items() if names}
    if not known:
        return found | _nothing("nothing_scored")
    if all(medians[name] == -math.inf for name in known):
        return found | _nothing("infeasible")
    allowed = [name for name in known if not broken.get(name)] or known
    winner = max(allowed, key=lambda name: (medians[name], fresh.index(name) == 0))
    differences = {n: difference_of_medians(judged[winner], judged[n]) for n in known if n != winner}
    level_with = [n for n in differences if n in allowed and not _clear(differences[n], judged[winner], judged[n])]
    together = [winner, *level_with]
    outcome = "won" if not level_with else "level"
    if "base" in together:
        outcome = "no_gain"
    use = _use(rows, together)
    below = [n for n in known if n != "base" and "base" in known and _beats(judged["base"], judged[n])]
    return found | {
        "outcome": outcome, "winner": winner, "level_with": level_with, "differences": differences,
        "over_base": _over_base(winner, judged), "below_base": below, "cost": _cost(rows, use, measures), "use": use,
        "harvest": _harvest(judged, use, by, broken),
    }  # fmt: skip


def _nothing(outcome: str) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(("winner", "over_base", "cost", "use", "harvest"))
    return nothing | {"outcome": outcome, "level_with": [], "differences": {}, "below_base": []}


def _by(scores: Mapping[str, tuple[Sequence[float], Sequence[float] | None]], names: Sequence[str]) -> str:
    judge = [scores[name][1] for name in names]
    any_judged = any(values is not None and not np.isnan(as_array(values)).all() for values in judge if values)
    return "held_out" if any_judged else "optimised"


def _median(values: np.ndarray) -> float | None:
    kept = values[~np.isnan(values)]
    return float(np.median(kept)) if len(kept) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _clear(change: Mapping[str, float | None], better: np.ndarray, worse: np.ndarray) -> bool:
    """Return whether a lead is beyond its noise; a set that is mostly infeasible has no interval, and no chance."""
    if change["low"] is not None:
        return change["low"] > 0
    return change["value"] is None and _median(worse) == -math.inf != _median(better)


def _beats(better: np.ndarray, worse: np.ndarray) -> bool:
    return _clear(difference_of_medians(better, worse), better, worse)


def _over_base(name: str, judged: Mapping[str, np.ndarray]) -> dict[str, float | None] | None:
    return None if name == "base" or "base" not in judged else difference_of_medians(judged[name], judged["base"])


def _use(rows: Sequence[Row], together: Sequence[str]) -> str:
    """Return the row to take of those that cannot be told apart: the base, or the most natural by its KL."""
    if "base" in together:
        return "base"
    kl = {str(row["name"]): row.get("kl_policy_base") for row in rows}
    return min(together, key=lambda name: (math.inf if kl[name] is None else kl[name], together.index(name)))


def _cost(rows: Sequence[Row], use: str, measures: Sequence[Measure]) -> dict[str, Any]:
    row = next(row for row in rows if row["name"] == use)
    base = next((row for row in rows if row["name"] == "base"), {})
    naturalness = [
        {
            "key": m.key,
            "header": m.header.replace("\u00a0", " "),
            "value": m.of(row),
            "base": m.of(base),
            "written": m.written,
        }
        for m in measures
        if m.natural and m.of(row) is not None
    ]
    return {
        "calls": row["calls"], "seconds": row["seconds"], "kl_policy_base": row.get("kl_policy_base"),
        "naturalness": naturalness,
    }  # fmt: skip


def _harvest(
    judged: Mapping[str, np.ndarray], use: str, by: str, broken: Mapping[str, Sequence[str]]
) -> dict[str, Any] | None:
    """Return how far the harvest is above the row to take; its lead counts only by a judge, which did not choose it."""
    if HARVEST not in judged or _median(judged[HARVEST]) is None:
        return None
    change = difference_of_medians(judged[HARVEST], judged[use])
    clear = _clear(change, judged[HARVEST], judged[use])
    counts = by == "held_out" and clear and not broken.get(HARVEST)
    return {"median": _finite(_median(judged[HARVEST])), "lead": change, "take": counts}
