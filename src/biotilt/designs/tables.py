"""The text of design files: formats by suffix, gzip, line ends, and CSV and TSV tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biotilt.errors import DataError
from biotilt.files import read_text

Row = tuple[int, dict[str, str]]

_FORMATS = {
    ".fasta": "fasta",
    ".fa": "fasta",
    ".fna": "fasta",
    ".faa": "fasta",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}


def read_table(path: str | Path) -> tuple[list[str], list[Row]]:
    """Return the header of a CSV or TSV file, and its rows as (line number, values by column).

    Blank lines and rows with only empty cells are left out; the line number is that on which the row starts.

    Raises:
        DataError: the file cannot be read or has no header, a column repeats, or a row is ragged or
            malformed.
    """
    path = Path(path)
    kind = file_format(path)
    if kind not in DELIMITERS:
        raise DataError(f"{path}: a table must be .csv or .tsv (or either with .gz)")
    text = io.StringIO(read_text(path, line_ends=True), newline="")
    reader = csv.reader(text, delimiter=DELIMITERS[kind], strict=True)
    header: list[str] | None = None
    rows: list[Row] = []
    for line, cells in _lines_of(reader, path):
        if header is None:
            header = [name.strip() for name in cells]
            if repeated := sorted({name for name in header if header.count(name) > 1}):
                raise DataError(f"{path}:{line}: the header has {', '.join(map(repr, repeated))} more than once")
        elif len(cells) != len(header):
            columns = f"the header has {len(header)} columns ({', '.join(header)})"
            raise DataError(f"{path}:{line}: the row has {len(cells)} cells, but {columns}")
        else:
            rows.append((line, dict(zip(header, cells, strict=True))))
    if header is None:
        raise DataError(f"{path}: the file is empty; it has no header")
    return header, rows


def file_format(path: Path) -> str:
    """Return "fasta", "csv", "tsv" or "txt" for a file's suffix; raises `DataError` for another suffix."""
    name = path.name.lower().removesuffix(".gz")
    try:
        return _FORMATS[Path(name).suffix]
    except KeyError:
        known = ", ".join(_FORMATS)
        raise DataError(f"{path}: unknown kind of file; known suffixes: {known}, each also with .gz") from None


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, numbered from 1; line ends of Unix, Windows and old Macs."""
    for line, text in enumerate(io.StringIO(read_text(path)), start=1):
        if text.strip():
            yield line, text.strip()


def _lines_of(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield rows that are not blank, each with the line it starts on."""
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{start}: malformed row: {error}") from error
