"""Errors that users can act on: what was wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal, get_args, get_origin, get_type_hints


class BiotiltError(Exception):
    """Base of every error that biotilt raises on purpose."""


class ConfigError(BiotiltError):
    """An experiment file, an override or a combination of parts cannot work."""


class DataError(BiotiltError):
    """A data file or a design is malformed; the message names file, line and column."""


class RewardError(BiotiltError):
    """A reward cannot be loaded, or none of its scores can be used."""


class NothingScored(RewardError):
    """No design got a finite score: there is nothing to tune on, to choose or to judge."""


class CheckpointError(BiotiltError):
    """A checkpoint is missing, damaged, or of another model."""


class LedgerBehind(CheckpointError):
    """A checkpoint counts requests that the ledger has lost: an older checkpoint may fit it."""


class FolderInUse(BiotiltError):
    """Another process writes into the folder of a run; the message says which."""


class UntrustedRun(BiotiltError):
    """The folder of a run that somebody else made would run code of its choice."""


class BudgetSpent(BiotiltError):
    """The oracle's budget of calls is spent; the run ends cleanly."""


def needs_extra(package: str, extra: str) -> Any:
    """Import and return an optional package; ConfigError names the extra to install when it is missing.

    >>> needs_extra("no_such_package", "rna")
    Traceback (most recent call last):
    biotilt.errors.ConfigError: the package "no_such_package" is missing: pip install "biotilt[rna]"
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise  # the package is there, and something that it needs is not: its own message says more
        raise ConfigError(f'the package "{package}" is missing: pip install "biotilt[{extra}]"') from error


def check_choices(config: Any, section: str) -> None:
    """Raise ConfigError when a field of a dataclass that is annotated `Literal[...]` holds something else."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ConfigError(f'{section}.{name}: unknown choice "{value}"{suggest(str(value), get_args(hint))}')


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return `'; did you mean "x"?'` for the nearest valid name, or a list of all of them.

    >>> suggest("vid", ["vidd", "ppo"])
    '; did you mean "vidd"?'
    >>> suggest("zzz", ["vidd", "ppo"])
    '; valid: ppo, vidd'
    """
    names = sorted(valid)
    close = get_close_matches(name, names, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; valid: {', '.join(names)}"
