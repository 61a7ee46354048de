"""Errors that users can act on: what was wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from typing import Any, TypeVar

LONGEST = 2_000  # characters of a message

T = TypeVar("T")


class BiotiltError(Exception):
    """Base of every error that biotilt raises on purpose; its message is one line, of at most 2,000 characters.

    >>> try:
    ...     raise DataError("mine.fasta, line 3: there is no sequence")
    ... except BiotiltError as error:
    ...     print(error)
    mine.fasta, line 3: there is no sequence
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message, LONGEST))


class ConfigError(BiotiltError):
    """An experiment file, an override or a combination of parts cannot work.

    >>> import biotilt
    >>> biotilt.Experiment.for_task("utr", alpha=-1)
    Traceback (most recent call last):
    biotilt.errors.ConfigError: ...alpha: must be > 0, got -1...
    """


class DataError(BiotiltError):
    """A data file or a design is malformed; the message names file, line and column.

    >>> import biotilt
    >>> biotilt.Letters(biotilt.alphabet("dna")).encode(["ACGT", "ACXT"])
    Traceback (most recent call last):
    biotilt.errors.DataError: ...X...
    """


class RewardError(BiotiltError):
    """A reward cannot be loaded, or none of its scores can be used.

    >>> import biotilt
    >>> experiment = biotilt.Experiment.for_task("utr", reward=lambda designs: [1.0])
    >>> biotilt.steer(experiment, 4)
    Traceback (most recent call last):
    biotilt.errors.RewardError: ...
    """


class NothingScored(RewardError):
    """No design got a finite score: there is nothing to tune on, to choose or to judge."""


class CheckpointError(BiotiltError):
    """A checkpoint is missing, damaged, or of another model.

    >>> import biotilt, tempfile
    >>> biotilt.Run.load(tempfile.mkdtemp())
    Traceback (most recent call last):
    biotilt.errors.CheckpointError: ... is not the folder of a run: it has no experiment.json
    """


class LedgerBehind(CheckpointError):
    """A checkpoint counts requests that the ledger has lost: an older checkpoint may fit it."""


class FolderInUse(BiotiltError):
    """Another process writes into the folder of a run; the message says which."""


class ProcessLost(BiotiltError):
    """A process that computes a run together with this one has ended, or cannot be reached."""


class UntrustedRun(BiotiltError):
    """The folder of a run that somebody else made would run code of its choice.

    >>> import biotilt, tempfile, torch
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.table = torch.nn.Embedding(5, 4)
    ...     def forward(self, tokens):
    ...         return self.table(tokens)
    >>> biotilt.wrap(Net(), space="dna", length=6, factory="mine:load").save(path)
    >>> biotilt.load_model(path)
    Traceback (most recent call last):
    biotilt.errors.UntrustedRun: ...mine:load...
    """


class CallbackError(BiotiltError):
    """A callback of a run failed; the message names it, and the run is kept."""


class BudgetSpent(BiotiltError):
    """The oracle's budget of calls is spent; the run ends cleanly."""


def needs_extra(package: str, extra: str) -> Any:
    """Import and return an optional package; ConfigError says what to install when it is missing.

    >>> needs_extra("no_such_package", "rna")
    Traceback (most recent call last):
    biotilt.errors.ConfigError: the package "no_such_package" is missing: pip install "viennarna>=2.7"
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise  # the package is there, and something that it needs is not: its own message says more
        raise ConfigError(f'the package "{package}" is missing: pip install {_packages(extra)}') from error


def _packages(extra: str) -> str:
    """Return the packages of one of our extras, as pip takes them: no index has biotilt, so no `biotilt[extra]`."""
    try:
        told = requires("biotilt") or []
    except PackageNotFoundError:  # a checkout that is on the path and not installed
        told = []
    lines = [line.partition("; extra == ") for line in told]
    named = " ".join(f'"{what.strip()}"' for what, _, name in lines if name.strip("\"'") == extra)
    # one that was installed before there was such an extra knows none
    return named or f'the packages that pyproject.toml lists for "{extra}"'


def one_line(message: object, longest: int = 200) -> str:
    r"""Return text as one line of at most `longest` characters, cut in its middle; control characters are escaped.

    >>> one_line("a file\n  of \x1b[31mmine"), one_line("abcdefghi", 5)
    ('a file of \\x1b[31mmine', 'ab…hi')
    """
    try:
        text = str(message)
    except Exception as error:  # a stranger's __str__ may raise anything
        text = f"{type(message).__name__} whose text cannot be had ({type(error).__name__})"
    text = _cut(text, 2 * longest)  # before the work on each letter
    text = " ".join(filter(None, (line.strip() for line in text.splitlines())))
    return _cut("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text), longest)


def _cut(text: str, longest: int) -> str:
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return `'; did you mean "x"?'` for the nearest valid name, or a list of all of them.

    >>> suggest("vid", ["vidd", "ppo"])
    '; did you mean "vidd"?'
    >>> suggest("zzz", ["vidd", "ppo"])
    '; valid: ppo, vidd'
    """
    names = sorted(valid)
    close = get_close_matches(name[:80], names, n=1)  # its time grows with the square of the length
    return f'; did you mean "{close[0]}"?' if close else f"; valid: {', '.join(names)}"


def reason_of(error: Exception) -> str:
    """Return what an error says, in one line; one that is not ours with its kind."""
    said = "" if isinstance(error, BiotiltError) else f"{type(error).__name__}: "
    with suppress(Exception):  # an error whose text cannot be had
        said += " ".join(str(error).split())
    return said


class Problems(list[str]):
    """What went wrong on the way to a result that is kept without it, a line each."""

    def attempt(self, what: str, default: T, function: Callable[[], T]) -> T:
        """Return `function()`, or `default` with a line about `what` when it raises.

        >>> problems = Problems()
        >>> problems.attempt("the picture", 0, lambda: int("x")), problems
        (0, ["the picture: ValueError: invalid literal for int() with base 10: 'x'"])
        """
        try:
            return function()
        except Exception as error:
            self.append(f"{what}: {reason_of(error)}")
            return default
