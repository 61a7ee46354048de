"""A slice of `benchmarks/fuzz.py` from a fixed seed: nothing but messages of one line comes back from any door."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"
DOORS = ("configurations", "designs", "models", "checkpoints", "runs", "comparisons", "cli")
CASES, SEED = 40, 2026  # at each door: half a minute in all
NOT_YET = DOORS  # doors at which something is still wrong


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    words = ["--json", "--cases", str(CASES), "--seed", str(SEED)]
    folder = tmp_path_factory.mktemp("fuzz")
    done = subprocess.run([sys.executable, str(FUZZ), *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1) and done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_odd_input_is_taken_or_refused_in_one_line(report, door):
    count = report["counts"][door]
    # were all refused at the first check, or none, the fuzzer would be trying nothing
    assert (count["cases"] == CASES and count["ours"] and count["fine"]) or door in NOT_YET
    assert [place for place in report["places"] if door in place["doors"]] == [] or door in NOT_YET
