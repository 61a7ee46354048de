"""What commands do with runs: tune, judge, and tell about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from biotilt.cli.console import Answer, go_on_with, note, take_threads
from biotilt.cli.shown import summarised

# torch takes seconds to import: whatever needs it is imported inside the functions
if TYPE_CHECKING:
    from biotilt.experiment import Experiment
    from biotilt.run import Run


def say_what_runs(experiment: Experiment, folder: Path) -> None:
    """Tell which code that is not part of biotilt a run's folder names."""
    from biotilt.trust import code_of

    if code := code_of(experiment.config):
        note(f"{folder} runs {', '.join(code)} (from {experiment.base})")


def tuned(experiment: Experiment, folder: Path, overwrite: bool, more: bool = False) -> Run:
    """Tune into a folder, or go on there, with progress; say why it ended early, and where failures are listed."""
    from biotilt.folder import FAILURES
    from biotilt.provenance import threads_of
    from biotilt.run import tune_in

    take_threads(experiment.config.threads if overwrite else threads_of(experiment, folder))
    for sentence in experiment.chosen:
        note(sentence)
    with go_on_with("tune", "--resume", folder):
        run = tune_in(experiment, folder, overwrite=overwrite, more=more, progress=True)
    if run.stopped:
        note(f"ended early, after {len(run.rows)} rounds: {run.stopped}")
    if (folder / FAILURES).is_file():
        note(f"some designs could not be scored; each stands with its reason in {folder / FAILURES}")
    return run


def judged(run: Run, samples: int | None = None) -> Answer:
    """Evaluate a run and show its table, its warnings and where its page is."""
    from biotilt.folder import PAGE, shown

    note("judging base, best-of-N and tuned designs …")
    folder = shown(run.folder)
    with go_on_with("evaluate", folder):
        summary = run.evaluate(samples=samples)
    page = folder / PAGE
    document = summary | {"folder": str(folder), "report": str(page)}
    return Answer(document, (*summarised(summary), f"the page: {page}"))
