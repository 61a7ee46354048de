"""The panel that every comparison reports: one row a set of designs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from biotilt.core import Policy
from biotilt.core.space import Measured, Space
from biotilt.errors import DataError
from biotilt.evaluation.measure import plain
from biotilt.evaluation.metrics import (
    Scores,
    as_array,
    beyond,
    kmer_correlation,
    kmer_counts,
    summary,
    unique_fraction,
)
from biotilt.spaces import Text

Row = dict[str, Any]


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
    designs: list[Any],
    optimised: Scores,
    held_out: Scores | None,
    *,
    space: Space[Any],
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
        designs: B of them, of the `space`.
        optimised: predictions `(B,)` of the oracle that was optimised; NaN = not scored, -inf = infeasible.
        held_out: the same of an oracle that tuning never saw, or None.
        reference: of real sequences.
        loglik_base: bounds on the log-probability under the base `(B,)`, nats, see `likelihood`; or None.
        kl_policy_base, kl_base_policy: KL(row's law ‖ base) and KL(base ‖ row's law), nats.
        calls, seconds: spent to get the designs.

    `optimised` and `held_out` of the row have median, p5, p95 and mean; `gap` is the difference of the two
    medians; `beyond_measured` is the fraction whose prediction by either oracle exceeds anything measured;
    `distance` the mean distance of pairs as the space measures it (Hamming of texts, Euclidean of arrays), `closest`
    that of the closest pair, `nearest` the median over designs of the distance to the nearest other, `length` the mean
    length of texts; `unscored` and `infeasible` count designs by the
    optimised oracle.

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
        "gap": None if judged_by is None else plain(tuned_on["median"] - judged_by["median"]),
        "beyond_measured": _beyond_measured(first, second, reference.measured_max),
        "unique": plain(unique_fraction([space.key(design) for design in designs])),
        **_closeness(designs, space),
        "kmer3": _kmer_correlation(designs, reference),
        "loglik_base": None if likelihoods is None else plain(summary(likelihoods)["mean"]),
        "kl_policy_base": plain(kl_policy_base),
        "kl_base_policy": plain(kl_base_policy),
        "calls": int(calls),
        "seconds": plain(seconds),
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


def _closeness(designs: list[Any], space: Space[Any]) -> dict[str, float | None]:
    distance, nearest = None, list[float]()
    if isinstance(space, Measured):
        distance, nearest = plain(space.mean_distance(designs)), space.nearest_distances(designs)
    length = statistics.fmean(map(len, designs)) if designs and isinstance(space, Text) else None
    median = statistics.median(nearest) if nearest else None
    return {"distance": distance, "closest": min(nearest, default=None), "nearest": median, "length": length}


def _beyond_measured(first: np.ndarray, second: np.ndarray | None, limit: float | None) -> float | None:
    if limit is None:
        return None
    # fmax: a design that one oracle could not score is judged by the other
    highest = first if second is None else np.fmax(first, second)
    return plain(beyond(highest, limit))


def _kmer_correlation(designs: list[str], reference: Reference) -> float | None:
    if reference.kmer3 is None:
        return None
    counts = kmer_counts(designs, reference.kmer_k, reference.letters)
    return plain(kmer_correlation(counts, reference.kmer3))


def _statistics(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {key: plain(numbers[key]) for key in ("median", "p5", "p95", "mean")}
