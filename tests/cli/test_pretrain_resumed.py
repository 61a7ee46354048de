"""`biotilt pretrain`: Ctrl-C leaves a state, the same command goes on from it, and another one is refused."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from biotilt.training import pretrain


@pytest.fixture
def command(tiny):
    small = ["--alphabet", "dna", "--column", "sequence", "--channels", "8", "--blocks", "1", "--steps", "9"]
    return ["pretrain", tiny / "data.csv", "--out", "m.safetensors", *small]


@pytest.fixture
def keyboard():
    """Have Ctrl-C raise KeyboardInterrupt, also in a worker of a parallel test run, which is deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def pressed(monkeypatch, keyboard):
    """Return a function that has Ctrl-C come in the middle of a step."""
    module = sys.modules[pretrain.__module__]
    plain = vars(module)["_step"]

    def press(at: int) -> None:
        def step(loss, config, now):
            found = plain(loss, config, now)
            if now.step == at:
                os.kill(os.getpid(), signal.SIGINT)
            return found

        monkeypatch.setattr(module, "_step", step)

    return press


def test_the_same_command_goes_on_and_ends_as_in_one_go(biotilt_cli, tmp_path, command, pressed):
    assert biotilt_cli(*command).exit_code == 0
    whole = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").unlink()
    pressed(4)
    first = biotilt_cli(*command)
    assert first.exit_code == 130 and "interrupted after step 4" in first.stderr
    assert "the same command goes on from m.state.safetensors" in first.stderr
    assert not (tmp_path / "m.safetensors").exists()
    second = biotilt_cli(*command)
    assert second.exit_code == 0 and "going on after step 4 of 9" in second.stderr
    assert "step 9/9  loss " in second.stderr and "bound " in second.stderr and "ETA" in second.stderr
    assert (tmp_path / "m.safetensors").read_bytes() == whole
    assert not (tmp_path / "m.state.safetensors").exists(), "what is done needs no state"


def test_another_configuration_is_refused(biotilt_cli, tmp_path, command, pressed):
    pressed(4)
    assert biotilt_cli(*command).exit_code == 130
    held = (tmp_path / "m.state.safetensors").read_bytes()
    other = biotilt_cli(*command, "--lr", "0.5")
    assert other.exit_code == 2 and "lr (0.002, now 0.5)" in other.stderr
    assert "repeat the command that began it, or delete that file" in other.stderr
    assert (tmp_path / "m.state.safetensors").read_bytes() == held
    (tmp_path / "m.state.safetensors").unlink()
    pressed(0)  # never
    assert biotilt_cli(*command, "--lr", "0.5").exit_code == 0
