"""How a command answers: one JSON document or text on stdout, messages on stderr, an exit code."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import os
import select
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from biotilt.errors import LONGEST, BiotiltError, ConfigError, one_line, suggest
from biotilt.oracle.workers.isolation import stdout_to_stderr
from biotilt.ranks import is_first

ERROR, UNEXPECTED, INTERRUPTED, CLOSED = 2, 70, 130, 141  # as sysexits.h and shells have it
MOST_SEED, MOST_DESIGNS = 2**63 - 1, 1_000_000  # that a command takes; as in `options.py`
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
    """Turn a function that returns an Answer into a command with `--json` and `--debug`; see `Commands` for errors."""

    @functools.wraps(function)
    def run(*, as_json: bool, debug: bool, **arguments: Any) -> None:
        with _plain_warnings():
            with stdout_to_stderr():  # only the answer is for stdout, whatever plug-ins and rewards print
                answer = function(**arguments)
            _print(answer, as_json)

    signature = inspect.signature(function, eval_str=True)
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in _OPTIONS.items()
    ]
    parameters = [*signature.parameters.values(), *extra]
    run.__dict__["__signature__"] = signature.replace(parameters=parameters, return_annotation=None)
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


def take_threads(said: int | None = None) -> None:
    """Compute with as many threads as are said, or as are free; tell when others are busy."""
    import torch

    from biotilt.threads import free_threads

    most, taken = torch.get_num_threads(), said or free_threads()
    torch.set_num_threads(taken)
    if taken < most and said is None:
        note(f"computing with {taken} of {most} threads: other programs are busy; OMP_NUM_THREADS={most} takes all")


def note(message: str) -> None:
    """Tell people on stderr what happens, once where several processes do the same."""
    if is_first():
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
        with contextlib.nullcontext() if is_first() else _no_warnings():  # the first of several processes says it
            yield
    finally:
        warnings.formatwarning = usual


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _print_json(text: str) -> None:
    """Print JSON; on a terminal without one of its characters, with that escaped."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    typer.echo(text)


def _print(answer: Answer, as_json: bool) -> None:
    if not is_first():
        return
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


class Commands(TyperGroup):
    """All commands, and the one place where whatever goes wrong in them ends: one line on stderr, and an exit code.

    2: an error that the user can act on; 70: a fault of biotilt; 130: interrupted; 141: nobody reads the answer any
    more. With `--json` the message is also a document on stdout; with `--debug` the exception itself ends the program.
    """

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **unused: Any) -> NoReturn:
        words = list(sys.argv[1:] if args is None else args)
        sys.exit(_guarded(lambda: self._run(words, prog_name or "biotilt"), "--json" in words, "--debug" in words))

    def _run(self, words: list[str], name: str) -> None:
        for word in words:
            if "\0" in word:
                raise ConfigError(f"{word}: an argument must not contain the character NUL")
        with self.make_context(name, list(words)) as context:
            self.invoke(context)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names; ConfigError with the nearest one where there is none."""
        word, *others = args
        if word in self.commands or word.startswith("-"):
            return super().resolve_command(ctx, args)
        path = ctx.command_path
        if word == "resume" and "tune" in self.commands:  # what it is called in Python
            folder = next((other for other in others if not other.startswith("-")), "FOLDER")
            line = shlex.join([*path.split(), "tune", "--resume", folder])
            raise ConfigError(f'there is no command "resume"; to go on with a run: {line}')
        raise ConfigError(f'there is no command "{word}"{suggest(word, self.commands)}; see `{path} --help`')


def _guarded(run: Callable[[], None], as_json: bool, debug: bool) -> int:
    """Run a command line and return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, io.StringIO())
    _make_printable()
    try:
        run()
        sys.stdout.flush()
        return 0
    except typer.Exit as leave:
        return leave.exit_code
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        pipe = error.__context__ if isinstance(error, SystemExit) else error  # rich makes the one of the other
        if isinstance(pipe, BrokenPipeError) and (pipe is not error or _nobody_listens()):
            return CLOSED
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error)
            return ERROR
        if debug and not isinstance(error, KeyboardInterrupt):
            raise
        code, message = _told(error)
        message = one_line(message, LONGEST)
        note(message if code == INTERRUPTED else f"error: {message}")
        if as_json:
            kind = "Interrupted" if code == INTERRUPTED else type(error).__name__
            _print_json(json.dumps({"error": message, "kind": kind}, ensure_ascii=False))
        return code


@runtime_checkable
class _OfCommandLine(Protocol):
    """An error in the command line itself: click's, or that of the copy of click in newer releases of typer."""

    def format_message(self) -> str: ...


def _told(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the message of what ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, one_line(error, LONGEST) or "interrupted"
    if isinstance(error, BiotiltError):
        return ERROR, str(error)
    if isinstance(error, _OfCommandLine):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "biotilt"
        return ERROR, f"{error.format_message().rstrip('.')}; see `{path} --help`"
    told = one_line(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in told or "out of memory" in told:
        return ERROR, f"not enough memory ({told}): smaller batches or models need less"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, BrokenPipeError):
        what = "write the answer" if error.filename is None else f"use {one_line(error.filename)}"
        return ERROR, f"cannot {what}: {error.strerror}"
    return UNEXPECTED, f"unexpected {type(error).__name__}: {told}; please report it; --debug shows the traceback"


def _nobody_listens() -> bool:
    """Whether the reader of stdout or stderr has gone, as with `| head`; then nothing is said at exit either."""
    gone = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # no pipe at all
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                gone = True
    return gone
