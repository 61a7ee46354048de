"""The folder of a run: what its files are called, and what can be told from their names alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

RECORD = "experiment.json"
LEDGER = "oracle.sqlite"
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_BEFORE = "checkpoint.before.safetensors"
LOCK = ".lock"
TENSORBOARD = "tensorboard"
HISTORY_LINES = "history.jsonl"
TRACKED = "trackers.json"
TUNED = "tuned.safetensors"
HISTORY = "history.json"
ACCOUNTS = "oracle.json"
FAILURES = "failures.csv"
SUMMARY = "summary.json"
PAGE = "report.html"
TABLES = {"base": "base.csv", "best_of_n": "best_of_n.csv", "tuned": "designs.csv", "harvest": "harvest.csv"}
"""The table of each row of the panel; `designs.csv` are the tuned designs."""
FASTA = "designs.fasta"

CHECKPOINTS = (CHECKPOINT, CHECKPOINT_BEFORE)
LEDGERS = (LEDGER, f"{LEDGER}-journal")  # a journal that outlived its database would be played back
MADE_BY_TUNE = (TUNED, HISTORY, ACCOUNTS, FAILURES, HISTORY_LINES, TRACKED)
MADE_BY_EVALUATE = (SUMMARY, PAGE, FASTA, *TABLES.values())
MADE = (*MADE_BY_TUNE, *CHECKPOINTS, *LEDGERS, *MADE_BY_EVALUATE)
"""What a new run replaces, beside its record."""


def shown(path: Path) -> Path:
    """Return a path as people would type it here: relative where it lies below the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint to go on from, whole or not."""
    return any((folder / name).is_file() for name in CHECKPOINTS)


def has_run(folder: Path) -> bool:
    """Whether a folder holds anything of a run."""
    return has_checkpoint(folder) or (folder / RECORD).is_file()


def is_empty(folder: Path) -> bool:
    """Whether a folder is not there, or holds nothing that can be seen."""
    return not os.path.lexists(folder) or (folder.is_dir() and all(p.name.startswith(".") for p in folder.iterdir()))


def clear(folder: Path) -> None:
    """Delete the files of an earlier run, and nothing else that a user may keep there."""
    for name in (RECORD, *MADE):
        (folder / name).unlink(missing_ok=True)
    for name in (FAILURES, *TABLES.values()):
        pictures = folder / Path(name).stem  # of a table of images
        for picture in pictures.glob("*.png"):
            picture.unlink()
        if pictures.is_dir() and not any(pictures.iterdir()):
            pictures.rmdir()
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
