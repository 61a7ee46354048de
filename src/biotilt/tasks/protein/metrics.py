"""What sets of proteins are compared with natural ones by: composition, pairs of residues, repeats, known words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from biotilt.evaluation.metrics import kmer_correlation, kmer_counts
from biotilt.spaces import PROTEIN
from biotilt.tensors import load_tensors, save_tensors

LETTERS = PROTEIN.letters
WORD = 6  # residues: 64 million words, so that two proteins share one by descent rather than by chance
KEPT = 7  # one in so many words is kept, by its number, which shares no factor with 20: a sample that is even
RUN = 6  # a run of one residue at least so long is called a homopolymer; about 1 % of natural sequences have one


@dataclass(frozen=True)
class Reference:
    """What natural sequences look like: counts of residues `(20,)` and pairs `(400,)`, and the words they hold.

    `words`: the different words of six residues whose number (to the base 20) 7 divides, ascending.
    """

    composition: np.ndarray
    pairs: np.ndarray
    words: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[str]) -> Reference:
        """Return that of some sequences."""
        return cls(
            kmer_counts(sequences, 1, LETTERS),
            kmer_counts(sequences, 2, LETTERS),
            np.unique(np.concatenate([np.zeros(0, np.int64), *map(kept_words, sequences)])),
        )

    def save(self, path: Path) -> None:
        """Write it as one safetensors file."""
        tensors = {
            "composition": torch.from_numpy(self.composition).int(),
            "pairs": torch.from_numpy(self.pairs).int(),
            "words": torch.from_numpy(self.words).int(),
        }
        save_tensors(path, tensors, {"kind": "reference of proteins"})

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what `save` wrote."""
        tensors, _ = load_tensors(path)
        return cls(*(tensors[key].long().numpy() for key in ("composition", "pairs", "words")))

    @cached_property
    def known(self) -> frozenset[int]:
        """The words as a set."""
        return frozenset(self.words.tolist())


def word_numbers(sequence: str) -> np.ndarray:
    """Return the words of six residues of a sequence, in their order, as numbers to the base 20.

    >>> word_numbers("AAAAACD").tolist()
    [1, 22]
    """
    tokens = PROTEIN.encode(sequence).long().numpy() if sequence else np.zeros(0, np.int64)
    words = max(len(tokens) - WORD + 1, 0)
    numbers = np.zeros(words, np.int64)
    for place in range(WORD):
        numbers = numbers * len(LETTERS) + tokens[place : place + words]
    return numbers


def kept_words(sequence: str) -> np.ndarray:
    """Return the words of a sequence that a reference may hold: those whose number 7 divides."""
    numbers = word_numbers(sequence)
    return numbers[numbers % KEPT == 0]


def composition_correlation(designs: Sequence[str], reference: Reference) -> float | None:
    """Return Pearson's r between the shares of the 20 residues in all designs together and in the reference."""
    return kmer_correlation(kmer_counts(designs, 1, LETTERS), reference.composition)


def pair_correlation(designs: Sequence[str], reference: Reference) -> float | None:
    """Return Pearson's r between the shares of the 400 pairs of neighbours in the designs and in the reference."""
    return kmer_correlation(kmer_counts(designs, 2, LETTERS), reference.pairs)


def longest_run(design: str) -> int:
    """Return the length of the longest run of one residue.

    >>> longest_run("AACCCD")
    3
    """
    return max((len(list(run)) for _, run in groupby(design)), default=0)


def homopolymer_fraction(designs: Sequence[str]) -> float | None:
    """Return the share of designs with a run of six or more of one residue; None for no designs."""
    return sum(longest_run(design) >= RUN for design in designs) / len(designs) if designs else None


def sequence_entropy(design: str) -> float:
    """Return the Shannon entropy of a design's composition, in bits: 0 to log₂ 20 = 4.32; natural ones about 4.0.

    >>> sequence_entropy("ACAC")
    1.0
    """
    shares = np.array([design.count(letter) for letter in sorted(set(design))]) / max(len(design), 1)
    return float(-(shares * np.log2(shares)).sum())


def known_words_fraction(designs: Sequence[str], reference: Reference) -> float | None:
    """Return the share of words of six residues that stand in the reference; None where there is no word.

    Copies of training sequences have 1, unrelated proteins hardly more than 0. Estimated from a seventh of the words.
    """
    words = [int(word) for design in designs for word in kept_words(design)]
    return sum(word in reference.known for word in words) / len(words) if words else None


def length_and_composition_nats(known: Sequence[str], designs: Sequence[str], longest: int = 150) -> float:
    """Return mean −log p of designs, nats, if lengths and residues were drawn apart, as frequent as in `known`.

    What a generator must beat: it knows how long proteins are and what they are made of, and no more. Lengths 1 to
    `longest`, each counted once more than it is seen.
    """
    lengths = np.bincount([len(sequence) for sequence in known], minlength=longest + 1) + 1.0
    residues = kmer_counts(known, 1, LETTERS) + 1.0
    length_nats, residue_nats = -np.log(lengths / lengths[1:].sum()), -np.log(residues / residues.sum())
    counts = (kmer_counts([design], 1, LETTERS) for design in designs)
    return float(np.mean([length_nats[len(design)] + count @ residue_nats for design, count in zip(designs, counts)]))
