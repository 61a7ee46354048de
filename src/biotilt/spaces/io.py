"""Designs read from files: FASTA, CSV, TSV, SMILES and plain lines, each also compressed with gzip."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from biotilt.core.space import Record
from biotilt.digits import number
from biotilt.errors import ConfigError, DataError, suggest
from biotilt.spaces.alphabet import Alphabet
from biotilt.spaces.fasta import DESCRIPTION, parse_header
from biotilt.spaces.tables import DELIMITERS, file_format, numbered_lines, read_table, smiles_lines

Ambiguous = Literal["error", "skip"]

Empty = Literal["keep", "error"]

SEQUENCE_COLUMNS = ("sequence", "seq", "utr", "design", "sequences", "dna", "rna", "protein", "peptide", "smiles")
NAME_COLUMNS = ("name", "id")
_SURELY_A_SEQUENCE = 10  # letters of a word that no description has by chance
_CHOICES = {"ambiguous": ("error", "skip"), "empty": ("keep", "error")}


class _Raw(NamedTuple):
    """A record whose letters are not checked yet; `pieces` are (line, text of the sequence on that line)."""

    name: str
    line: int
    pieces: list[tuple[int, str]]
    values: dict[str, str]


def read_designs(
    path: str | Path,
    alphabet: Alphabet,
    *,
    column: str | None = None,
    ambiguous: Ambiguous = "error",
    empty: Empty = "keep",
) -> list[Record[str]]:
    """Return the designs of a file, with sequences in upper case and aliases replaced.

    Args:
        path: .fasta, .fa, .fas, .fna, .faa and their like, .csv, .tsv, .smi (SMILES and a name a line) or .txt (one
            sequence a line), each also with .gz, in any case.
        alphabet: the letters a sequence may have.
        column: the sequence column of a CSV or TSV. Left out, it is the first of "sequence", "seq", "utr", "design",
            … (`SEQUENCE_COLUMNS`) that is there (in any case), or the only column.
        ambiguous: "error", or "skip" to leave out records with an ambiguity code; a warning tells how many.
        empty: "keep" records without a sequence as empty designs, a warning tells how many; or "error". Blank lines
            of a .txt are never designs; a warning tells how many there are between others.

    Raises:
        DataError: the file cannot be read, is empty or is malformed, or a sequence has a wrong letter; then
            the message starts with `file:line:column`, where the column counts letters of the sequence.
        ConfigError: `column` is given for a file without columns, or `ambiguous` or `empty` is no choice.
    """
    path = Path(path)
    for option, value in (("ambiguous", ambiguous), ("empty", empty)):
        if value not in _CHOICES[option]:
            known = " or ".join(f'"{choice}"' for choice in _CHOICES[option])
            raise ConfigError(f"{option} must be {known}, not {value!r}")
    kind = file_format(path)
    if column is not None and kind not in DELIMITERS:
        raise ConfigError(f"{path} has no columns, so column = {column!r} has no meaning; leave it out")
    if kind in DELIMITERS:
        raws = _table_records(path, alphabet, column)
    else:
        raws = {"fasta": _fasta_records, "smi": _smiles_records, "txt": _line_records}[kind](path)
    records: list[Record[str]] = []
    skipped: list[int] = []
    for raw in raws:
        if not any(text for _, text in raw.pieces):
            _check_empty(raw, path, alphabet, empty)
            records.append(Record(raw.name, "", raw.values, raw.line))
        elif (sequence := _checked(raw, path, alphabet, ambiguous)) is None:
            skipped.append(raw.line)
        else:
            records.append(Record(raw.name, sequence, raw.values, raw.line))
    for told in _oddities(path, kind, records, skipped):
        warnings.warn(f"{path}: {told}", UserWarning, stacklevel=2)
    return records


def _oddities(path: Path, kind: str, records: list[Record[str]], skipped: list[int]) -> list[str]:
    """Return what to warn of; DataError when there is no record, or no letter in any."""
    told = []
    if skipped:
        total = len(records) + len(skipped)
        what = f"{len(skipped)} of {total} records have ambiguity codes, the first on line {skipped[0]}"
        if not records:
            raise DataError(f"{path}: {what}; no record is left")
        told.append(f"{what}; they were skipped")
    if not records:
        raise DataError(f"{path}: the file is empty; it has no designs")
    if empty := [record.line for record in records if not record.design]:
        if len(empty) == len(records):
            raise DataError(f"{path}:{empty[0]}: no design has a sequence")
        what = f"{len(empty)} of {len(records)} designs have no letters, the first on line {empty[0]}"
        told.append(f"{what}; they are kept as empty designs")
    lines = [record.line for record in records] + skipped
    if kind == "txt" and (blank := max(lines) - min(lines) + 1 - len(lines)):
        told.append(f"{blank} blank lines between designs are left out; only in other formats is a design empty")
    return told


def _check_empty(raw: _Raw, path: Path, alphabet: Alphabet, empty: Empty) -> None:
    """Raise DataError for a record without a sequence that is to be refused, or has it in its FASTA header."""
    words = raw.values.get(DESCRIPTION, "").split()
    if not raw.pieces and words and len(words[-1]) >= _SURELY_A_SEQUENCE and _is_data(words[-1], alphabet):
        raise DataError(
            f"{path}:{raw.line}: the sequence of {raw.name!r} stands in its header; it belongs on a new line"
        )
    if empty == "error":
        raise DataError(f"{path}:{raw.line}: design {raw.name!r} has no sequence")


def numbers(records: Sequence[Record[str]], column: str, path: str | Path) -> list[float]:
    """Return the numbers in a column of `records`, NaN where the cell is empty, missing or "nan".

    Args:
        records: what `read_designs(path, ...)` returned.
        column: the column of numbers; "-inf" stands for an infeasible design.
        path: the file they came from, for messages.

    Raises:
        DataError: no record has the column, or a cell is not a number or is +inf.

    >>> numbers([Record("a", "AC", {"score": " 2.5"}), Record("b", "AG", {"score": ""})], "score", "a.csv")
    [2.5, nan]
    """
    known = {key for record in records for key in record.values}
    if column not in known:
        found = suggest(column, known) if known else "; there are no columns but name and sequence"
        raise DataError(f"{path}: no column {column!r} of values{found}")
    return [_value(record.values.get(column, ""), f"{path}:{record.line}: column {column!r}") for record in records]


def _line_records(path: Path) -> Iterator[_Raw]:
    for place, (line, text) in enumerate(numbered_lines(path), start=1):
        yield _Raw(str(place), line, [(line, text)], {})


def _smiles_records(path: Path) -> Iterator[_Raw]:
    for place, (line, smiles, name) in enumerate(smiles_lines(path), start=1):
        yield _Raw(name or str(place), line, [(line, smiles)], {})


def _fasta_records(path: Path) -> Iterator[_Raw]:
    current: _Raw | None = None
    place = 0
    for line, text in numbered_lines(path):
        if text.startswith(">"):
            if current is not None:
                yield current
            place += 1
            name, values = parse_header(text[1:])
            current = _Raw(name or str(place), line, [], values)
        elif current is None:
            raise DataError(f"{path}:{line}: a sequence before the first header; a FASTA record starts with '>'")
        else:
            current.pieces.append((line, text))
    if current is not None:
        yield current


def _table_records(path: Path, alphabet: Alphabet, column: str | None) -> Iterator[_Raw]:
    header, rows = read_table(path)
    sequence_column = _sequence_column(header, column, path)
    lower = {name.lower(): name for name in reversed(header) if name != sequence_column}
    name_column = next((lower[name] for name in NAME_COLUMNS if name in lower), None)
    # Taken for a header, the first design of a file without one would be lost without a word.
    if column is None and sequence_column.lower() not in SEQUENCE_COLUMNS and _is_data(sequence_column, alphabet):
        raise DataError(
            f"{path}: the header {sequence_column!r} looks like a sequence; "
            'write "sequence" above it, or, if it is the name of a column, give it as the column'
        )
    for place, (line, cells) in enumerate(rows, start=1):
        values = dict(cells)
        text = values.pop(sequence_column).strip()
        name = values.pop(name_column).strip() if name_column is not None else ""
        yield _Raw(name or str(place), line, [(line, text)], values)


def _is_data(text: str, alphabet: Alphabet) -> bool:
    """Return whether a text could be a sequence, ambiguity codes and gaps among its letters."""
    return bool(text) and all(
        text[i - 1].upper() in {*alphabet.ambiguity, *"-.*"} for i in alphabet.wrong_columns(text)
    )


def _sequence_column(header: list[str], column: str | None, path: Path) -> str:
    found = f"columns found: {', '.join(header)}"
    if any(_is_number(name) for name in header):
        found += "; the first line of a table is its header, and this looks like data"
    if column is not None:
        if column not in header:
            raise DataError(f"{path}: no column {column!r}{suggest(column, header)}; {found}")
        return column
    lower = {name.lower(): name for name in reversed(header)}
    for known in SEQUENCE_COLUMNS:
        if known in lower:
            return lower[known]
    if len(header) == 1:
        return header[0]
    raise DataError(f"{path}: which column holds the sequences? Give its name as `column`; {found}")


def _checked(raw: _Raw, path: Path, alphabet: Alphabet, ambiguous: Ambiguous) -> str | None:
    """Return the normalised sequence, or None for a record to skip."""
    skip = False
    for line, text in raw.pieces:
        for column in alphabet.wrong_columns(text):
            letter = text[column - 1]
            is_ambiguous = letter.upper() in alphabet.ambiguity
            if is_ambiguous and ambiguous == "skip":
                skip = True
                continue
            raise DataError(f"{path}:{line}:{column}: {alphabet.explain(letter)}")
    return None if skip else alphabet.normalise("".join(text for _, text in raw.pieces))


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


def _value(cell: str, where: str) -> float:
    if not cell.strip():
        return math.nan
    try:
        return number(cell)
    except ValueError as error:
        point = "; decimals have a point" if "," in cell else ""
        raise DataError(f"{where}: {error}{point}; leave it empty where nothing was measured") from error
