"""Ready-made experiments: starter files, recipes of their models, small checkpoints with model cards."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

from biotilt.errors import ConfigError, suggest

FOLDER = Path(__file__).parent


def task_names() -> list[str]:
    """Return the names of the tasks that ship with biotilt."""
    return sorted(path.parent.name for path in FOLDER.glob("*/task.toml"))


def task_folder(name: str) -> Path:
    """Return the folder of a task; ConfigError with the nearest name when there is none."""
    if name not in task_names():
        raise ConfigError(f'task: unknown task "{name}"{suggest(name, task_names())}')
    return FOLDER / name


def task_defaults(name: str) -> dict[str, Any]:
    """Return the keys that a task fills in, with absolute paths."""
    folder = task_folder(name)
    text = (folder / "task.toml").read_text(encoding="utf-8").replace("@TASK@", folder.as_posix())
    return tomllib.loads(text)


def task_title(name: str) -> str:
    """Return what a task is about, in one line: the docstring of its package."""
    source = (task_folder(name) / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].partition(": ")[2]


def starter(name: str) -> str:
    """Return the commented experiment file that `biotilt init` writes."""
    return (task_folder(name) / "starter.toml").read_text(encoding="utf-8")
