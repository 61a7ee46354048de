"""What a ready-made task is: a folder of files that stand in for an experiment's keys, and what its panel shows."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.files import read_json, read_text

if TYPE_CHECKING:  # a list of tasks is to be had without torch
    from biotilt.evaluation.measure import Measure

TAIL = Path(__file__).parent / "starter_tail.toml"  # the part of a starter file that all tasks share


class Task:
    """A ready-made experiment: its docstring says what it is for, in one line.

    `folder` holds `task.toml`, the keys that it fills in, in which @TASK@ is the folder; and, where there are such,
    `starter.toml`, the task's own part of the file that `biotilt init` writes, `quality.json`, what it is good for and
    how good its models were, and `frontier.json`, what is known to be possible.
    """

    name: ClassVar[str]
    folder: ClassVar[Path]

    def defaults(self) -> dict[str, Any]:
        """Return the keys that the task fills in, with absolute paths."""
        text = read_text(self.folder / "task.toml").replace("@TASK@", self.folder.as_posix())
        return tomllib.loads(text)

    def measures(self, config: Any) -> list[Measure]:
        """Return the measures that the task adds to the panel of an experiment."""
        return []

    def pictures(self, designs: list[str]) -> list[str]:
        """Return pictures (SVG) of designs, where the task draws them."""
        return []

    def quality(self) -> dict[str, Any]:
        """Return what the task is good for and the measured quality of its models; empty when nothing is known."""
        path = self.folder / "quality.json"
        return read_json(path) if path.is_file() else {}

    def starter(self) -> str:
        """Return the commented experiment file that `biotilt init` writes: the task's own part, and one for all tasks.

        In the second part, where every option stands at its default, the task's own choices are put in. It is written
        for the objective vidd: options of vidd are commented out where the task has another.
        """
        own, defaults = self.folder / "starter.toml", self.defaults()
        head = read_text(own) if own.is_file() else f'task = "{self.name}"\n'
        section, lines, table = "", [], {}
        for line in read_text(TAIL).splitlines():
            if header := re.match(r"\[(\w+)\]", line):
                section, table = header[1], defaults.get(header[1], {})
            if (entry := re.match(r"(\w+)( += )([^#]*?)( *#.*)?$", line)) and entry[1] in table:
                line = f"{entry[1]} = {json.dumps(table[entry[1]])}{entry[4] or ''}"
            elif entry and section == "objective" and table.get("name", "vidd") != "vidd":
                line = f"# {line}"
            lines.append(line)
        return f"{head}\n" + "\n".join(lines) + "\n"
