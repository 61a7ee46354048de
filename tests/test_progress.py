"""Progress: what a log shows, how often, and the time left."""

from __future__ import annotations

import pytest

from biotilt import progress as module
from biotilt.progress import progress, tuning_progress


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_log_has_a_line_every_few_seconds_and_the_last(clock, capsys):
    with progress("step", 10) as show:
        for done in range(1, 11):
            clock.now += 2.0
            show(done, {"train": done / 8})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/10", "4/10", "7/10", "10/10"]
    # after step 4, six seconds for three steps: six more steps take twelve
    assert lines[1] == "step 4/10  train 0.5  ETA 0:12"
    assert lines[-1] == "step 10/10  train 1.25  ETA 0:00"


def test_a_resumed_run_is_timed_from_where_it_went_on(clock, capsys):
    with progress("round", 1000) as show:
        show(500, {})
        clock.now += 60.0
        show(501, {})
    assert capsys.readouterr().err.splitlines()[-1] == "round 501/1000  ETA 8:19:00"


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        (
            {"reward": 2.5, "held_out": -0.25, "kl": 1.0, "ess": 0.5},
            "reward 2.5  held-out -0.25  KL 1  ESS 0.5",
        ),
        ({"reward": float("nan"), "clip_fraction": 0.125, "gradient": 9.0}, "reward nan  clipped 0.125"),
    ],
)
def test_tuning_shows_what_the_row_has(clock, capsys, figures, shown):
    with tuning_progress(2) as report:
        report({"round": 2, "calls": 64, **figures})
    assert capsys.readouterr().err == f"round 2/2  {shown}  calls 64  ETA 0:00\n"


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with tuning_progress(2) as report:
        report({"round": 1, "calls": 32, "reward": 1.5})
    assert "1/2" in capsys.readouterr().err
