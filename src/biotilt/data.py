"""From a file of data to a space and its designs, for what learns from data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from biotilt.core.space import Space
from biotilt.errors import ConfigError, DataError, suggest
from biotilt.options import Few, Length, build_options
from biotilt.spaces import Padded, Text, alphabet, as_space, read_designs, read_table
from biotilt.spaces.array_files import read_images, read_points
from biotilt.spaces.arrays import Images, Pictures, Points
from biotilt.spaces.codons import Codons
from biotilt.spaces.graphs import Graphs
from biotilt.spaces.safe import Safe
from biotilt.spaces.selfies import Selfies
from biotilt.spaces.tables import file_format, numbered_lines, smiles_lines
from biotilt.spaces.tokens import Tokens

KINDS = ("letters", "tokens", "codons", "selfies", "safe", "graphs", "points", "images")
_MOLECULES = {"selfies": Selfies, "safe": Safe}


@dataclass(frozen=True)
class _TokenOptions:
    separator: Annotated[str, Field(max_length=1)] = " "
    vocabulary: list[str] | None = None


@dataclass(frozen=True)
class _PointOptions:
    columns: list[str] | None = None


@dataclass(frozen=True)
class _CodonOptions:
    protein: str
    dna: bool = False


@dataclass(frozen=True)
class _MoleculeOptions:
    length: Length | None = None


@dataclass(frozen=True)
class _GraphOptions:
    nodes: Few | None = None


@dataclass(frozen=True)
class _NoOptions:
    pass


def read_data(
    path: Path, kind: str, options: Mapping[str, Any] | None = None, *,
    letters: str | None = None, column: str | None = None, pads: Any = None, labels: str | None = None,
) -> tuple[Space[Any], list[Any]]:  # fmt: skip
    """Return the designs of a file, and their space.

    Args:
        path: of a file, or of a folder of pictures.
        kind: "letters" of an alphabet, `letters`, in designs of one length or filled up on the side `pads`; "tokens",
            with the options `separator` and `vocabulary` (default: those found); "codons" of the option `protein`, as
            RNA or, with the option `dna`, as DNA; "selfies" or "safe", molecules as SMILES, with the option `length` of
            states (default: of the longest); "graphs", the same molecules, with the option `nodes`, the most atoms of
            one (default: of the largest), without those that no graph holds; "points", with the option `columns` of a
            table (default: all but the name); "images".
        column: of a table, that of the texts.
        labels: of a table, the column that is no part of designs.

    Raises ConfigError for an unknown kind or option, and DataError for what cannot be read.
    """
    if kind not in KINDS:
        raise ConfigError(f'space: unknown kind "{kind}"{suggest(kind, KINDS)}')
    classes: dict[str, type[Any]] = {"tokens": _TokenOptions, "codons": _CodonOptions, "points": _PointOptions}
    classes |= dict.fromkeys(_MOLECULES, _MoleculeOptions) | {"graphs": _GraphOptions}
    said = build_options(classes.get(kind, _NoOptions), dict(options or {}), "space")
    if kind == "points":
        names, points = read_points(path, said.columns or (), leave=labels)
        return Points.of_data(points, names), list(points)
    if kind == "images":
        images = read_images(path)
        return Images(*images.shape[1:]), list(images)
    if kind == "codons":
        codons = Codons(said.protein, said.dna)
        return codons, [record.design for record in read_designs(path, codons.written_in, column=column, empty="error")]
    if kind in _MOLECULES:
        texts = _texts(path, column)
        return _MOLECULES[kind].of_molecules(texts, said.length), texts
    if kind == "graphs":
        return _graphs(_texts(path, column), said.nodes)
    if kind == "tokens":
        texts = _texts(path, column)
        words = said.vocabulary
        if words is None:
            words = sorted(
                {word for text in texts for word in (text.split(said.separator) if said.separator else text)}
            )
        return Tokens(tuple(words), said.separator), texts
    if letters is None:
        raise ConfigError("--alphabet is missing: dna, rna or protein; or say --space points, images or tokens")
    return read_letters(path, letters, column, pads)


def _graphs(texts: list[str], nodes: int | None) -> tuple[Space[Any], list[Any]]:
    """Return the molecules that graphs hold, and their space; a warning says how many they do not."""
    space = Graphs.of_molecules(texts, nodes)
    kept = space.fitting(texts)
    if not kept:
        raise DataError(f"no molecule of {len(texts)} is one that graphs hold")
    if len(kept) < len(texts):
        warnings.warn(f"{len(texts) - len(kept)} of {len(texts)} molecules are none that graphs hold", stacklevel=2)
    return space, kept


def read_for(path: Path, space: Space[Any], column: str | None = None, leave: str | None = None) -> list[Any]:
    """Return the designs of a file, as a space that is there already has them; `column`: of a table, of the texts.

    `leave`: the column of a table of points that is no coordinate.

    Raises DataError for what cannot be read, ConfigError for a column that is not there.
    """
    if isinstance(space, Points):
        return list(read_points(path, space.columns, leave=leave)[1])
    if isinstance(space, Pictures):
        return list(read_images(path))
    if isinstance(space, Text) and space.written_in is not None:
        return [record.design for record in read_designs(path, space.written_in, column=column, empty="error")]
    return _texts(path, column)


def read_labels(path: Path, column: str, count: int) -> list[str]:
    """Return the label of each of `count` designs of a file, the text in a column of its table.

    Raises ConfigError when there is no such column, and DataError for an empty cell, or for other rows than designs.
    """
    if path.is_dir() or not path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        raise ConfigError(f"--labels {column}: labels stand in a column of a table (CSV or TSV), and {path} is none")
    header, rows = read_table(path)
    if column not in header:
        raise ConfigError(f"--labels: {path} has no column {column!r}; columns found: {', '.join(header)}")
    for line, cells in rows:
        if not cells[column].strip():
            raise DataError(f"{path}:{line}: the label (column {column!r}) is empty")
    if len(rows) != count:
        raise DataError(f"{path}: {len(rows)} rows with labels, but {count} designs")
    return [cells[column].strip() for _, cells in rows]


def read_letters(path: Path, letters: str, column: str | None, pads: Any) -> tuple[Text, list[str]]:
    """Return the sequences of a file, and their space: of one length, or with pads."""
    records = read_designs(path, alphabet(letters), column=column, empty="error")
    designs = [record.design for record in records]
    lengths = set(map(len, designs))
    if pads is not None:
        return Padded(alphabet(letters), max(lengths), pads), designs
    if len(lengths) > 1:
        raise DataError(
            f"{path}: sequences differ in length ({min(lengths)} to {max(lengths)} letters); "
            "say --pads right, or --pads left when their right ends belong together"
        )
    space = as_space(letters)
    assert isinstance(space, Text)
    return space, designs


def _texts(path: Path, column: str | None) -> list[str]:
    """Return the texts of a plain file, one a line, or of a column of a table, as they are written."""
    if file_format(path) == "txt":
        return [text for _, text in numbered_lines(path)]
    if file_format(path) == "smi":
        return [text for _, text, _ in smiles_lines(path)]
    header, rows = read_table(path)
    usual = [name for name in header if name.lower() == "smiles"]
    column = column or (header[0] if len(header) == 1 else usual[0] if usual else "sequence")
    if column not in header:
        raise DataError(f"{path}: no column {column!r}; columns found: {', '.join(header)}")
    return [cells[column].strip() for _, cells in rows]
