"""The measures of every panel, in the order of its columns, and what each is checked for."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from biotilt.core.space import Measured, Space
from biotilt.digits import pretty
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.measure import Check, Limit, Measure, Row, Value, plain
from biotilt.evaluation.metrics import beyond, kmer_correlation, kmer_counts, summary, unique_fraction
from biotilt.spaces import Text

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


def common_measures(space: Space[Any] | None = None) -> tuple[Measure, ...]:
    """Return the measures of every panel; those of distance speak of the `space`, by default one of texts."""
    return (*SCORES, *_diversity(space), *NATURALNESS, *COST)


def _statistics(scores: np.ndarray | None) -> dict[str, float | None] | None:
    if scores is None:
        return None
    numbers = summary(scores)
    return {key: plain(numbers[key]) for key in ("median", "p5", "p95", "mean")}


def _gap(designs: Judged) -> Value:
    if designs.optimised is None or designs.held_out is None or not designs.comparable:
        return None
    return summary(designs.optimised)["median"] - summary(designs.held_out)["median"]


def gap_grew(gap: float, before: float, spread: float) -> bool:
    """Whether optimised minus held-out grew by more than is allowed; `spread`: 5-95 % of the base's held-out scores."""
    return gap - before > GAP_GROWTH_ALLOWED * spread


def _look_at_gap(row: Row, base: Row | None) -> str | None:
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


def _beyond_measured(designs: Judged) -> Value:
    limit, first, second = designs.reference.measured_max, designs.optimised, designs.held_out
    if limit is None or first is None:
        return None
    # fmax: a design that one oracle could not score is judged by the other
    return beyond(first if second is None else np.fmax(first, second), limit)


def _look_beyond(row: Row, base: Row | None) -> str | None:
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


SCORES = (
    Measure(
        "optimised", "Optimised",
        "Score by the oracle that tuning optimised: median, and the range that holds the middle 90% of the "
        "designs. A rise here alone proves nothing.",
        lambda designs: _statistics(designs.optimised), written="scores", place="panel",
        columns={"optimised": "score by the reward that was optimised; higher is better"},
    ),
    Measure(
        "held_out", "Held-out",
        "Score by an oracle that shares no training data with the optimised one and that tuning never saw: "
        "median and middle 90%. This is the column to compare.",
        lambda designs: _statistics(designs.held_out), written="scores", place="panel",
        columns={"held_out": "score by the judge, the oracle that tuning never saw; higher is better"},
    ),
    Measure(
        "gap", "Gap",
        "Optimised median minus held-out median. If it grows much beyond the base's, part of the gain exists "
        "only in the eyes of the optimised oracle.",
        _gap, place="panel",
        limit=Check(
            "the gap between the two oracles grew little", "there is no judge, a second oracle that tuning never saw",
            "add [held_out] with an oracle that shares no data with the reward", _look_at_gap,
        ),
    ),
    Measure(
        "beyond_measured", "Beyond measured",
        "Share of designs that either oracle predicts above the largest value ever measured. No data "
        "supports a prediction there.",
        _beyond_measured, written="percent", place="panel",
        limit=Check(
            "no score predicted beyond anything measured", "no largest measured value is known",
            "set reference.measured_max to the largest value that was ever measured", _look_beyond,
        ),
    ),
)  # fmt: skip


def _look_at_unique(row: Row, base: Row | None) -> str | None:
    if row["unique"] is None:
        return None
    if row["unique"] >= UNIQUE_NEEDED:
        return ""
    return f"{row['name']}: only {row['unique']:.1%} of the designs are unique; the rest are repeats."


def _mean_distance(designs: Judged) -> Value:
    return designs.space.mean_distance(designs) if isinstance(designs.space, Measured) else None


def _mean_length(designs: Judged) -> Value:
    return statistics.fmean(map(len, designs)) if designs and isinstance(designs.space, Text) else None


def _look_at_nearest(row: Row, base: Row | None) -> str | None:
    nearest, length = row.get("nearest"), row.get("length")
    if nearest is None or not length:
        return None
    if nearest > NEAREST_NEEDED * length:
        return ""
    return (
        f"{row['name']}: near-copies. Half of the designs have another within {pretty(nearest)} of {pretty(length)} "
        f"positions; the closest two differ at {row['closest']}. Count them as a few designs, not as {row['n']}."
    )


def near_copies(designs: list[str], space: Text, name: str = "designs") -> str:
    """Return a sentence when half of the designs or more are near-copies of another; "" when not, or for one design."""
    known = Judged(designs, space=space)
    row: dict[str, Any] = {"name": name, "n": len(designs)}
    for measure in _diversity(space):
        measure.put(row, measure(known))
    return _look_at_nearest(row, None) or ""


def _diversity(space: Space[Any] | None) -> tuple[Measure, ...]:
    what = Text.distance_is if space is None else Measured.distance_is
    what = space.distance_is if isinstance(space, Measured) else what
    apart = space.apart if isinstance(space, Measured) else lambda distance: f"differ at {distance} positions"

    def look_at_distance(row: Row, base: Row | None) -> str | None:
        if base is None or row["distance"] is None or not base["distance"]:
            return None
        kept = row["distance"] / base["distance"]
        if kept >= DISTANCE_KEPT:
            return ""
        return (
            f"{row['name']}: the designs have become alike. Two {apart(pretty(row['distance']))} on average, against "
            f"{pretty(base['distance'])} for the base ({kept:.0%})."
        )

    return (
        Measure(
            "unique", "Unique", "Share of different designs in the set; repeats lower it.",
            lambda designs: unique_fraction(designs.keys), written="percent", place="panel",
            limit=Check(
                f"at least {UNIQUE_NEEDED:.0%} of the designs unique", "there are no designs", "draw some",
                _look_at_unique,
            ),
        ),
        Measure(
            "distance", "Distance",
            f"Of two designs of the set, on average: {what}. A fall means less diverse designs.",
            _mean_distance, place="panel",
            limit=Check(
                f"at least {DISTANCE_KEPT:.0%} of the base's distance between designs kept",
                "there is no base with two different designs", "judge more designs", look_at_distance,
            ),
        ),
        Measure(
            "closest", "Closest pair", f"Of the two most alike designs of the set: {what}; 0 for a repeat.",
            lambda designs: min(designs.nearest, default=None), place="panel",
            written="count" if space is None or isinstance(space, Text) else "number",
        ),
        Measure(
            "nearest", "Nearest other", f"Of a design and the one most like it: {what}; the median over designs.",
            lambda designs: statistics.median(designs.nearest) if designs.nearest else None, place="hidden",
            limit=Check(
                f"designs differ from their nearest in more than {NEAREST_NEEDED:.0%} of the positions",
                "there are fewer than two designs", "judge more designs", _look_at_nearest,
            ),
        ),
        Measure(
            "length", "Length", "Mean number of letters of a design, where designs are texts.",
            _mean_length, place="hidden",
        ),
    )  # fmt: skip


def _kmer_correlation(designs: Judged) -> Value:
    known = designs.reference
    if known.kmer3 is None:
        return None
    return kmer_correlation(kmer_counts(designs, known.kmer_k, known.letters), known.kmer3)


def _look_at_kmers(row: Row, base: Row | None) -> str | None:
    if base is None or row["kmer3"] is None or base["kmer3"] is None:
        return None
    if not Limit(fall=KMER_DROP_ALLOWED).broken(row["kmer3"], base["kmer3"]):
        return ""
    return (
        f"{row['name']}: the short words of the designs have moved away from those of real high-scoring "
        f"sequences: 3-mer correlation {pretty(row['kmer3'])}, base {pretty(base['kmer3'])}."
    )


def _look_at_kl(row: Row, base: Row | None) -> str | None:
    kl = row["kl_policy_base"]
    if kl is None:
        return None
    if kl <= KL_ALLOWED:
        return ""
    return (
        f"{row['name']}: far from the base, KL {pretty(kl)} nats (limit {KL_ALLOWED:g}). The base would "
        "hardly ever make such designs, so its knowledge of natural designs no longer protects them."
    )


NATURALNESS = (
    Measure(
        "kmer3", "3-mer\u00a0r",
        "Correlation between the frequencies of three-letter words in the designs and in real high-scoring "
        "sequences; 1 is identical.",
        _kmer_correlation, place="panel", natural=True,
        limit=Check(
            f"3-mer correlation to real sequences at most {KMER_DROP_ALLOWED:g} below the base's",
            "no real high-scoring sequences are known", "name a file of them as reference.sequences", _look_at_kmers,
        ),
    ),
    Measure(
        "loglik_base", "log p, base",
        "Mean log-likelihood of the designs under the untuned generator, in nats: a lower bound on it (the "
        "denoising loss). Much lower than the base's own: unlikely designs. Much higher: designs that all "
        "follow the generator's favourite patterns.",
        lambda designs: None if designs.loglik_base is None else summary(designs.loglik_base)["mean"], place="panel",
        columns={"log_p_base": "bound on the log-probability under the untuned generator, nats"},
    ),
    Measure(
        "kl_policy_base", "KL to base",
        "KL divergence of the set's law from the base, in nats: how unusual the designs are for the untuned generator.",
        lambda designs: designs.kl_policy_base, place="panel",
        limit=Check(
            f"KL to the base at most {KL_ALLOWED:g} nats", "the KL to the base is not known",
            "tune a process whose kernels have a KL", _look_at_kl,
        ),
    ),
    Measure(
        "kl_base_policy", "KL from base",
        "KL divergence of the base from the set's law, in nats. It grows when kinds of natural designs are "
        "no longer made, which the other direction does not see.",
        lambda designs: designs.kl_base_policy, place="panel",
    ),
)  # fmt: skip

COST = (
    Measure(
        "calls", "Calls", "How many designs the oracle scored to obtain this set.", lambda designs: designs.calls,
        written="count", place="panel",
    ),
    Measure(
        "seconds", "Time", "Time to obtain this set, tuning included.", lambda designs: designs.seconds,
        written="duration", place="panel",
    ),
)  # fmt: skip

PANEL = common_measures()


def columns(measures: Sequence[Measure] = PANEL) -> tuple[Measure, ...]:
    """Return those measures that are columns of the panel."""
    return tuple(measure for measure in measures if measure.place == "panel")
