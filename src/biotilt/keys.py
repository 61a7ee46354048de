"""Keys of an experiment before they are checked: read from a file, changed for one run, laid over each other."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from biotilt.errors import ConfigError
from biotilt.files import read_text


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """Return the keys of a TOML file and its text; ConfigError with line and column when it is malformed."""
    path = Path(path)
    text = read_text(path, error=ConfigError, missing=f"; `biotilt init utr {path}` writes a starter file")
    if not text.strip():
        raise ConfigError(f"{path} is empty; `biotilt init utr FILE` writes a starter file")
    try:
        return tomllib.loads(text), text
    except (ValueError, RecursionError) as error:  # of nested brackets, and of numbers with 5,000 digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def override(data: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Return the keys with `a.b=c` assignments applied; values are TOML, or plain text.

    >>> override({"train": {"lr": 1}}, ["train.lr=0.5", "task=utr"])
    {'train': {'lr': 0.5}, 'task': 'utr'}
    """
    data = copy.deepcopy(data)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f'--set "{assignment}": write key=value, for example train.lr=0.001')
        *parents, last = key.strip().split(".")
        data = data if parents else _without_other_tilt(data, {last})
        table = data
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f'--set "{assignment}": "{parent}" is a value, not a table')
        try:
            table[last] = tomllib.loads(f"v = {value.strip()}")["v"]
        except (ValueError, RecursionError):
            table[last] = value.strip()
    return data


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `under` with the keys of `over` laid on it, table by table.

    A reward of another kind, and an objective or a sampler of another name, replace the whole table: their options
    differ. Of alpha and target_kl, the one that is laid on takes the place of the other.
    """
    under = _without_other_tilt(under, over.keys())
    merged = dict(under)
    for key, value in over.items():
        tables = isinstance(value, dict) and isinstance(under.get(key), dict)
        named = {"reward": "kind", "held_out": "kind"}.get(key, "name" if key in _NAMED else None)
        another = tables and key == "model" and bool({"path", "factory", "source"} & value.keys())
        named_anew = named in value and (named == "kind" or value[named] != under[key].get(named)) if tables else False
        whole = not tables or another or named_anew
        merged[key] = value if whole else merge(under[key], value)
    return merged


def _without_other_tilt(data: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Return keys without that one of alpha and target_kl which the given keys replace by the other."""
    both = {"alpha": "target_kl", "target_kl": "alpha"}
    replaced = {other for key, other in both.items() if key in given and other not in given}
    return {key: value for key, value in data.items() if key not in replaced}


_NAMED = ("objective", "sampler", "screen")
