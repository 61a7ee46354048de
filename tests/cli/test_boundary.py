"""Whatever goes wrong in a command ends as one line on stderr and an exit code; with --json as a document besides."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from biotilt.cli.console import Answer, Commands, answering
from biotilt.errors import ConfigError


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class NotText(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307


class OutOfMemoryError(RuntimeError):
    pass


ENDS = {
    "ours": (ConfigError("a\nb\x1b[31m"), 2, "error: a b\\x1b[31m\n"),
    "interrupt": (KeyboardInterrupt(), 130, "interrupted\n"),
    "file": (PermissionError(13, "Permission denied", "x.csv"), 2, "error: cannot use x.csv: Permission denied\n"),
    "memory": (MemoryError(), 2, "error: not enough memory (): smaller batches or models need less\n"),
    "ValueError": (ValueError("odd"), 70, "error: unexpected ValueError: odd; please report it; --debug shows"),
    "leaves": (SystemExit(3), 70, "error: unexpected SystemExit: 3; please report"),
    "recursion": (RecursionError("deep"), 70, "error: unexpected RecursionError: deep; please report"),
    "unprintable": (Unprintable(), 70, "error: unexpected Unprintable: Unprintable whose text cannot be had"),
    "no text": (NotText(), 70, "error: unexpected NotText: NotText whose text cannot be had (TypeError)"),
}


def raising(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=Commands)

    @app.command("go")
    @answering
    def go() -> Answer:
        raise error

    @app.command("other")
    @answering
    def other() -> Answer:
        return Answer({}, ())

    return app


@pytest.mark.parametrize(("error", "code", "told"), ENDS.values(), ids=list(ENDS))
def test_one_line_and_a_code(error, code, told):
    plain = CliRunner().invoke(raising(error), ["go"])
    assert (plain.exit_code, plain.stdout) == (code, "")
    assert plain.stderr.startswith(told) and plain.stderr.count("\n") == 1
    document = CliRunner().invoke(raising(error), ["go", "--json"])
    kind = "Interrupted" if code == 130 else type(error).__name__
    assert document.exit_code == code
    assert json.loads(document.stdout) == {"error": document.stderr.removeprefix("error: ").rstrip("\n"), "kind": kind}


def test_debug_shows_the_exception_itself():
    error = ValueError("odd")
    assert CliRunner().invoke(raising(error), ["go", "--debug"]).exception is error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nope"], 'there is no command "nope"; valid: '),
        (["evalute", "runs/x"], 'there is no command "evalute"; did you mean "evaluate"?; see `biotilt --help`'),
        (["task", "lst"], 'there is no command "lst"; did you mean "list"?; see `biotilt task --help`'),
        (["resume"], "to go on with a run: biotilt tune --resume FOLDER"),
        (["resume", "runs/a b"], "to go on with a run: biotilt tune --resume 'runs/a b'"),
        (["sample", "m", "--count", "0"], "greater than or equal to 1; see `biotilt sample --help`"),
        (["sample", "m", "--seed", str(2**63)], "less than or equal to 9223372036854775807"),
        (["sample", "m", "--count", "10000000"], "less than or equal to 1000000"),
        (["sample", "m", "--count", "many"], "valid integer"),
        (["list", "--nope"], "No such option: --nope; see `biotilt list --help`"),
        (["check", "a\0b"], "a\\x00b: an argument must not contain the character NUL"),
        (["check", "x" * 300], "File name too long"),
        (["sample", "x" * 300], "File name too long"),
    ],
)
def test_a_command_line_that_cannot_be(biotilt_cli, words, told):
    result = biotilt_cli(*words, "--json")
    assert result.exit_code == 2
    assert told in result.stderr and result.stderr.count("\n") == 1
    assert json.loads(result.stdout)["error"] in result.stderr


SOURCE = """
import typer
from biotilt.cli.console import Answer, Commands, answering
app = typer.Typer(cls=Commands)

@app.command()
@answering
def go() -> Answer:
    return Answer({}, ("x" * 10**6,))

@app.command()
def other() -> None:
    pass

app()
"""


@pytest.mark.parametrize(
    ("redirect", "code", "told"),
    [
        ("| true", 141, ""),
        (">&-", 0, ""),
        ("> /dev/full", 2, "error: cannot write the answer: No space left on device"),
    ],
    ids=["reader gone", "closed", "full"],
)
def test_nobody_takes_the_answer(redirect, code, told):
    line = f'"{sys.executable}" -c "$SOURCE" go {redirect}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, "SOURCE": SOURCE}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert told in done.stderr and done.stderr.count("\n") == bool(told)
