"""Tiny models and experiments that several tests share: 10 letters, one block of 8 channels."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import fresh_processes

collect_ignore = ["far"]  # test_far.py runs them, in processes of their own
LENGTH = 10
# G is the rarest letter and the reward counts it: every test that looks for an effect has a direction
WEIGHTS = {"A": 4, "C": 3, "G": 1, "T": 2}
REWARD = "def count(designs):\n    return [float(d.count('G')) for d in designs]\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first: workers that take file after file then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def forget_modules(tmp_path):
    """Rewards that one test imports from its folder must not be found by the next."""
    path, before = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):  # thousands: to ask each for its file takes milliseconds
        if before.get(name) is not module and str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session", autouse=True)
def _home_of_the_tests(tmp_path_factory: pytest.TempPathFactory):
    """The secret by which runs know their maker is not made in the home of whoever runs the tests."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    os.environ.pop("XDG_STATE_HOME")
    if before is not None:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(scope="session", autouse=True)
def built_again_by_an_interpreter():
    """Networks of other people are built again in processes that need not import torch first.

    Gives the function that starts an interpreter for it.
    """
    from biotilt.models import checks

    with pytest.MonkeyPatch.context() as patch:
        before = checks.run_python
        patch.setattr(checks, "run_python", fresh_processes.run_python)
        yield before


@pytest.fixture
def double():
    """Compute in float64, where an exact answer is known to more digits than float32 has."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def one_thread():
    """Two workers with two threads each would fight over two cores; sums must not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sequences() -> list[str]:
    letters = random.Random(3)
    return ["".join(letters.choices("".join(WEIGHTS), list(WEIGHTS.values()), k=LENGTH)) for _ in range(200)]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, sequences: list[str]) -> Path:
    """A folder with generator.safetensors, masked.safetensors, oracle.safetensors, reward.py and data.csv."""
    from biotilt.fitting import Split, fit_oracle, pretrain_model
    from biotilt.training import FitConfig, PretrainConfig

    folder = tmp_path_factory.mktemp("tiny")
    processes = {
        "generator": {"name": "any_order", "per_step": 2},
        "masked": {"name": "masked", "num_steps": 5},
    }
    for name, process in processes.items():
        model, _ = pretrain_model(
            sequences,
            "dna",
            network={"channels": 8, "blocks": 1},
            process=process,
            config=PretrainConfig(steps=60, warmup=5, batch=64, lr=0.02, check_every=60),
            split=Split(identity=None),
        )
        model.save(folder / f"{name}.safetensors")
    values = [float(s.count("G")) + 0.1 * s.count("C") for s in sequences]
    oracle, _ = fit_oracle(
        sequences,
        values,
        "dna",
        name="judge",
        members=1,
        architecture={"channels": 8, "layers": 1, "kernel": 3, "hidden": 8, "dropout": 0.0},
        config=FitConfig(epochs=8, batch=16, lr=0.01),
        split=Split(identity=None),
    )
    oracle.save(folder / "oracle.safetensors")
    (folder / "reward.py").write_text(REWARD)
    rows = [f"{s},{v}" for s, v in zip(sequences, values)]
    (folder / "data.csv").write_text("sequence,load\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture
def keys(tiny: Path) -> dict[str, Any]:
    """The keys of an experiment that runs in a fraction of a second."""
    return {
        "alpha": 0.5,
        "model": {"path": str(tiny / "generator.safetensors")},
        "reward": {"kind": "python", "function": f"{tiny / 'reward.py'}:count"},
        "held_out": {"kind": "learned", "path": str(tiny / "oracle.safetensors")},
        "objective": {"name": "vidd", "updates": 3, "states": 16},
        "train": {"max_calls": 32, "batch": 8},
        "output": {"samples": 12},
    }


@pytest.fixture
def experiment_file(tmp_path: Path, keys: dict[str, Any]) -> Callable[..., Path]:
    """Write an experiment file with some top-level keys changed; None leaves a key out."""

    def write(name: str = "experiment.toml", **changes: Any) -> Path:
        content = {key: value for key, value in (keys | changes).items() if value is not None}
        path = tmp_path / name
        path.write_text(as_toml(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, nine tenths of what an evaluation costs, where a test looks at tables and numbers only."""
    monkeypatch.setattr("biotilt.outputs.write_page", lambda *parts: None)


@pytest.fixture
def biotilt_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line in an empty folder; the result has exit_code, stdout and stderr."""
    from biotilt.cli import app

    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def as_toml(content: dict[str, Any]) -> str:
    """Return a one-level TOML text: single keys first, then a section for each table."""
    single = [f"{key} = {_value(v)}" for key, v in content.items() if not isinstance(v, dict)]
    for section, table in content.items():
        if isinstance(table, dict):
            single += [f"[{section}]", *(f"{key} = {_value(v)}" for key, v in table.items())]
    return "\n".join(single) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value)
