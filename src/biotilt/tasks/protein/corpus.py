"""The sequences of the task: reading them, and parts that share no relatives."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from biotilt.files import read_text
from biotilt.spaces.clusters import linked, windows

NATURAL = "natural_50_150.csv.gz"
LABELLED = "secondary_structure_50_150.csv.gz"
_RESIDUES = set("ACDEFGHIKLMNPQRSTVWY")
# pieces of tags and linkers of expression vectors: they are shared by proteins that are no relatives
_TAGS = ("HHHH", "VPRGS", "ENLYFQ", "GSSG")
WORD = 10


class Labelled(NamedTuple):
    """A sequence and the class of each residue, H, E or C."""

    sequence: str
    classes: str


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a gzipped CSV file."""
    return list(csv.DictReader(io.StringIO(read_text(path, line_ends=True), newline="")))


def related(sequences: Sequence[str], width: int = WORD) -> list[int]:
    """Return a cluster number for each sequence: those that share a word of `width` residues, anywhere, join.

    Words with a piece of an expression tag do not count.

    >>> related(["AACCDDEEFFGG", "MKTAYIAKQRQISF", "WWWCCDDEEFFGG"])
    [0, 1, 0]
    """
    words = (windows(sequence, width) for sequence in sequences)
    return linked([word for word in some if not any(tag in word for tag in _TAGS)] for some in words)


def natural_sequences(folder: Path) -> list[str]:
    """Return natural sequences of 50 to 150 residues, one of each cluster, without those with a His tag.

    A tenth of the chains of the PDB carry the tag, and a generator would learn to write it.
    """
    rows = [row["sequence"] for row in read_table(folder / NATURAL)]
    rows = [sequence for sequence in rows if "HHHHH" not in sequence and set(sequence) <= _RESIDUES]
    chosen: dict[int, str] = {}
    for sequence, cluster in zip(rows, related(rows)):
        chosen.setdefault(cluster, sequence)
    return list(chosen.values())


def labelled_parts(folder: Path) -> dict[str, list[Labelled]]:
    """Return sequences with labels: `optimised` and `held_out`, halves of the training set, and `test`.

    No two parts share a cluster; training rows that are related to a test row are left out.
    """
    rows = [row for row in read_table(folder / LABELLED) if set(row["sequence"]) <= _RESIDUES]
    members: dict[int, list[dict[str, str]]] = defaultdict(list)
    for row, cluster in zip(rows, related([row["sequence"] for row in rows])):
        members[cluster].append(row)
    parts: dict[str, list[Labelled]] = {"optimised": [], "held_out": [], "test": []}
    for group in members.values():
        part = _part(group)
        kept = [row for row in group if part != "test" or row["split"] == "E"]
        parts[part] += [Labelled(row["sequence"], row["ss3"]) for row in kept]
    return parts


def _part(group: list[dict[str, str]]) -> str:
    if any(row["split"] == "E" for row in group):
        return "test"
    name = min(row["sequence"] for row in group)
    return "optimised" if hashlib.sha256(name.encode()).digest()[0] % 2 else "held_out"
