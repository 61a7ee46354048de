"""Commands that only tell something start without torch, which takes seconds."""

from __future__ import annotations

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
