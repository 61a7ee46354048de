"""Which constraints bind: what tuning paid for each, and which share of the designs of every row breaks it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from biotilt.digits import percent, pretty

FREE = 0.05  # nats a standard deviation: a price below it is noise of the few designs that it is measured on

Row = Mapping[str, Any]


def binding(
    bounds: Sequence[Row], history: Sequence[Mapping[str, float]], spreads: Mapping[str, float], alpha: float
) -> list[dict[str, Any]]:
    """Return what is known of each constraint at the end of a run, as JSON.

    `bounds`: name, at_least and at_most of each. `history`: the rounds of tuning with the prices of their multipliers.
    `spreads`: the standard deviation of each over designs of the base. `multiplier` is the mean price, in units of the
    reward over those of the constraint, of the second half of the rounds; `pull` the same in nats a standard
    deviation, the price times the spread over α, by which constraints compare; `binds` whether it is more than noise.
    With two bounds it is that of the dearer one. None where there is no price, as in steering.

    >>> rounds = [{"multiplier/herg_at_most": 0.0}, {"multiplier/herg_at_most": 0.25}]
    >>> binding([{"name": "herg", "at_least": None, "at_most": 0.5}], rounds, {"herg": 0.2}, 0.1)[0]["pull"]
    0.5
    """
    late = history[len(history) // 2 :]
    found = []
    for bound in bounds:
        name = str(bound["name"])
        asked = [key for key in ("at_least", "at_most") if bound[key] is not None]
        prices = [_mean([row.get(f"multiplier/{name}_{key}") for row in late]) for key in asked]
        price = max((p for p in prices if p is not None), default=None)
        spread = spreads.get(name, math.nan)
        pull = None if price is None or not math.isfinite(spread) else price * spread / alpha
        binds = None if pull is None else pull >= FREE
        found.append(
            {"name": name, "at_least": bound["at_least"], "at_most": bound["at_most"], "multiplier": price,
             "pull": pull, "binds": binds}
        )  # fmt: skip
    return found


def binding_words(constraints: Sequence[Row], rows: Sequence[Row]) -> str:
    """Return in a few sentences which constraints bind, dearest first, and which designs keep all; "" for none.

    A constraint that nothing was paid for is free only where the tuned designs keep it: multipliers start at 0.
    """
    tuned = next((row for row in rows if row["name"] == "tuned" and row.get("constraints")), None)
    known = sorted((c for c in constraints if c["binds"] is not None), key=lambda c: -c["pull"])
    if not known or tuned is None:
        return ""
    means = {bound["name"]: bound["mean"] for bound in tuned["constraints"]}
    outside = {c["name"] for c in known if not _keeps(means.get(c["name"]), c)}
    told = []
    if dear := [c for c in known if c["binds"]]:
        listed = "; ".join(
            f"{c['name']} ({asked(c)}), {pretty(c['pull'])} nats a standard deviation"
            + (f", not met: {pretty(means[c['name']])} on average" if c["name"] in outside else "")
            for c in dear
        )
        told.append(f"{'What binds' if len(dear) == 1 else 'What bind, dearest first'}: {listed}.")
    if free := [c for c in known if not c["binds"] and c["name"] not in outside]:
        listed = "; ".join(f"{c['name']} ({asked(c)})" for c in free)
        told.append(f"What costs nothing, since designs keep it anyway: {listed}.")
    if late := [c for c in known if not c["binds"] and c["name"] in outside]:
        listed = "; ".join(f"{c['name']} ({asked(c)}), {pretty(means[c['name']])} on average" for c in late)
        told.append(f"What is not met, and hardly priced so far: {listed}. Prices start at 0 and need rounds.")
    shares = {row["name"]: row["within_all"] for row in rows if row.get("within_all") is not None}
    if {"base", "tuned"} <= shares.keys():
        told.append(
            f"Within every bound at once: {percent(shares['tuned'])} of the tuned designs, {percent(shares['base'])} "
            "of the base's. A constraint holds on average, not for each design."
        )
    return " ".join(told)


def _keeps(mean: float | None, constraint: Row) -> bool:
    low, high = constraint["at_least"], constraint["at_most"]
    return mean is not None and (low is None or mean >= low) and (high is None or mean <= high)


def asked(constraint: Row) -> str:
    """Return the bounds of a constraint in words.

    >>> asked({"at_least": None, "at_most": 0.5}), asked({"at_least": -4.0, "at_most": -1.0})
    ('at most 0.5', 'at least −4 and at most −1')
    """
    bounds = (("at least", constraint["at_least"]), ("at most", constraint["at_most"]))
    return " and ".join(f"{words} {limit:g}".replace("-", "−") for words, limit in bounds if limit is not None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
