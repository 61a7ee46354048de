"""Text and JSON files that survive: written whole or not at all, and never executed when read."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biotilt.atomic import write_atomic
from biotilt.errors import BiotiltError, CheckpointError, ConfigError, DataError, one_line
from biotilt.schema import checked

LARGEST_TEXT = 1 << 30  # bytes, unpacked: a library of a million designs has a tenth of it

_GZIP = b"\x1f\x8b"
_NO_TEXT = {  # how files start that people take for text
    b"PK\x03\x04": "a zip archive (an Excel workbook is one); save it as text, a table as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save it as text, a table as CSV in UTF-8",
    b"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    b"BZh": "compressed with bzip2; unpack it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, or compress it with gzip",
    b"%PDF": "a PDF",
}
_ENCODINGS = {  # byte-order marks; UTF-32 before UTF-16, whose mark it starts with
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    write_atomic(path, lambda p: p.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))


def strict_json(value: Any) -> str:
    """Return JSON that every reader takes, two spaces a level: NaN and the infinities become null.

    >>> print(strict_json([1.5, float("nan")]))
    [
      1.5,
      null
    ]
    """
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, whole or not at all."""
    write_text(path, strict_json(value) + "\n")


def read_text(
    path: str | Path,
    *,
    error: type[BiotiltError] = DataError,
    missing: str = "",
    line_ends: bool = False,
    any_bytes: bool = False,
) -> str:
    """Return the text of a file in UTF-8, with or without a byte-order mark; a .gz file is unpacked.

    Args:
        path: the file.
        error: what is raised.
        missing: what to do when there is no such file, for the message.
        line_ends: keep those of Windows and old Macs; without it all lines end in "\\n".
        any_bytes: replace bytes that are not UTF-8 instead of refusing them. For files whose numbers count and
            whose remarks do not, such as coordinates.

    Raises:
        `error`: the file is missing, a folder or unreadable, holds more than `LARGEST_TEXT` bytes, is compressed
            where its suffix does not say so (or the reverse), or is in another encoding, which is named with the line.
    """
    path, where = Path(path), shown_path(path)
    data = _bytes_of(path, error, missing)
    for start, what in _NO_TEXT.items():
        if data.startswith(start):
            raise error(f"{where}: no text file: it is {what}")
    if name := next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), None):
        raise error(f"{where}:1: the file is in {name}, not in UTF-8; save it as UTF-8")
    if (at := data.find(b"\0")) >= 0:
        likely = "it looks like UTF-16; save it as UTF-8" if b"\0" in data[:2] else "it is binary, or damaged"
        raise error(f"{where}:{_line(data, at)}: a NUL byte, which no text has: {likely}")
    try:
        text = data.decode("utf-8-sig", errors="replace" if any_bytes else "strict")
    except UnicodeDecodeError as wrong:
        # counted in `wrong.object`: the decoder has taken a byte-order mark off before it counts
        byte, line = wrong.object[wrong.start], _line(wrong.object, wrong.start)
        likely = "Windows-1252 or Latin-1" if byte >= 0xA0 else "Windows-1252 or Mac Roman"
        raise error(
            f"{where}:{line}: byte 0x{byte:02x} is not UTF-8, it looks like {likely}; save the file as UTF-8"
        ) from wrong
    return text if line_ends else text.replace("\r\n", "\n").replace("\r", "\n")


def shown_path(path: str | Path) -> str:
    """Return a path for a message of one line: line breaks and other signs that cannot be printed are escaped.

    >>> print(shown_path("a\\nb.csv"))
    a\\nb.csv
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(path))


def _bytes_of(path: Path, error: type[BiotiltError], missing: str) -> bytes:
    """Return what a file holds, unpacked where its suffix is .gz, up to the most that is allowed."""
    where, is_gz = shown_path(path), path.suffix.lower() == ".gz"
    try:
        if not path.is_file():
            raise error(_why_no_file(path) + (missing if not path.exists() else ""))
        with path.open("rb") as handle:
            packed = handle.read(2) == _GZIP
            size = handle.seek(0, os.SEEK_END)
            handle.seek(0)
            if packed and not is_gz:
                raise error(f"{where}: compressed with gzip, but its name does not end in .gz; rename it")
            if size and is_gz and not packed:
                raise error(f"{where}: not a gzip file, though its name ends in .gz; rename it or compress it")
            with gzip.open(handle) if packed else handle as source:
                data = source.read(LARGEST_TEXT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as wrong:
        raise error(f"{where}: not a whole gzip file: {wrong}") from wrong
    except (OSError, ValueError) as wrong:  # ValueError: a NUL in the path
        raise error(f"{where}: cannot be read: {getattr(wrong, 'strerror', None) or wrong}") from wrong
    if len(data) > LARGEST_TEXT:
        unpacked = " once unpacked" if packed else ""
        raise error(f"{where}: more than {LARGEST_TEXT / 2**30:g} GiB{unpacked}, the most that is read; split it")
    return data


def _why_no_file(path: Path) -> str:
    if not path.exists():
        return f"{shown_path(path)} does not exist"
    what = "a folder" if path.is_dir() else "a device or a pipe"
    return f"{shown_path(path)}: cannot be read: it is {what}, not a file"


def _line(data: bytes, at: int) -> int:
    return data[:at].count(b"\n") + 1


def read_json(path: Path, schema: Any = None) -> Any:
    """Read JSON, as `schema` where one is given (a pydantic model or a type).

    Raises CheckpointError, in one line with file and place, when it is missing, damaged or does not fit.
    """
    content = parsed(read_text(path, error=CheckpointError), path)
    return content if schema is None else checked(content, schema, shown_path(path), CheckpointError)


def parsed(text: str, path: Path) -> Any:
    """Return the content of JSON; CheckpointError when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits, and thousands of brackets
        raise CheckpointError(f"{path} is not valid JSON: {one_line(error)}") from error


@contextlib.contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Turn an error about what a file describes into a CheckpointError that names the file."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise CheckpointError(f"{path}: {error}") from error
