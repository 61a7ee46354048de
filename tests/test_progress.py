"""Progress: what a log shows, how often, and the time left."""

from __future__ import annotations

import sys
import types

import pytest

from biotilt import progress as module
from biotilt.progress import in_notebook, progress
from biotilt.training import Ended, RunInfo
from biotilt.tuning_progress import Progress


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
    show({"round": 2, "calls": 64, **figures})
    assert capsys.readouterr().err == f"round 2/2  {shown}  calls 64  ETA 0:00\n"


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    show({"round": 1, "calls": 32, "reward": 1.5})
    assert "1/2" in capsys.readouterr().err


def show(*rows):
    """Tell the callback of a run of two rounds."""
    callback = Progress()
    callback.on_start(RunInfo("run", "ppo", 2, 64, None, {}, ()))
    for row in rows:
        callback.on_round(row, [row])
    callback.on_end(Ended("finished"))


def notebook(monkeypatch, app="IPKernelApp"):
    """Stand in for the kernel of a notebook; return what it is shown, in order."""
    shown: list[str] = []

    class Place:
        def update(self, html):
            shown.append(html)

    def display(html, display_id):
        assert display_id is True
        shown.append(html)
        return Place()

    package, part = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = lambda: types.SimpleNamespace(config={app: {}})
    part.HTML, part.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", part)
    return shown


def test_a_notebook_gets_a_bar_in_one_place(clock, capsys, monkeypatch):
    shown = notebook(monkeypatch)
    assert in_notebook()
    show({"round": 1, "calls": 32, "reward": 1.5}, {"round": 2, "calls": 64, "reward": 1.75})
    assert [html.count('<progress value="') for html in shown] == [1, 1, 1]
    assert 'value="0" max="2"' in shown[0] and 'value="1" max="2"' in shown[1]
    assert "round 2/2 reward 1.75  calls 64  ETA 0:00" in shown[2]
    assert capsys.readouterr() == ("", "")


def test_ipython_on_a_terminal_is_no_notebook(monkeypatch):
    assert not in_notebook()
    notebook(monkeypatch, app="TerminalIPythonApp")
    assert not in_notebook()
