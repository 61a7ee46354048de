"""The panel that every comparison reports, one row a set of designs, and the signs of reward hacking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from biotilt.core import Policy
from biotilt.errors import DataError
from biotilt.evaluation.metrics import (
    Scores,
    as_array,
    beyond,
    kmer_correlation,
    kmer_counts,
    mean_pairwise_distance,
    summary,
    unique_fraction,
)

Row = dict[str, Any]

# A single design above anything ever measured is worth a line on the page: no data supports the oracle there.
BEYOND_ALLOWED = 0.0
# A gap (optimised minus held-out) may grow with the score; growing by more than a quarter of the base's
# 5-95 % spread means that much of the gain is seen only by the oracle that was optimised.
GAP_GROWTH_ALLOWED = 0.25
# A judgement: the runs on 5'UTRs in docs/algorithms.md that stayed natural keep 0.9 of the base's distance or more.
DISTANCE_KEPT = 0.8
# 15 nats: the base would have to draw e^15, three million designs, to show one like these.
# The runs in docs/algorithms.md end at 0 to 10 nats.
KL_ALLOWED = 15.0
# The published bar for a set of designs, and what the base itself reaches with ease.
UNIQUE_NEEDED = 0.95
# On the two published fronts for enhancers natural sets keep r >= 0.85, and hacked ones lose 0.3 or more.
KMER_DROP_ALLOWED = 0.15

CHECKS = (
    "no score predicted beyond anything measured",
    "the gap between the two oracles grew little",
    f"at least {DISTANCE_KEPT:.0%} of the base's distance between designs kept",
    f"KL to the base at most {KL_ALLOWED:g} nats",
    f"at least {UNIQUE_NEEDED:.0%} of the designs unique",
    f"3-mer correlation to real sequences at most {KMER_DROP_ALLOWED:g} below the base's",
)
"""What `warnings` looks at, one phrase a check, in its order: for a page that says that none fired."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What real measurements say about good designs.

    Args:
        kmer3: counts of the k-mers of real high-scoring sequences, `(len(letters)**kmer_k,)`, in the order of
            `kmer_counts`; None when there are none.
        measured_max: the largest score ever measured, in units of the reward; None when unknown.
        kmer_k: length of the words.
        letters: the alphabet of the designs, in the order of the counts.

    Raises:
        DataError: the counts do not fit `kmer_k` and `letters`.
    """

    kmer3: np.ndarray | None
    measured_max: float | None
    kmer_k: int = 3
    letters: str = "ACGT"

    def __post_init__(self) -> None:
        size = len(self.letters) ** self.kmer_k
        if self.kmer3 is not None and self.kmer3.shape != (size,):
            raise DataError(
                f"the reference has k-mer counts of shape {self.kmer3.shape}; "
                f"{self.kmer_k}-mers of the letters {self.letters} need ({size},)"
            )


def panel(
    name: str,
    designs: list[str],
    optimised: Scores,
    held_out: Scores | None,
    *,
    reference: Reference,
    loglik_base: Scores | None,
    kl_policy_base: float | None,
    kl_base_policy: float | None,
    calls: int,
    seconds: float,
) -> Row:
    """Return one row of `summary.json`: plain numbers, or None where a number does not exist, never NaN.

    Args:
        name: of the row, such as "base", "best_of_n" or "tuned".
        designs: B texts.
        optimised: predictions `(B,)` of the oracle that was optimised; NaN = not scored, -inf = infeasible.
        held_out: the same of an oracle that tuning never saw, or None.
        reference: of real sequences.
        loglik_base: bounds on the log-probability under the base `(B,)`, nats, see `likelihood`; or None.
        kl_policy_base, kl_base_policy: KL(row's law ‖ base) and KL(base ‖ row's law), nats.
        calls, seconds: spent to get the designs.

    `optimised` and `held_out` of the row have median, p5, p95 and mean; `gap` is the difference of the two
    medians; `beyond_measured` is the fraction whose prediction by either oracle exceeds anything measured;
    `distance` the mean pairwise Hamming distance; `unscored` and `infeasible` count designs by the optimised
    oracle.

    Raises:
        DataError: numbers of designs and scores differ.
    """
    given = {"optimised": optimised, "held_out": held_out, "loglik_base": loglik_base}
    arrays = {key: None if scores is None else as_array(scores) for key, scores in given.items()}
    for key, array in arrays.items():
        if array is not None and len(array) != len(designs):
            raise DataError(f'row "{name}": {len(designs)} designs but {len(array)} values of {key}')
    first, second, likelihoods = arrays["optimised"], arrays["held_out"], arrays["loglik_base"]
    assert first is not None
    tuned_on = summary(first)
    judged_by = None if second is None else summary(second)
    return {
        "name": name,
        "n": len(designs),
        "unscored": tuned_on["unscored"],
        "infeasible": tuned_on["infeasible"],
        "optimised": _statistics(tuned_on),
        "held_out": None if judged_by is None else _statistics(judged_by),
        "gap": None if judged_by is None else _number(tuned_on["median"] - judged_by["median"]),
        "beyond_measured": _beyond_measured(first, second, reference.measured_max),
        "unique": _number(unique_fraction(designs)),
        "distance": _number(mean_pairwise_distance(designs)),
        "kmer3": _kmer_correlation(designs, reference),
        "loglik_base": None if likelihoods is None else _number(summary(likelihoods)["mean"]),
        "kl_policy_base": _number(kl_policy_base),
        "kl_base_policy": _number(kl_base_policy),
        "calls": int(calls),
        "seconds": _number(seconds),
    }


@torch.no_grad()
def likelihood(policy: Policy, designs: Tensor, generator: Generator, *, draws: int = 8, chunk: int = 512) -> Tensor:
    """Return minus the mean denoising loss of each design over `draws` draws, `(B,)`, nats.

    It is an unbiased estimate of a lower bound on the design's log-probability under the policy (the ELBO of
    the process), not the log-probability: compare it between designs under one policy only.

    Args:
        policy: whose likelihood; usually the base.
        designs: `(B, ...)`, as the process takes them.
        generator: draws the corruptions.
        draws: corruptions a design, at least 1; the error falls as 1/√draws.
        chunk: designs a network call.
    """
    losses = []
    for part in designs.split(chunk):
        total = sum(policy.process.denoising_loss(policy.net, part, generator) for _ in range(draws))
        losses.append(-torch.as_tensor(total) / draws)
    return torch.cat(losses) if losses else torch.zeros(0, device=designs.device)


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return plain-language signs of reward hacking in panel rows; an empty list when no check fires.

    The row named "base" is what the others are compared to, and is not judged; without it only the absolute
    checks run. A check whose number is None is skipped. What is checked is listed in `CHECKS`.
    """
    base = next((row for row in rows if row["name"] == "base"), None)
    found = []
    for row in rows:
        if row is not base:
            found += _beyond_warning(row, base) + _gap_warning(row, base) + _distance_warning(row, base)
            found += _kl_warning(row) + _unique_warning(row) + _kmer_warning(row, base)
    return found


def _beyond_warning(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    part = row["beyond_measured"]
    if part is None or part <= BEYOND_ALLOWED:
        return []
    before = None if base is None else base["beyond_measured"]
    compared = "" if before is None else f" (base: {100 * before:.3g}%)"
    return [
        f"{row['name']}: {100 * part:.3g}% of the designs are predicted to score beyond anything ever "
        f"measured{compared}. No data supports a prediction there; treat these scores as unproven."
    ]


def _gap_warning(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    if base is None or row["gap"] is None or base["gap"] is None:
        return []
    low, high = base["held_out"]["p5"], base["held_out"]["p95"]
    if low is None or high is None or row["gap"] - base["gap"] <= GAP_GROWTH_ALLOWED * (high - low):
        return []
    return [
        f"{row['name']}: the optimised oracle scores the designs {row['gap']:+.2f} against the held-out one, "
        f"base {base['gap']:+.2f}. Part of the gain is seen only by the oracle that was optimised."
    ]


def _distance_warning(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    if base is None or row["distance"] is None or not base["distance"]:
        return []
    kept = row["distance"] / base["distance"]
    if kept >= DISTANCE_KEPT:
        return []
    return [
        f"{row['name']}: the designs have become alike. Two differ at {row['distance']:.1f} positions "
        f"on average, against {base['distance']:.1f} for the base ({kept:.0%})."
    ]


def _kl_warning(row: Mapping[str, Any]) -> list[str]:
    kl = row["kl_policy_base"]
    if kl is None or kl <= KL_ALLOWED:
        return []
    return [
        f"{row['name']}: far from the base, KL {kl:.1f} nats (limit {KL_ALLOWED:g}). The base would "
        "hardly ever make such designs, so its knowledge of natural sequences no longer protects them."
    ]


def _unique_warning(row: Mapping[str, Any]) -> list[str]:
    if row["unique"] is None or row["unique"] >= UNIQUE_NEEDED:
        return []
    return [f"{row['name']}: only {row['unique']:.1%} of the designs are unique; the rest are repeats."]


def _kmer_warning(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    if base is None or row["kmer3"] is None or base["kmer3"] is None:
        return []
    if base["kmer3"] - row["kmer3"] <= KMER_DROP_ALLOWED:
        return []
    return [
        f"{row['name']}: the short words of the designs have moved away from those of real high-scoring "
        f"sequences: 3-mer correlation {row['kmer3']:.2f}, base {base['kmer3']:.2f}."
    ]


def _beyond_measured(first: np.ndarray, second: np.ndarray | None, limit: float | None) -> float | None:
    if limit is None:
        return None
    # fmax: a design that one oracle could not score is judged by the other
    highest = first if second is None else np.fmax(first, second)
    return _number(beyond(highest, limit))


def _kmer_correlation(designs: list[str], reference: Reference) -> float | None:
    if reference.kmer3 is None:
        return None
    counts = kmer_counts(designs, reference.kmer_k, reference.letters)
    return _number(kmer_correlation(counts, reference.kmer3))


def _statistics(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {key: _number(numbers[key]) for key in ("median", "p5", "p95", "mean")}


def _number(value: float | None) -> float | None:
    """Return a plain float, or None for what strict JSON cannot hold."""
    return float(value) if value is not None and math.isfinite(value) else None
