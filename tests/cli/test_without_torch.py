"""Commands that only tell something start without torch, which takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# what is imported when a module is looked for and is not there
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("torch is not to be imported here")

sys.meta_path.insert(0, Blocked())
sys.argv = ["biotilt", *sys.argv[1:]]
from biotilt.cli import app
app()
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--version"], "."),
        (["--help"], "tune"),
        (["task", "list"], "utr: 50-nt"),
        (["init", "utr", "{folder}/mine.toml"], "wrote"),
    ],
)
def test_a_command_that_only_tells_something_needs_no_torch(words, told, tmp_path):
    words = [word.format(folder=tmp_path) for word in words]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


@pytest.mark.parametrize(("said", "found"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_how_memory_is_taken_is_said_before_torch_and_who_says_otherwise_is_heard(said, found):
    code = "import biotilt.cli, os, sys; print(os.environ['THP_MEM_ALLOC_ENABLE'], 'torch' in sys.modules)"
    known = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run([sys.executable, "-c", code], env=known | said, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found, "False"]
