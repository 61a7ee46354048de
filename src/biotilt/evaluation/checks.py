"""The signs of reward hacking: which checks were made on the rows of a panel, which fired, which were not possible."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biotilt.digits import pretty
from biotilt.evaluation.measure import Measure
from biotilt.spaces.distances import nearest_distances

Row = Mapping[str, Any]

# A single design above anything ever measured is worth a line on the page: no data supports the oracle there.
BEYOND_ALLOWED = 0.0
# A gap (optimised minus held-out) may grow with the score; growing by more than a quarter of the base's
# 5-95 % spread means that much of the gain is seen only by the oracle that was optimised.
GAP_GROWTH_ALLOWED = 0.25
# A judgement: the runs on 5'UTRs in docs/algorithms.md that stayed natural keep 0.9 of the base's distance or more.
DISTANCE_KEPT = 0.8
# Designs whose nearest neighbour differs in a twentieth of the letters are variants of a few, not designs.
NEAREST_NEEDED = 0.05
# 15 nats: the base would have to draw e^15, three million designs, to show one like these.
# The runs in docs/algorithms.md end at 0 to 10 nats.
KL_ALLOWED = 15.0
# The published bar for a set of designs, and what the base itself reaches with ease.
UNIQUE_NEEDED = 0.95
# On the two published fronts for enhancers natural sets keep r >= 0.85, and hacked ones lose 0.3 or more.
KMER_DROP_ALLOWED = 0.15

NOT_SCORED = "no design was scored"


@dataclass(frozen=True)
class Check:
    """One look at a row: `look(row, base)` is a sentence when it fires, "" when not, None where a number is missing.

    `says`: what is looked at; `because` and `to_get`: why it may be impossible, and what would make it possible.
    """

    key: str
    says: str
    because: str
    to_get: str
    look: Callable[[Row, Row | None], str | None]


def made_and_not(
    rows: Sequence[Row], measures: Sequence[Measure] = (), reasons: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return `made`: checks with the rows `looked_at` and the sentences of those that `fired`; and `not_possible`.

    The row named "base" is what others are compared to, and is not judged. A check is made when a row has its number.
    `reasons`: key -> (because, to_get), what is known about why a number is missing.
    """
    base = next((row for row in rows if row["name"] == "base"), None)
    judged = [row for row in rows if row is not base]
    made, impossible = [], []
    for check in (*COMMON, *(_of_measure(measure) for measure in measures if measure.limit is not None)):
        looks = {row["name"]: check.look(row, base) for row in judged}
        seen = {name: said for name, said in looks.items() if said is not None}
        if seen:
            fired = {name: said for name, said in seen.items() if said}
            made.append({"key": check.key, "check": check.says, "looked_at": list(seen), "fired": fired})
        else:
            because, to_get = _reason(check, judged, reasons or {})
            impossible.append({"key": check.key, "check": check.says, "because": because, "to_get": to_get})
    return {"made": made, "not_possible": impossible}


def warnings(rows: Sequence[Row], measures: Sequence[Measure] = ()) -> list[str]:
    """Return plain-language signs of reward hacking in panel rows, row by row; an empty list when no check fires."""
    return sentences(rows, made_and_not(rows, measures))


def sentences(rows: Sequence[Row], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the sentences of the checks that fired, row by row, from what `made_and_not` returned."""
    return [check["fired"][row["name"]] for row in rows for check in found["made"] if row["name"] in check["fired"]]


def _reason(check: Check, judged: Sequence[Row], reasons: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if not judged:
        return "there is no row but the base", "tune with more oracle calls"
    if check.key in reasons:
        return reasons[check.key]
    if check.key in ("beyond_measured", "gap") and not any(_scored(row) for row in judged):
        return NOT_SCORED, "see why in failures.csv, and mend the reward"
    return check.because, check.to_get


def _scored(row: Row) -> bool:
    return (row.get("optimised") or {}).get("median") is not None


def _beyond(row: Row, base: Row | None) -> str | None:
    part = row["beyond_measured"]
    if part is None:
        return None
    if part <= BEYOND_ALLOWED:
        return ""
    before = None if base is None else base["beyond_measured"]
    compared = "" if before is None else f" (base: {100 * before:.3g}%)"
    return (
        f"{row['name']}: {100 * part:.3g}% of the designs are predicted to score beyond anything ever "
        f"measured{compared}. No data supports a prediction there; treat these scores as unproven."
    )


def gap_grew(gap: float, before: float, spread: float) -> bool:
    """Whether optimised minus held-out grew by more than is allowed; `spread`: 5-95 % of the base's held-out scores."""
    return gap - before > GAP_GROWTH_ALLOWED * spread


def _gap(row: Row, base: Row | None) -> str | None:
    if base is None or row["gap"] is None or base["gap"] is None:
        return None
    low, high = base["held_out"]["p5"], base["held_out"]["p95"]
    if low is None or high is None:
        return None
    if not gap_grew(row["gap"], base["gap"], high - low):
        return ""
    return (
        f"{row['name']}: the optimised oracle scores the designs better than the held-out one by {pretty(row['gap'])} "
        f"(medians), base by {pretty(base['gap'])}. Part of the gain is seen only by the oracle that was optimised."
    )


def _distance(row: Row, base: Row | None) -> str | None:
    if base is None or row["distance"] is None or not base["distance"]:
        return None
    kept = row["distance"] / base["distance"]
    if kept >= DISTANCE_KEPT:
        return ""
    return (
        f"{row['name']}: the designs have become alike. Two differ at {pretty(row['distance'])} positions "
        f"on average, against {pretty(base['distance'])} for the base ({kept:.0%})."
    )


def near_copies(designs: list[str], name: str = "designs") -> str:
    """Return a sentence when half of the designs or more are near-copies of another; "" when not, or for one design."""
    nearest = nearest_distances(designs)
    if not nearest:
        return ""
    middle, length = statistics.median(nearest), statistics.fmean(map(len, designs))
    row = {"name": name, "n": len(designs), "nearest": middle, "closest": min(nearest), "length": length}
    return _nearest(row, None) or ""


def _nearest(row: Row, base: Row | None) -> str | None:
    nearest, length = row.get("nearest"), row.get("length")
    if nearest is None or not length:
        return None
    if nearest > NEAREST_NEEDED * length:
        return ""
    return (
        f"{row['name']}: near-copies. Half of the designs have another within {pretty(nearest)} of {pretty(length)} "
        f"positions; the closest two differ at {row['closest']}. Count them as a few designs, not as {row['n']}."
    )


def _kl(row: Row, base: Row | None) -> str | None:
    kl = row["kl_policy_base"]
    if kl is None:
        return None
    if kl <= KL_ALLOWED:
        return ""
    return (
        f"{row['name']}: far from the base, KL {pretty(kl)} nats (limit {KL_ALLOWED:g}). The base would "
        "hardly ever make such designs, so its knowledge of natural sequences no longer protects them."
    )


def _unique(row: Row, base: Row | None) -> str | None:
    if row["unique"] is None:
        return None
    if row["unique"] >= UNIQUE_NEEDED:
        return ""
    return f"{row['name']}: only {row['unique']:.1%} of the designs are unique; the rest are repeats."


def _kmers(row: Row, base: Row | None) -> str | None:
    if base is None or row["kmer3"] is None or base["kmer3"] is None:
        return None
    if base["kmer3"] - row["kmer3"] <= KMER_DROP_ALLOWED:
        return ""
    return (
        f"{row['name']}: the short words of the designs have moved away from those of real high-scoring "
        f"sequences: 3-mer correlation {pretty(row['kmer3'])}, base {pretty(base['kmer3'])}."
    )


def _of_measure(measure: Measure) -> Check:
    def look(row: Row, base: Row | None) -> str | None:
        value, before = (None if r is None else r.get("more", {}).get(measure.key) for r in (row, base))
        if value is None or before is None:
            return None
        assert measure.limit is not None
        return measure.warning(str(row["name"]), value, before) if measure.limit.broken(value, before) else ""

    because = f"there is no {measure.header} of these designs"
    return Check(measure.key, measure.check, because, "see the notes of the task's documentation", look)


COMMON = (
    Check(
        "beyond_measured", "no score predicted beyond anything measured", "no largest measured value is known",
        "set reference.measured_max to the largest value that was ever measured", _beyond,
    ),
    Check(
        "gap", "the gap between the two oracles grew little",
        "there is no judge, a second oracle that tuning never saw",
        "add [held_out] with an oracle that shares no data with the reward", _gap,
    ),
    Check(
        "distance", f"at least {DISTANCE_KEPT:.0%} of the base's distance between designs kept",
        "there is no base with two different designs", "judge more designs", _distance,
    ),
    Check(
        "nearest", f"designs differ from their nearest in more than {NEAREST_NEEDED:.0%} of the positions",
        "there are fewer than two designs", "judge more designs", _nearest,
    ),
    Check(
        "kl_policy_base", f"KL to the base at most {KL_ALLOWED:g} nats", "the KL to the base is not known",
        "tune a process whose kernels have a KL", _kl,
    ),
    Check(
        "unique", f"at least {UNIQUE_NEEDED:.0%} of the designs unique", "there are no designs", "draw some", _unique,
    ),
    Check(
        "kmer3", f"3-mer correlation to real sequences at most {KMER_DROP_ALLOWED:g} below the base's",
        "no real high-scoring sequences are known", "name a file of them as reference.sequences", _kmers,
    ),
)  # fmt: skip
