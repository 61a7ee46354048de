"""How commands speak to a terminal: characters that it has not, and warnings."""

from __future__ import annotations

import io
import json
import sys
import warnings

import pytest
import typer

from biotilt.cli.console import Answer, Commands, answering
from biotilt.errors import DataError

TEXT = "5′UTR µ Å"


@pytest.fixture
def told(monkeypatch):
    """Run a function as a command in a terminal of that encoding; return its code and what it printed."""

    def tell(function, encoding, *, as_json=False):
        streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
        for name, stream in streams.items():
            monkeypatch.setattr(sys, name, stream)
        app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
        app.callback()(lambda: None)
        app.command("tell")(answering(function))
        with pytest.raises(SystemExit) as end:
            app(["tell", *(["--json"] if as_json else [])])
        code = end.value.code
        for stream in streams.values():
            stream.flush()
        # an ascii terminal is taken for one of UTF-8
        printed = [s.buffer.getvalue().decode(encoding.replace("ascii", "utf-8")) for s in streams.values()]  # type: ignore[attr-defined]
        return code, *printed

    return tell


def answer() -> Answer:
    return Answer({"text": TEXT}, (TEXT,))


def fail() -> Answer:
    raise DataError(TEXT)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii"])
def test_a_character_that_the_terminal_has_not_is_replaced(told, encoding):
    shown = TEXT if encoding in ("utf-8", "ascii") else "5?UTR µ Å"
    assert told(answer, encoding) == (0, f"{shown}\n", "")
    assert told(fail, encoding) == (2, "", f"error: {shown}\n")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii"])
def test_json_keeps_every_character(told, encoding):
    code, out, _ = told(answer, encoding, as_json=True)
    assert (code, json.loads(out)) == (0, {"text": TEXT})
    code, out, _ = told(fail, encoding, as_json=True)
    assert (code, json.loads(out)) == (2, {"error": TEXT, "kind": "DataError"})


def test_half_a_character_of_a_path_is_replaced(told):
    def fails() -> Answer:
        raise DataError("a\udc80.csv")

    assert told(fails, "utf-8") == (2, "", "error: a\\udc80.csv\n")


def test_a_warning_is_one_line_and_others_keep_their_place(told):
    def warn() -> Answer:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *about, **_: print(
                warnings.formatwarning(*about[:4]), file=sys.stderr, end=""
            )
            warnings.warn("two\nlines", UserWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        return Answer({}, ("done",))

    code, out, error = told(warn, "utf-8")
    first, second, *_ = error.splitlines()
    assert (code, out, first) == (0, "done\n", "warning: two lines")
    assert second.endswith("DeprecationWarning: old")
    assert warnings.formatwarning("x", UserWarning, "f.py", 1, "").startswith("f.py:1: UserWarning: x")
