"""Where a key stands in a TOML file: the line that an error about it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from biotilt.errors import ConfigError

_KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ENTRY = re.compile(rf"\s*({_DOTTED})\s*=\s*(\"{{3}}|'{{3}})?")

Path = tuple[str, ...]


def located(message: str, source: str, text: str) -> str:
    """Put the file, and the line where the key stands, before a message that begins with `key.path:`.

    A key that has no line of its own, as in `options = { low = 1 }`, has that of the table that holds it.

    >>> located("train.lr: must be > 0", "a.toml", "[train]\\nlr = 0")
    'a.toml:2: train.lr: must be > 0'
    """
    if message.startswith(f"{source}:"):
        return message
    key = re.match(r"[\w.-]+(?=:)", message)
    path = tuple(key[0].split(".")) if key else ()
    lines = _lines(text)
    while path and path not in lines:
        path = path[:-1]
    return f"{source}:{lines[path]}: {message}" if path else f"{source}: {message}"


def _lines(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table and key that has one; rows of a list of tables count from 0."""
    lines: dict[Path, int] = {}
    rows: dict[Path, int] = {}  # the last row of each list of tables
    table: Path = ()
    closing = ""  # of a text of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if closing:
            closing = "" if closing in line else closing
        elif header := _TABLE.match(line):
            table = _resolved(header[2], rows)
            if header[1] == "[[":
                rows[table] = rows.get(table, -1) + 1
                table = (*table, str(rows[table]))
            lines.setdefault(table, number)
        elif entry := _ENTRY.match(line):
            path = (*table, *_parts(entry[1]))
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], number)
            closing = entry[2] if entry[2] and line.count(entry[2]) == 1 else ""
    return lines


def _resolved(dotted: str, rows: dict[Path, int]) -> Path:
    """Return the path of a header, with the row of each list of tables on the way."""
    path: Path = ()
    parts = _parts(dotted)
    for place, part in enumerate(parts):
        path = (*path, part)
        if path in rows and place < len(parts) - 1:
            path = (*path, str(rows[path]))
    return path


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]


@contextmanager
def locating(source: str, text: str) -> Iterator[None]:
    """Put file and line before an error about a key."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(located(str(error), source, text)) from error
