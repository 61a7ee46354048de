"""The text of design files: formats by suffix, gzip, line ends, and CSV and TSV tables."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biotilt.errors import DataError

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
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=DELIMITERS[kind], strict=True)
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


def _text(path: Path) -> str:
    """Return the text of a file, unpacked, without a byte-order mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not a whole gzip file: {error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Count in `error.object`: the decoder has taken a byte-order mark off before it counts.
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, numbered from 1; line ends of Unix, Windows and old Macs."""
    for line, text in enumerate(io.StringIO(_text(path), newline=None), start=1):
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
