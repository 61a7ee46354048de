"""The tests of `far/`, each file in a process of its own: torch keeps the device, and threads for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "far"


@pytest.mark.slow
@pytest.mark.parametrize("file", ["device.py", "experiments.py", "published.py"])
def test_runs_on_a_device_that_refuses_tensors_of_the_processor(file):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
