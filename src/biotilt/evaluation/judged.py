"""The designs of one row of the panel, with all that is known about them: what measures are computed from."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from biotilt.core.space import Measured, Space
from biotilt.errors import DataError
from biotilt.evaluation.metrics import Scores, as_array


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


class Judged(list[Any]):
    """A list of B designs that also says what is known about them; most measures need no more than the list.

    Args:
        designs: of the `space`; None where a measure is asked about designs alone.
        optimised: predictions `(B,)` of the oracle that was optimised; NaN = not scored, -inf = infeasible; or None.
        held_out: the same of an oracle that tuning never saw, or None.
        loglik_base: bounds on the log-probability under the base `(B,)`, nats, see `likelihood`; or None.
        reference: of real sequences.
        comparable: whether both oracles speak in the same unit.
        kl_policy_base, kl_base_policy: KL(row's law ‖ base) and KL(base ‖ row's law), nats.
        calls, seconds: spent to get the designs.

    Raises:
        DataError: numbers of designs and scores differ.
    """

    def __init__(
        self, designs: Iterable[Any] = (), *, space: Space[Any] | None = None,
        optimised: Scores | None = None, held_out: Scores | None = None, loglik_base: Scores | None = None,
        reference: Reference = Reference(None, None), comparable: bool = True,
        kl_policy_base: float | None = None, kl_base_policy: float | None = None, calls: int = 0, seconds: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(designs)
        self.space, self.reference, self.comparable = space, reference, comparable
        self.optimised = self._one_each(optimised, "optimised")
        self.held_out = self._one_each(held_out, "held_out")
        self.loglik_base = self._one_each(loglik_base, "loglik_base")
        self.kl_policy_base, self.kl_base_policy = kl_policy_base, kl_base_policy
        self.calls, self.seconds = calls, seconds

    def _one_each(self, scores: Scores | None, what: str) -> np.ndarray | None:
        array = None if scores is None else as_array(scores)
        if array is not None and len(array) != len(self):
            raise DataError(f"{len(self)} designs but {len(array)} values of {what}")
        return array

    @functools.cached_property
    def keys(self) -> list[str]:
        """By what each design is known: two of one key are one design."""
        return [str(design) if self.space is None else self.space.key(design) for design in self]

    @functools.cached_property
    def nearest(self) -> list[float]:
        """The distance of each design to the nearest other, [] where the space has none."""
        return self.space.nearest_distances(self) if isinstance(self.space, Measured) else []
