"""The text of design files: formats by suffix, lines, and CSV and TSV tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biotilt.errors import DataError
from biotilt.files import LARGEST_TEXT, read_text

Row = tuple[int, dict[str, str]]

_FORMATS = {
    **dict.fromkeys((".fasta", ".fa", ".fas", ".fna", ".faa", ".ffn", ".frn", ".fsa", ".mpfa"), "fasta"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".smi", ".smiles"), "smi"),
    ".txt": "txt",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}
_SEPARATORS = {
    ",": "separated by commas; name it .csv",
    "\t": "separated by tabs; name it .tsv",
    ";": "separated by semicolons; save it with commas, and with points in numbers",
    "|": "separated by bars; save it with commas",
}


def read_table(path: str | Path) -> tuple[list[str], list[Row]]:
    """Return the header of a CSV or TSV file, and its rows as (line number, values by column).

    Blank lines and rows with only empty cells are left out, and so are columns without a name that are empty; the
    line number is that on which the row starts.

    Raises:
        DataError: the file cannot be read or has no header, its cells are separated by another sign than its suffix
            says, a column repeats, or a row is ragged or malformed.
    """
    path = Path(path)
    kind = file_format(path)
    if kind not in DELIMITERS:
        raise DataError(f"{path}: a table must be .csv or .tsv (or either with .gz)")
    lines = _lines_of(path, DELIMITERS[kind])
    line, header = next(lines, (1, []))
    if [cell.lower() for cell in header[:1]] == ["sep="]:  # what Excel is told its separator by, in the first line
        line, header = next(lines, (1, []))
    if not header:
        raise DataError(f"{path}: the file is empty; it has no header")
    header = [header[0].lstrip("#").strip(), *(name.strip() for name in header[1:])]
    _check_separator(header, line, DELIMITERS[kind], path)
    if repeated := sorted({name for name in header if name and header.count(name) > 1}):
        raise DataError(f"{path}:{line}: the header has {', '.join(map(repr, repeated))} more than once")
    rows = [(line, _as_wide(cells, header, line, path)) for line, cells in lines]
    used = [bool(name) or any(cells[i].strip() for _, cells in rows) for i, name in enumerate(header)]
    names = [name for name, is_used in zip(header, used) if is_used]
    if names.count("") > 1:
        raise DataError(f"{path}:{line}: {names.count('')} columns with values have no name in the header")
    return names, [
        (line, {name: cell for name, cell, is_used in zip(header, cells, used) if is_used}) for line, cells in rows
    ]


def file_format(path: Path) -> str:
    """Return "fasta", "csv", "tsv", "smi" or "txt" for a file's suffix; raises `DataError` for another suffix."""
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


def smiles_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, SMILES, name) of a .smi file: white space parts them, and a name may be missing or have spaces.

    A line that starts with a tab has a name and no SMILES. A first line that starts with the word "smiles" is a header.
    """
    for line, text in enumerate(io.StringIO(read_text(path)), start=1):
        if not text.strip():
            continue
        first, rest = ("", text) if text.startswith("\t") else [*text.split(maxsplit=1), ""][:2]
        if line > 1 or first.lower() != "smiles":
            yield line, first, rest.strip()


def _check_separator(header: list[str], line: int, delimiter: str, path: Path) -> None:
    """Raise DataError when the one cell of a header is cells of another separator."""
    if len(header) == 1:
        for sign, what in _SEPARATORS.items():
            if sign != delimiter and sign in header[0]:
                kind = Path(path.name.lower().removesuffix(".gz")).suffix
                raise DataError(f"{path}:{line}: a {kind} file whose cells are {what}")


def _as_wide(cells: list[str], header: list[str], line: int, path: Path) -> list[str]:
    """Return as many cells as the header has; those beyond it must be empty."""
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        columns = f"the header has {len(header)} columns ({', '.join(header)})"
        raise DataError(f"{path}:{line}: the row has {len(cells)} cells, but {columns}")
    return cells[: len(header)]


def _lines_of(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows that are not blank, each with the line it starts on."""
    text = read_text(path, line_ends=True)
    # the csv module refuses cells of 128 kB and more, as genomes have, unless the whole process allows them
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_TEXT))
    reader: Any = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{start}: malformed row: {error}") from error
