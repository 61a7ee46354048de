"""Ready-made experiments: starter files, recipes of their models, small checkpoints with model cards."""

from __future__ import annotations

import ast
import inspect
import json
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

from biotilt.errors import ConfigError, suggest
from biotilt.evaluation.measure import Measure
from biotilt.files import read_json, read_text

FOLDER = Path(__file__).parent


def task_names() -> list[str]:
    """Return the names of the tasks that ship with biotilt."""
    return sorted(path.parent.name for path in FOLDER.glob("*/task.toml"))


def task_folder(name: str) -> Path:
    """Return the folder of a task; ConfigError with the nearest name when there is none."""
    if name not in task_names():
        raise ConfigError(f'task: unknown task "{name}"{suggest(str(name), task_names())}')
    return FOLDER / name


def task_defaults(name: str) -> dict[str, Any]:
    """Return the keys that a task fills in, with absolute paths."""
    folder = task_folder(name)
    text = read_text(folder / "task.toml").replace("@TASK@", folder.as_posix())
    return tomllib.loads(text)


def has_reward_of_task(config: Any) -> bool:
    """Return whether an experiment optimises its task's own reward, of which the task knows what was measured."""
    if config.task is None:
        return False
    own = task_defaults(config.task)["reward"]
    return (config.reward.kind, config.reward.path) == (own["kind"], own.get("path"))


def task_title(name: str) -> str:
    """Return what a task is about, in one line: the docstring of its package."""
    source = read_text(task_folder(name) / "__init__.py")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].partition(": ")[2]


def task_quality(name: str) -> dict[str, Any]:
    """Return what a task is good for and the measured quality of its models; empty when its recipe wrote none."""
    path = task_folder(name) / "quality.json"
    return read_json(path) if path.is_file() else {}


def task_measures(name: str | None, config: Any) -> list[Measure]:
    """Return the measures that a task adds to the panel; none for a task without a panel of its own."""
    panel = _panel(name)
    if panel is None:
        return []
    return panel.measures(config) if inspect.signature(panel.measures).parameters else panel.measures()


def task_pictures(name: str | None, designs: list[str]) -> list[str]:
    """Return pictures (SVG) of designs, where the task draws them."""
    panel = _panel(name)
    return panel.pictures(designs) if hasattr(panel, "pictures") else []


def _panel(name: str | None) -> Any:
    if name not in task_names() or not (task_folder(str(name)) / "panel.py").is_file():
        return None
    return import_module(f"biotilt.tasks.{name}.panel")


def starter(name: str) -> str:
    """Return the commented experiment file that `biotilt init` writes: the task's own part, and one for all tasks.

    In the second part, where every option stands at its default, the task's own choices are put in. It is written for
    the objective vidd: options of vidd are commented out where the task has another.
    """
    head = read_text(task_folder(name) / "starter.toml")
    section, lines, table = "", [], {}
    for line in read_text(FOLDER / "starter_tail.toml").splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            section, table = header[1], task_defaults(name).get(header[1], {})
        if (entry := re.match(r"(\w+)( += )([^#]*?)( *#.*)?$", line)) and entry[1] in table:
            line = f"{entry[1]} = {json.dumps(table[entry[1]])}{entry[4] or ''}"
        elif entry and section == "objective" and table.get("name", "vidd") != "vidd":
            line = f"# {line}"
        lines.append(line)
    return f"{head}\n" + "\n".join(lines) + "\n"
