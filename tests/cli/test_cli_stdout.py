"""Only the answer of a command is on stdout, whatever its parts print."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import threading

import pytest

from biotilt.cli.console import Answer, answering


@answering
def loud() -> Answer:
    def print_later():
        waiting.wait(10)
        print("from a thread")

    waiting = threading.Event()
    thread = threading.Thread(target=print_later)
    thread.start()
    print("from Python")
    os.write(1, b"from a descriptor\n")
    ctypes.CDLL(None).puts(b"from C")
    subprocess.run(["echo", "from a program"], check=True)
    waiting.set()
    thread.join()
    return Answer({"found": 1}, ("the answer",))


@pytest.mark.parametrize("as_json", [True, False])
def test_only_the_answer_is_on_stdout(capfd, as_json):
    loud(as_json=as_json, debug=False)
    out, err = capfd.readouterr()
    assert (json.loads(out) == {"found": 1}) if as_json else (out == "the answer\n")
    kinds = ("C", "Python", "a descriptor", "a program", "a thread")
    assert sorted(err.splitlines()) == [f"from {kind}" for kind in kinds]
