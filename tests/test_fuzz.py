"""A slice of `benchmarks/fuzz.py` from a fixed seed: nothing but messages of one line comes back from any door."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from biotilt.errors import DataError
from biotilt.spaces import parse_fixed

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"
DOORS = ("configurations", "designs", "models", "checkpoints", "runs", "comparisons", "cli")
CASES, SEED = 30, 2026  # at each door: half a minute in all


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
    assert count["cases"] == CASES and count["ours"] and count["fine"]
    assert [place for place in report["places"] if door in place["doors"]] == []


def test_what_should_never_be_is_reported(tmp_path, monkeypatch):
    """Were a fault taken for an answer, the slice above would pass whatever happened."""
    monkeypatch.syspath_prepend(FUZZ.parent)
    from fuzzing.watch import Refused, run

    def fail(error):
        raise error

    doors = {
        "taken": lambda rng, kit, folder: None,
        "refused": lambda rng, kit, folder: fail(DataError("a line")),
        "two lines": lambda rng, kit, folder: fail(Refused("a\nb")),
        "not ours": lambda rng, kit, folder: parse_fixed(None, None, 3),  # type: ignore[arg-type]
        "memory": lambda rng, kit, folder: torch.zeros(1 << 40),
        "killed": lambda rng, kit, folder: os.kill(os.getpid(), signal.SIGKILL),
        "endless": lambda rng, kit, folder: next(i for i in itertools.count() if i < 0),
        "after": lambda rng, kit, folder: None,
    }
    found = list(run((f"{door}:0" for door in doors), doors, None, tmp_path, limit=1.0))
    assert [one.case for one in found] == [f"{door}:0" for door in doors]
    kinds = ["fine", "ours", "lines", "not_ours", "not_ours", "not_ours", "hang", "fine"]
    assert [one.kind for one in found] == kinds
    assert found[3].place.startswith("spaces/fixed.py:") and found[3].place.endswith(" TypeError")
    assert found[5].place == "died of signal 9"
