"""Molecules of MOSES and ZINC250k as tokens, split by scaffold: what the generators of this task learn from."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from biotilt.errors import DataError, needs_extra
from biotilt.files import read_text
from biotilt.options import CountFrom0
from biotilt.rewards.molecule.properties import EXTRA
from biotilt.schema import StoredTensors
from biotilt.spaces.molecule_text import MoleculeOptions
from biotilt.spaces.selfies import Selfies
from biotilt.tasks.molecule.quality import key
from biotilt.tensors import load_tensors, save_tensors

MOSES = ("moses_test.csv.gz", "moses_test_scaffolds.csv.gz")
MORE = "moses_train.csv.gz"
LENGTH = 72  # tokens of a state
COMMON = 200  # molecules that a token must be in: what is rarer cannot be learned
HELD_BACK = 10  # of a hundred scaffolds; two of them validate, eight test

Source = Literal["moses", "zinc", "moses_train"]
Part = Literal["train", "validation", "unseen"]
SOURCES: tuple[Source, ...] = ("moses", "zinc", "moses_train")
PARTS: tuple[Part, ...] = ("train", "validation", "unseen")


class CorpusFile(StoredTensors):
    """What a file of tokens says of itself."""

    kind: ClassVar[str] = "molecules"
    called: ClassVar[str] = "a corpus of molecules"

    space: MoleculeOptions
    left_out: CountFrom0


@dataclass(frozen=True)
class Corpus:
    """Tokens `(N, L)` of a space, of each its index in `SOURCES` and in `PARTS`, `(N,)`, and how many did not fit."""

    space: Selfies
    tokens: Tensor
    source: Tensor
    part: Tensor
    left_out: int

    def rows(self, part: Part, *sources: Source) -> Tensor:
        """Return the tokens of a part, of some sources, in the order of the files."""
        wanted = torch.tensor([SOURCES.index(source) for source in sources])
        return self.tokens[torch.isin(self.source, wanted) & (self.part == PARTS.index(part))]

    def save(self, path: Path) -> None:
        tensors = {"tokens": self.tokens, "source": self.source, "part": self.part}
        about = {"space": {"vocabulary": self.space.vocabulary, "length": self.space.length}, "left_out": self.left_out}
        save_tensors(path, tensors, {"kind": CorpusFile.kind, **about})

    @classmethod
    def load(cls, path: Path) -> Corpus:
        tensors, about = load_tensors(path, CorpusFile)
        space = Selfies(tuple(about.space.vocabulary), about.space.length)
        return cls(space, tensors["tokens"], tensors["source"], tensors["part"], about.left_out)


def part_of(scaffold: str) -> Part:
    """Return the part of all molecules with a Bemis-Murcko scaffold: the same in every file, on every machine."""
    place = key(scaffold) % 100
    return "train" if place >= HELD_BACK else "validation" if place < 2 else "unseen"


def read_corpus(moses: Path, zinc: Path, every: int = 1) -> Corpus:
    """Read the files of MOSES in a folder, and the SMILES of ZINC250k, one a line; of all each `every`-th row.

    Molecules are split by scaffold, without regard to stereo, across all files: none that trains has a scaffold that
    validates or tests. Of the first file of MOSES, and of the large one, `moses_train`, only the training part is
    kept: molecules of unseen scaffolds are those of the official scaffold split. Repeats are kept once. Left out are
    molecules of several parts or of more than `LENGTH` tokens, and those with a token that fewer than `COMMON` have.
    """
    rows: list[tuple[Source, Part, list[str]]] = []
    known: set[int] = set()
    for source, official, text in _texts(moses, zinc, every):
        read = _read(text)
        if read is None:
            rows.append((source, "train", []))  # counted as left out
            continue
        words, canonical, scaffold = read
        part = part_of(scaffold)
        if (number := key(canonical)) in known or (source != "zinc" and part != "train" and not official):
            continue
        known.add(number)
        rows.append((source, part, words))
    return _tokens(rows)


def _texts(moses: Path, zinc: Path, every: int) -> Iterator[tuple[Source, bool, str]]:
    """Yield the source of each SMILES, whether it is of the official scaffold split, and the SMILES."""
    for name in MOSES:
        for text in islice(_column(moses / name), None, None, every):
            yield "moses", name == MOSES[1], text
    for row, line in enumerate(read_text(zinc).splitlines()):
        if row % every == 0 and line.strip():
            yield "zinc", False, line.strip()
    for text in islice(_column(moses / MORE), None, None, every):
        yield "moses_train", False, text


def _column(path: Path) -> Iterator[str]:
    for cells in csv.DictReader(io.StringIO(read_text(path, line_ends=True), newline="")):
        yield cells["SMILES"]


def _read(smiles: str) -> tuple[list[str], str, str] | None:
    """Return SELFIES tokens, canonical SMILES and scaffold of a molecule; None where it cannot be written so."""
    chem, selfies = needs_extra("rdkit.Chem", EXTRA), needs_extra("selfies", EXTRA)
    murcko = needs_extra("rdkit.Chem.Scaffolds.MurckoScaffold", EXTRA)
    with needs_extra("rdkit.rdBase", EXTRA).BlockLogs():
        molecule = chem.MolFromSmiles(smiles)
    if molecule is None or "." in smiles:
        return None
    canonical = chem.MolToSmiles(molecule)
    try:
        words = list(selfies.split_selfies(selfies.encoder(canonical)))
    except selfies.EncoderError:
        return None
    return words, canonical, murcko.MurckoScaffoldSmiles(mol=molecule)


def _tokens(rows: Sequence[tuple[Source, Part, list[str]]]) -> Corpus:
    """Return the corpus of molecules given as words, without those that are too long or have a rare word."""
    seen = Counter(word for _, _, words in rows for word in set(words))
    vocabulary = tuple(sorted(word for word, count in seen.items() if count >= COMMON))
    if not vocabulary:
        raise DataError(f"no token is in {COMMON} molecules of {len(rows)}: too few to learn from")
    space = Selfies(vocabulary, LENGTH)
    number = {word: i for i, word in enumerate(vocabulary)}
    kept = [row for row in rows if 0 < len(row[2]) <= LENGTH and number.keys() >= set(row[2])]
    tokens = torch.full((len(kept), LENGTH), space.pad, dtype=space.token_type)
    for i, (_, _, words) in enumerate(kept):
        tokens[i, : len(words)] = torch.tensor([number[word] for word in words], dtype=space.token_type)
    source = torch.tensor([SOURCES.index(source) for source, _, _ in kept], dtype=torch.int8)
    part = torch.tensor([PARTS.index(part) for _, part, _ in kept], dtype=torch.int8)
    return Corpus(space, tokens, source, part, len(rows) - len(kept))
