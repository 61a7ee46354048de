"""Progress: a bar in a notebook or on a terminal, on stderr; a line every few seconds anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from importlib import import_module

from biotilt.ranks import is_first

SECONDS_BETWEEN_LINES = 5.0
Show = Callable[[int, Mapping[str, float]], None]


@contextmanager
def progress(unit: str, total: int, labels: Mapping[str, str] | None = None) -> Iterator[Show]:
    """Yield `show(done, figures)`, which tells that `done` of `total` units are done.

    `labels`: which of the figures are shown, and as what; default all, as they are called.
    """
    remaining = _Remaining(total)

    def text(done: int, figures: Mapping[str, float]) -> str:
        names = labels or {key: key for key in figures}
        shown = [f"{names[key]} {_short(figures[key])}" for key in names if key in figures]
        return "  ".join([*shown, f"ETA {remaining(done)}"])

    kind = _notebook if in_notebook() else _bar if sys.stderr.isatty() else _lines
    with kind(unit, total, text) as show:
        yield show


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, Colab), which shows HTML."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


@contextmanager
def counting(unit: str) -> Iterator[Callable[[int], None]]:
    """Yield `report(count)` for work whose end is not known: a line every few seconds."""
    started = last = time.monotonic()

    def report(count: int) -> None:
        nonlocal last
        if is_first() and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{count} {unit} in {last - started:.0f} s", file=sys.stderr, flush=True)

    yield report


@contextmanager
def _bar(unit: str, total: int, text: Callable[[int, Mapping[str, float]], str]) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(unit),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(unit, total=total, figures="")
        yield lambda done, figures: bar.update(task, completed=done, figures=text(done, figures))


@contextmanager
def _notebook(unit: str, total: int, text: Callable[[int, Mapping[str, float]], str]) -> Iterator[Show]:
    shown = import_module("IPython.display")

    def drawn(done: int, told: str) -> object:
        bar = f'<progress value="{done}" max="{total}"></progress>'
        return shown.HTML(f"<div>{bar} {escape(unit)} {done}/{total} {escape(told)}</div>")

    place = shown.display(drawn(0, ""), display_id=True)
    yield lambda done, figures: place.update(drawn(done, text(done, figures)))


@contextmanager
def _lines(unit: str, total: int, text: Callable[[int, Mapping[str, float]], str]) -> Iterator[Show]:
    last = -SECONDS_BETWEEN_LINES

    def show(done: int, figures: Mapping[str, float]) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{unit} {done}/{total}  {text(done, figures)}", file=sys.stderr, flush=True)

    yield show


class _Remaining:
    """The time left, from the pace since the first report: a resumed run does not start at 0."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int) -> str:
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now)
        start, since = self._first
        if done >= self._total:
            return "0:00"
        if done <= start:
            return "–"
        seconds = round((now - since) / (done - start) * (self._total - done))
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def _short(value: float) -> str:
    return f"{value:g}" if float(value).is_integer() else f"{value:.3g}"
