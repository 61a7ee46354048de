"""Designs written to files: FASTA, CSV, TSV, SMILES and plain lines, each also compressed with gzip."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from biotilt.atomic import check_output
from biotilt.core.space import Record
from biotilt.errors import BiotiltError, DataError
from biotilt.files import write_bytes
from biotilt.spaces.fasta import format_header
from biotilt.spaces.tables import DELIMITERS, file_format

_EMPTY = {
    "csv": "an empty cell",
    "tsv": "an empty cell",
    "fasta": "a record without letters",
    "smi": "a name without SMILES",
    "txt": "an empty line",
}


def write_designs(path: str | Path, records: Sequence[Record[str]]) -> None:
    """Write designs in the format of the suffix; the file appears whole or not at all.

    CSV and TSV have the columns name, sequence, then those of the values in the order in which they first
    appear, empty where a record lacks one. FASTA has a sequence on one line and values as `key=value` in the
    header. A .smi file holds a sequence, a tab and its name a line, a .txt file the sequences alone.

    An empty design is written as an empty cell, a record without letters, a name without SMILES, or an empty line; a
    warning tells how many there are. `read_designs` reads all but the last as empty designs again.

    Raises:
        DataError: the suffix is unknown, there is no design, the format cannot hold a name, a sequence or a value, or
            the file cannot be written.
    """
    path = Path(path)
    kind = file_format(path)
    if not records:
        raise DataError(f"{path}: there are no designs to write")
    if kind in DELIMITERS:
        text = _as_table(records, path, DELIMITERS[kind])
    elif kind == "fasta":
        text = "".join(f">{format_header(r.name, r.values, path)}\n{r.design}\n" for r in records)
    elif kind == "smi":
        text = "".join(f"{_one_line(r.design, path)}\t{_one_line(r.name, path, ' ')}\n" for r in records)
    else:
        text = "".join(f"{record.design}\n" for record in records)
    # what comes from other programs, such as their complaints, may hold signs that no text has
    data = text.replace("\0", "\\0").encode("utf-8", errors="backslashreplace")
    if path.suffix.lower() == ".gz":
        data = gzip.compress(data, mtime=0)  # no time stamp: the same designs give the same bytes
    try:
        write_bytes(path, data)
    except BiotiltError as error:
        raise DataError(str(error)) from error
    if empty := sum(not record.design for record in records):
        what = f"{empty} of {len(records)} designs {'is' if empty == 1 else 'are'} empty"
        warnings.warn(f"{path}: {what}, written as {_EMPTY[kind]}", UserWarning, stacklevel=2)


def check_designs_output(path: str | Path, size: int = 1 << 16) -> None:
    """Make sure, before any design is made, that `write_designs` could write `size` bytes to `path`.

    Raises DataError when the suffix is unknown, and BiotiltError when the place cannot be written.
    """
    file_format(Path(path))
    check_output(Path(path), size)


def _as_table(records: Sequence[Record[str]], path: Path, delimiter: str) -> str:
    columns = list(dict.fromkeys(key for record in records for key in record.values))
    header = ["name", "sequence", *columns]
    if taken := [key for key in columns if key.strip() in ("name", "sequence")]:
        raise DataError(f"{path}: a column of values is called {taken[0]!r}, which the table itself uses; rename it")
    rows = [
        # a row without a single letter would be read as a blank line
        [r.name if r.name or r.design else str(place), r.design, *(r.values.get(key, "") for key in columns)]
        for place, r in enumerate(records, start=1)
    ]
    # The csv module quotes a cell with "\n" by itself, but before Python 3.13 not one with a lone "\r".
    has_return = any("\r" in cell for row in [header, *rows] for cell in row)
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=quoting)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _one_line(text: str, path: Path, allowed: str = "") -> str:
    """Return a field of a .smi file; DataError when it holds white space other than what is `allowed`."""
    if wrong := [sign for sign in re.findall(r"\s", text) if sign not in allowed]:
        raise DataError(f"{path}: {text!r} has {wrong[0]!r}, which a .smi file cannot hold; write a .csv")
    return text
