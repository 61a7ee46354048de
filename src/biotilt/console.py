"""How a command answers: one JSON document or text on stdout, messages on stderr, an exit code."""

from __future__ import annotations

import functools
import inspect
import io
import json
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from biotilt.errors import BiotiltError
from biotilt.oracle.isolation import stdout_to_stderr

ERROR, INTERRUPTED = 2, 130
TABLE_WIDTH = 110  # where stdout is no terminal

_OPTIONS = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
}


@dataclass(frozen=True)
class Answer:
    """What a command found: a `document` for `--json`, and what people see, each a text or a rich table."""

    document: Any
    shown: tuple[Any, ...]


def answering(function: Callable[..., Answer]) -> Callable[..., None]:
    """Turn a function that returns an Answer into a command with `--json` and `--debug`.

    An error of biotilt becomes one message on stderr and exit code 2, an interrupt exit code 130.
    """

    @functools.wraps(function)
    def run(*, as_json: bool, debug: bool, **arguments: Any) -> None:
        _make_printable()
        try:
            with _plain_warnings():
                with stdout_to_stderr():  # only the answer is for stdout, whatever plug-ins and rewards print
                    answer = function(**arguments)
                _print(answer, as_json)
        except BiotiltError as error:
            if debug:
                raise
            _fail(str(error), type(error).__name__, as_json, ERROR)
        except KeyboardInterrupt as interrupt:
            _fail(str(interrupt) or "interrupted", "Interrupted", as_json, INTERRUPTED)

    signature = inspect.signature(function, eval_str=True)
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in _OPTIONS.items()
    ]
    parameters = [*signature.parameters.values(), *extra]
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@contextmanager
def go_on_with(*command: str | Path) -> Iterator[None]:
    """Make an interrupt say with which command to go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        line = shlex.join(["biotilt", *map(str, command)])
        raise KeyboardInterrupt(f"interrupted; go on with: {line}") from interrupt


def note(message: str) -> None:
    """Tell people on stderr what happens."""
    typer.echo(message, err=True)


def _make_printable() -> None:
    """Print "?" for a character that the terminal has not, where Python would stop with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning to people as one line, without the place in the source that asked for it."""
    usual = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        told = " ".join(str(message).split())
        return f"warning: {told}\n" if category is UserWarning else usual(message, category, *place, **more)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _print_json(text: str) -> None:
    """Print JSON; on a terminal without one of its characters, with that escaped."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    typer.echo(text)


def _print(answer: Answer, as_json: bool) -> None:
    if as_json:
        from biotilt.files import strict_json

        _print_json(strict_json(answer.document))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    for part in answer.shown:
        if isinstance(part, str):
            typer.echo(part)  # rich would wrap long designs
        else:
            console.print(part)


def _fail(message: str, kind: str, as_json: bool, code: int) -> None:
    note(f"error: {message}" if code == ERROR else message)
    if as_json:
        _print_json(json.dumps({"error": message, "kind": kind}, ensure_ascii=False))
    raise typer.Exit(code)
