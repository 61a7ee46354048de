"""The measured elements behind the task `enhancer`, and their split: no part shares a stretch of 30 bp with another."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biotilt.rewards.dna.motifs import reverse_complement
from biotilt.spaces import DNA, numbers, read_designs

ELEMENTS = "lentimpra_hepg2_wtc11.csv.gz"
SHARED = 30  # letters: elements that share such a stretch, on either strand, stay together
HEPG2, WTC11 = "HepG2", "WTC11"


@dataclass(frozen=True)
class Element:
    """One region of the genome: `sequence` on its canonical strand, `activity` the mean of the strands measured."""

    region: str
    sequence: str
    activity: float


Elements = list[Element]


def read_elements(path: Path) -> dict[str, Elements]:
    """Return the elements of each cell type, one row a region: log2(RNA/DNA), averaged over the strands measured."""
    records = read_designs(path, DNA, column="sequence")
    measured: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for record, value in zip(records, numbers(records, "log2_rna_dna", path)):
        measured[record.values["cell"], record.values["region"]].append((record.design, value))
    found: dict[str, Elements] = {HEPG2: [], WTC11: []}
    for (cell, region), rows in measured.items():
        sequence = min(rows[0][0], reverse_complement(rows[0][0]))
        found[cell].append(Element(region, sequence, sum(value for _, value in rows) / len(rows)))
    return found


def clusters(sequences: list[str], width: int = SHARED) -> list[int]:
    """Return a cluster number for each sequence: those that share `width` ≤ 31 letters, on either strand, join.

    Sequences have one length of at least `width`.

    >>> clusters(["AACCA", "TTTTG", "GGTTC"], width=4)  # AACC is the reverse complement of GGTT
    [0, 1, 0]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    words = canonical_words(sequences, width)
    rows = np.repeat(np.arange(len(sequences)), words.shape[1])
    words = words.ravel()
    order = np.argsort(words, kind="stable")
    same = np.flatnonzero(words[order][1:] == words[order][:-1])
    edges = (rows[order][same], rows[order][same + 1])
    size = len(sequences)
    _, labels = connected_components(coo_matrix((np.ones(len(same)), edges), (size, size)), directed=False)
    return labels.tolist()


def canonical_words(sequences: list[str], width: int = SHARED) -> np.ndarray:
    """Return a number `(N, L − width + 1)` for each word of `width` ≤ 31 letters, the same for both strands.

    >>> canonical_words(["AAC", "GTT"], width=3).tolist()
    [[1], [1]]
    """
    tokens = DNA.encode_many(sequences).numpy().astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, width, axis=1)
    places = 4 ** np.arange(width)
    return np.minimum(windows @ places[::-1], (3 - windows) @ places)


def split(elements: dict[str, Elements]) -> dict[str, dict[str, Elements]]:
    """Return parts → cell type → elements. No two parts share a cluster.

    Of HepG2, 40 % of the clusters train the generator, which never sees an activity, and serve as the common test of
    both oracles, which never see them; 30 % go to each oracle. WTC11 has no generator: what would be the
    generator's is a test (a tenth of all) or goes to the oracles, unless the generator has seen some of its cluster.
    """
    every = [(cell, element) for cell, group in elements.items() for element in group]
    members: dict[int, list[tuple[str, Element]]] = defaultdict(list)
    for row, label in zip(every, clusters([element.sequence for _, element in every])):
        members[label].append(row)
    parts: dict[str, dict[str, Elements]] = {
        part: {HEPG2: [], WTC11: []} for part in ("generator", "optimised", "held_out")
    }
    for rows in members.values():
        bucket = _hash(min(element.region for _, element in rows)) % 100
        part = "generator" if bucket < 40 else "optimised" if bucket < 70 else "held_out"
        if part == "generator" and bucket >= 10 and all(cell == WTC11 for cell, _ in rows):
            part = "optimised" if bucket < 25 else "held_out"
        for cell, element in rows:
            parts[part][cell].append(element)
    return parts


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
