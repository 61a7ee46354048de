"""Rewards of double-stranded DNA: the other strand, and binding motifs of transcription factors (JASPAR)."""

from __future__ import annotations

import math
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from biotilt.errors import ConfigError, needs_extra, suggest
from biotilt.options import Inside, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.spaces.alphabet import DNA

RELEASE = "JASPAR2024"
_STEP = 0.01  # bits: log-odds are rounded to it, so that the law of a score is exact
_COMPLEMENT = str.maketrans("ACGTUacgtu", "TGCAAtgcaa")


def reverse_complement(sequence: str) -> str:
    """Return the other strand of a DNA sequence, read from its own 5′ end; U is read as T.

    >>> reverse_complement("AACGT")
    'ACGTT'
    """
    return sequence.translate(_COMPLEMENT)[::-1]


def log_odds(counts: Tensor) -> Tensor:
    """Return log₂ of letter probabilities over 1/4, `(w, 4)` in bits, of the counts `(w, 4)` of a matrix.

    Each place with n sites gets √n/4 pseudo-counts a letter, as Bio.motifs.jaspar does; results are rounded to 0.01
    bit. Letters are in the order A, C, G, T.
    """
    sites = counts.double().sum(-1, keepdim=True)
    probability = (counts.double() + sites.sqrt() / 4) / (sites + sites.sqrt())
    return ((probability * 4).log2() / _STEP).round() * _STEP


def score_threshold(matrix: Tensor, p_value: float) -> float:
    """Return the lowest score that at most `p_value` of all words reach, letters being equally likely.

    `matrix`: log-odds `(w, 4)` of `log_odds`. The law of the score is added up place by place (Staden 1989), so it is
    exact. The threshold lies half a step below the score, out of the way of rounding errors.

    Raises ConfigError when even the best word is more likely than `p_value`.
    """
    steps = (matrix.double() / _STEP).round().long().numpy()
    lowest = steps.min(1)
    law = np.ones(1)  # of the score above the lowest possible
    for row in steps - lowest[:, None]:
        longer = np.zeros(len(law) + row.max())
        for gain in row:
            longer[gain : gain + len(law)] += law / 4
        law = longer
    reached = np.cumsum(law[::-1])[::-1]  # P(score ≥ s)
    rare = np.flatnonzero(reached <= p_value * (1 + 1e-9))
    if not len(rare):
        raise ConfigError(
            f"p_value = {p_value:g} is below {reached[-1]:.2g}, the chance of the best word of {len(matrix)} letters"
        )
    # between two attained scores any threshold means the same; take the upper one, which is attained
    attained = rare[law[rare] > 0][0]
    return float(lowest.sum() + attained - 0.5) * _STEP


class MotifScan:
    """Scores of several matrices at every place of one-hot or relaxed designs, by convolution.

    `matrices`: log-odds `(w, 4)`, of any widths. With `both_strands` the other strand is read too, by the
    reverse complement of each matrix.
    """

    def __init__(self, matrices: Sequence[Tensor], *, both_strands: bool = True) -> None:
        self.count = len(matrices)
        by_width: dict[int, list[int]] = defaultdict(list)
        for place, matrix in enumerate(matrices):
            by_width[len(matrix)].append(place)
        self._groups: list[tuple[list[int], Tensor]] = []
        for places in by_width.values():
            group = torch.stack([matrices[i].float() for i in places])
            # letters are in the order A, C, G, T: turning both axes around is the reverse complement
            strands = [group, group.flip(1, 2)] if both_strands else [group]
            self._groups.append((places, torch.stack(strands, 1).flatten(0, 1).transpose(1, 2)))

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Return for each matrix its scores `(B, S, L − w + 1)` on S strands of designs `(B, L, 4)`, with gradients.

        A place is numbered from the left end of the given strand, on both strands. A matrix that is wider than the
        designs has no place.
        """
        found: list[Tensor] = [x.new_zeros(0)] * self.count
        for places, kernels in self._groups:
            if kernels.shape[-1] > x.shape[1]:
                scores = x.new_zeros(len(x), len(kernels), 0)
            else:
                scores = F.conv1d(x.transpose(1, 2), kernels.to(x))
            for place, score in zip(places, scores.unflatten(1, (len(places), -1)).unbind(1)):
                found[place] = score
        return found


@dataclass(frozen=True)
class Motif:
    """How well a design binds the factors of JASPAR matrices: log-odds or hits, summed over the matrices.

    `matrices`: ids with their version, such as "MA0114.5" (HNF4A). `score`: "best", the largest log-odds of a word of
    the design (bits, against equally likely letters; differentiable); "count", the number of hits, which are
    words that at most `p_value` of random words match as well; "soft_count", Σ σ(log-odds − threshold) over all
    places, a smooth count (differentiable). On both strands unless `both_strands` is false. A relaxed design scores
    its expected log-odds at each place.

    A design that is shorter than a matrix has no best word and is not scored; it counts 0 hits.

    Raises ConfigError for an unknown id or release, and for a `p_value` that no word of a matrix reaches, or when
    pyjaspar is missing (`pip install pyjaspar`).

    Source: Stormo 2000, Bioinformatics 16:16 (log-odds matrices); JASPAR 2024, NAR 52:D174.

    >>> hnf4a = Motif(["MA0114.5"], score="count")
    >>> hnf4a(["TTTTCAAAGTCCATTTT", "TTTTGGACTTTGTTTT", "TTTTTTTTTTTTTTTT"])
    [1.0, 1.0, 0.0]
    """

    matrices: Annotated[Sequence[str], Field(min_length=1)]
    score: Literal["best", "count", "soft_count"] = "best"
    p_value: Inside = 1e-4
    both_strands: bool = True
    release: str = RELEASE

    name = "motif"

    def __post_init__(self) -> None:
        check_options(self, 'reward "motif"')
        object.__setattr__(self, "matrices", tuple(dict.fromkeys(self.matrices)))
        # so that a wrong id or an impossible p-value is found before any design is scored
        _ = self._odds, self._thresholds

    @property
    def differentiable(self) -> bool:
        return self.score != "count"

    @property
    def units(self) -> str:
        return "bits" if self.score == "best" else "hits"

    @cached_property
    def version(self) -> str:
        counts = [jaspar_matrix(matrix, self.release)[1].tolist() for matrix in self.matrices]
        return f"1-{digest(repr((self, counts)))}"

    @cached_property
    def _odds(self) -> list[Tensor]:
        return [log_odds(jaspar_matrix(matrix, self.release)[1]) for matrix in self.matrices]

    @cached_property
    def _scan(self) -> MotifScan:
        return MotifScan(self._odds, both_strands=self.both_strands)

    @cached_property
    def _thresholds(self) -> list[float]:
        if self.score == "best":
            return [-math.inf] * len(self.matrices)
        try:
            return [score_threshold(matrix, self.p_value) for matrix in self._odds]
        except ConfigError as error:
            raise ConfigError(f'reward "motif": {error}') from error

    def __call__(self, designs: list[str]) -> list[float]:
        by_length: dict[int, list[int]] = defaultdict(list)
        for row, design in enumerate(designs):
            by_length[len(design)].append(row)
        widest = max(len(matrix) for matrix in self._odds)
        scores: list[float] = [0.0] * len(designs)
        for length, rows in by_length.items():
            if length < widest and self.score == "best":
                reason = f"the design has {length} letters, and a matrix {widest}"
                values: Sequence[float] = [NotScored(reason)] * len(rows)
            elif length == 0:
                values = [0.0] * len(rows)
            else:
                tokens = DNA.encode_many([designs[row] for row in rows])
                with torch.no_grad():
                    values = self.score_one_hot(F.one_hot(tokens.long(), 4).double()).tolist()
            for row, value in zip(rows, values):
                scores[row] = value
        return scores

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of one-hot or relaxed designs `(B, L, 4)`; gradients flow unless `score` counts."""
        total = x.new_zeros(len(x))
        for scores, threshold in zip(self._scan(x), self._thresholds):
            places = scores.flatten(1)
            if self.score == "best":
                total = total + places.amax(1)
            elif self.score == "count":
                total = total + (places > threshold).sum(1)
            else:
                total = total + (places - threshold).sigmoid().sum(1)
        return total


@cache
def jaspar_matrix(matrix_id: str, release: str = RELEASE) -> tuple[str, Tensor]:
    """Return the name of a factor and the counts `(w, 4)` of its JASPAR matrix, letters in the order A, C, G, T.

    Raises ConfigError for an unknown release or id, or when pyjaspar is missing.

    >>> name, counts = jaspar_matrix("MA0114.5")
    >>> name, tuple(counts.shape)
    ('HNF4A', (9, 4))
    """
    database = _database(release)
    # without its version an id would mean another matrix in another release
    versioned = re.fullmatch(r"[A-Z]+\d+\.\d+", matrix_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyjaspar warns where we raise
        motif = database.fetch_motif_by_id(matrix_id) if versioned else None
    if motif is None:
        raise ConfigError(
            f'{release} has no matrix "{matrix_id}": give an id with its version, such as MA0114.5, as listed at '
            "https://jaspar.elixir.no"
        )
    return motif.name, torch.tensor([motif.counts[letter] for letter in "ACGT"], dtype=torch.float64).T


@cache
def _database(release: str) -> Any:
    pyjaspar = needs_extra("pyjaspar", "dna")
    releases = pyjaspar.jaspardb().get_releases()
    if release not in releases:
        raise ConfigError(f'unknown JASPAR release "{release}"{suggest(release, releases)}')
    return pyjaspar.jaspardb(release=release)
