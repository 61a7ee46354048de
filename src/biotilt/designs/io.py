"""Designs in files: FASTA, CSV, TSV and plain lines, each also compressed with gzip."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from biotilt.atomic import check_output
from biotilt.designs.alphabet import Alphabet
from biotilt.designs.tables import DELIMITERS, file_format, numbered_lines, read_table
from biotilt.errors import BiotiltError, ConfigError, DataError, suggest
from biotilt.files import write_bytes

Ambiguous = Literal["error", "skip"]

SEQUENCE_COLUMNS = ("sequence", "seq", "utr", "design")
NAME_COLUMNS = ("name", "id")

# key=value, where the value is quoted (with "" for a quote) or runs up to the next key.
_FASTA_VALUE = re.compile(r'([^\s=]+)=("(?:[^"]|"")*"|.*?)(?=\s+[^\s=]+=|\s*$)')


@dataclass(frozen=True)
class Record:
    """A named design with the other columns of its row.

    Args:
        name: its name in the file, or else its number there, from 1.
        sequence: its letters, upper case, aliases replaced.
        values: the other columns as they were written, in order.
        line: the line of its file it starts on, 0 for one made in memory; not compared.
    """

    name: str
    sequence: str
    values: dict[str, str] = field(default_factory=dict)
    line: int = field(default=0, compare=False)


class _Raw(NamedTuple):
    """A record whose letters are not checked yet; `pieces` are (line, text of the sequence on that line)."""

    name: str
    line: int
    pieces: list[tuple[int, str]]
    values: dict[str, str]


def read_designs(
    path: str | Path, alphabet: Alphabet, *, column: str | None = None, ambiguous: Ambiguous = "error"
) -> list[Record]:
    """Return the designs of a file, with sequences in upper case and aliases replaced.

    Args:
        path: .fasta, .fa, .fna, .faa, .csv, .tsv or .txt (one sequence a line), each also with .gz.
        alphabet: the letters a sequence may have.
        column: the sequence column of a CSV or TSV. Left out, it is the first of "sequence", "seq", "utr" and
            "design" that is there (in any case), or the only column.
        ambiguous: "error", or "skip" to leave out records with an ambiguity code; a warning tells how many.

    Raises:
        DataError: the file cannot be read, is empty or is malformed, or a sequence has a wrong letter; then
            the message starts with `file:line:column`, where the column counts letters of the sequence.
        ConfigError: `column` is given for a file without columns, or `ambiguous` is neither choice.
    """
    path = Path(path)
    if ambiguous not in ("error", "skip"):
        raise ConfigError(f'ambiguous must be "error" or "skip", not {ambiguous!r}')
    kind = file_format(path)
    if column is not None and kind not in DELIMITERS:
        raise ConfigError(f"{path} has no columns, so column = {column!r} has no meaning; leave it out")
    if kind in DELIMITERS:
        raws = _table_records(path, alphabet, column)
    elif kind == "fasta":
        raws = _fasta_records(path)
    else:
        raws = _line_records(path)
    records, skipped = [], []
    for raw in raws:
        if (sequence := _checked(raw, path, alphabet, ambiguous)) is None:
            skipped.append(raw.line)
        else:
            records.append(Record(raw.name, sequence, raw.values, raw.line))
    if skipped:
        total = len(records) + len(skipped)
        what = f"{path}: {len(skipped)} of {total} records have ambiguity codes, the first on line {skipped[0]}"
        if not records:
            raise DataError(f"{what}; no record is left")
        warnings.warn(f"{what}; they were skipped", UserWarning, stacklevel=2)
    if not records:
        raise DataError(f"{path}: the file is empty; it has no designs")
    return records


def numbers(records: Sequence[Record], column: str, path: str | Path) -> list[float]:
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
    return [_number(record.values.get(column, ""), f"{path}:{record.line}: column {column!r}") for record in records]


def write_designs(path: str | Path, records: Sequence[Record]) -> None:
    """Write designs in the format of the suffix; the file appears whole or not at all.

    CSV and TSV have the columns name, sequence, then those of the values in the order in which they first
    appear, empty where a record lacks one. FASTA has a sequence on one line and values as `key=value` in the
    header. A .txt file holds the sequences alone.

    Raises:
        DataError: the suffix is unknown, a design is empty or there is none, the format cannot hold a name or
            a value, or the file cannot be written.
    """
    path = Path(path)
    kind = file_format(path)
    if not records:
        raise DataError(f"{path}: there are no designs to write")
    for record in records:
        if not record.sequence:
            raise DataError(f"{path}: design {record.name!r} has an empty sequence")
    if kind in DELIMITERS:
        text = _as_table(records, path, DELIMITERS[kind])
    elif kind == "fasta":
        text = "".join(f">{_fasta_header(record, path)}\n{record.sequence}\n" for record in records)
    else:
        text = "".join(f"{record.sequence}\n" for record in records)
    data = text.encode("utf-8")
    if path.suffix.lower() == ".gz":
        data = gzip.compress(data, mtime=0)  # no time stamp: the same designs give the same bytes
    try:
        write_bytes(path, data)
    except BiotiltError as error:
        raise DataError(str(error)) from error


def check_designs_output(path: str | Path, size: int = 1 << 16) -> None:
    """Make sure, before any design is made, that `write_designs` could write `size` bytes to `path`.

    Raises DataError when the suffix is unknown, and BiotiltError when the place cannot be written.
    """
    file_format(Path(path))
    check_output(Path(path), size)


def _line_records(path: Path) -> Iterator[_Raw]:
    for number, (line, text) in enumerate(numbered_lines(path), start=1):
        yield _Raw(str(number), line, [(line, text)], {})


def _fasta_records(path: Path) -> Iterator[_Raw]:
    current: _Raw | None = None
    number = 0
    for line, text in numbered_lines(path):
        if text.startswith(">"):
            if current is not None:
                yield current
            number += 1
            name, rest = [*text[1:].split(maxsplit=1), "", ""][:2]
            current = _Raw(name or str(number), line, [], _fasta_values(rest))
        elif current is None:
            raise DataError(f"{path}:{line}: a sequence before the first header; a FASTA record starts with '>'")
        else:
            current.pieces.append((line, text))
    if current is not None:
        yield current


def _fasta_values(text: str) -> dict[str, str]:
    """Read `words key=value key="quoted value"`; words before the first key are the description."""
    values: dict[str, str] = {}
    first = _FASTA_VALUE.search(text)
    if description := text[: first.start() if first else None].strip():
        values["description"] = description
    for key, value in _FASTA_VALUE.findall(text):
        is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
        values[key] = value[1:-1].replace('""', '"') if is_quoted else value
    return values


def _table_records(path: Path, alphabet: Alphabet, column: str | None) -> Iterator[_Raw]:
    header, rows = read_table(path)
    sequence_column = _sequence_column(header, column, path)
    lower = {name.lower(): name for name in reversed(header) if name != sequence_column}
    name_column = next((lower[name] for name in NAME_COLUMNS if name in lower), None)
    if column is None and sequence_column.lower() not in SEQUENCE_COLUMNS and rows:
        # Taken for a header, the first design of a file without one would be lost without a word.
        first = rows[0][1][sequence_column].strip()
        if len(first) == len(sequence_column) and not alphabet.wrong_columns(sequence_column):
            raise DataError(
                f"{path}: the header {sequence_column!r} looks like a sequence; "
                'write "sequence" above it or name the file .txt'
            )
    for number, (line, cells) in enumerate(rows, start=1):
        values = dict(cells)
        text = values.pop(sequence_column).strip()
        name = values.pop(name_column).strip() if name_column is not None else ""
        if not text:
            raise DataError(f"{path}:{line}: no sequence in column {sequence_column!r}")
        yield _Raw(name or str(number), line, [(line, text)], values)


def _sequence_column(header: list[str], column: str | None, path: Path) -> str:
    found = f"columns found: {', '.join(header)}"
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
    if not raw.pieces:
        raise DataError(f"{path}:{raw.line}: design {raw.name!r} has no sequence")
    skip = False
    for line, text in raw.pieces:
        for column in alphabet.wrong_columns(text):
            letter = text[column - 1]
            is_ambiguous = letter.upper() in alphabet.ambiguity
            if is_ambiguous and ambiguous == "skip":
                skip = True
                continue
            hint = '; ambiguous = "skip" leaves such records out' if is_ambiguous else ""
            raise DataError(f"{path}:{line}:{column}: {alphabet.explain(letter)}{hint}")
    return None if skip else alphabet.normalise("".join(text for _, text in raw.pieces))


def _number(cell: str, where: str) -> float:
    text = cell.strip()
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    # Python reads 1_000 as a number, but no other tool writes it.
    if value == math.inf or "_" in text:
        raise DataError(f"{where}: {cell!r} is not a number; leave it empty where nothing was measured")
    return value


def _as_table(records: Sequence[Record], path: Path, delimiter: str) -> str:
    columns = list(dict.fromkeys(key for record in records for key in record.values))
    header = ["name", "sequence", *columns]
    if taken := [key for key in columns if key in ("name", "sequence")]:
        raise DataError(f"{path}: a column of values is called {taken[0]!r}, which the table itself uses; rename it")
    rows = [[r.name, r.sequence, *(r.values.get(key, "") for key in columns)] for r in records]
    # The csv module quotes a cell with "\n" by itself, but before Python 3.13 not one with a lone "\r".
    has_return = any("\r" in cell for row in [header, *rows] for cell in row)
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=quoting)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _fasta_header(record: Record, path: Path) -> str:
    if not record.name or re.search(r"\s", record.name):
        raise DataError(f"{path}: {record.name!r} cannot be a FASTA name: it is empty or has a space; write a .csv")
    words = [record.name]
    for key, value in record.values.items():
        if not re.fullmatch(r"[^\s=]+", key):
            raise DataError(f"{path}: {key!r} cannot be a key in a FASTA header: spaces or '='; write a .csv")
        if "\n" in value or "\r" in value:
            raise DataError(f"{path}: {key!r} of design {record.name!r} has a line break; write a .csv")
        needs_quotes = re.search(r'[\s="]', value)
        words.append(f"{key}=" + ('"' + value.replace('"', '""') + '"' if needs_quotes else value))
    return " ".join(words)
