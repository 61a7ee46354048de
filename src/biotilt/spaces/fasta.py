"""FASTA headers: a name, words of description, and `key=value`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from biotilt.errors import DataError

DESCRIPTION = "description"
_BETWEEN = "; "  # the values of a key that stands in a header more than once

# Both are linear in the header: a key starts a word, so each word is looked at once.
_KEY = re.compile(r"(?<!\S)([^\s=]+)=")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?!\S)')


def parse_header(text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the values of a header without its ">".

    A value is quoted (with "" for a quote), or runs up to the next key, as in UniProt. Words before the first key are
    the "description". A key that stands there more than once keeps all its values, with "; " between.

    >>> parse_header('x my promoter score=2.5 note="a b" OS=Homo sapiens')
    ('x', {'description': 'my promoter', 'score': '2.5', 'note': 'a b', 'OS': 'Homo sapiens'})
    >>> parse_header("x some words description=foo n=1 n=2")
    ('x', {'description': 'some words; foo', 'n': '1; 2'})
    """
    name, rest = [*text.split(maxsplit=1), "", ""][:2]
    found: dict[str, list[str]] = {}
    key = _KEY.search(rest)
    if words := rest[: key.start() if key else None].strip():
        found[DESCRIPTION] = [words]
    while key:
        if quoted := _QUOTED.match(rest, key.end()):
            value, following = quoted[1].replace('""', '"'), _KEY.search(rest, quoted.end())
            # words behind a quoted value belong to no key but this one
            value += rest[quoted.end() : following.start() if following else None].rstrip()
        else:
            following = _KEY.search(rest, key.end())
            value = rest[key.end() : following.start() if following else None].strip()
        found.setdefault(key[1], []).append(value)
        key = following
    return name, {key: _BETWEEN.join(values) for key, values in found.items()}


def format_header(name: str, values: Mapping[str, str], path: Path) -> str:
    """Return the header that `parse_header` reads as `name` and `values`, without its ">".

    Raises DataError, with the file it was meant for, when a header cannot hold them.
    """
    if not name or re.search(r"\s", name):
        raise DataError(f"{path}: {name!r} cannot be a FASTA name: it is empty or has a space; write a .csv")
    words = [name]
    for key, value in values.items():
        if not re.fullmatch(r"[^\s=]+", key):
            raise DataError(f"{path}: {key!r} cannot be a key in a FASTA header: spaces or '='; write a .csv")
        if "\n" in value or "\r" in value:
            raise DataError(f"{path}: {key!r} of design {name!r} has a line break; write a .csv")
        needs_quotes = re.search(r'[\s="]', value)
        words.append(f"{key}=" + ('"' + value.replace('"', '""') + '"' if needs_quotes else value))
    return " ".join(words)
