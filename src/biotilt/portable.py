"""Files of packages in what runs record: by their place there, which moves with a checkout or an environment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
OURS = "@biotilt/"  # what such a path begins with
OF_TASK = "@task:"  # then the name of a task of another package, whose folder it starts at


def portable(said: Any) -> Any:
    """Return a JSON document whose paths of files of the package, or of another's task, are written from there.

    >>> portable({"path": f"{PACKAGE.as_posix()}/tasks/utr/task.toml", "other": "/a/b"})
    {'path': '@biotilt/tasks/utr/task.toml', 'other': '/a/b'}
    """
    starts = {f"{PACKAGE.as_posix()}/": OURS} | {f"{place}/": f"{OF_TASK}{name}/" for name, place in _tasks().items()}

    def written(text: str) -> str:
        found = next((start for start in starts if text.startswith(start)), None)
        return text if found is None else starts[found] + text.removeprefix(found)

    return _each_text(said, written)


def packaged(said: Any) -> Any:
    """Return a document, such as a user's, with the whole paths of files of the package that it names by their place.

    >>> packaged({"path": "@biotilt/tasks/utr/task.toml"}) == {"path": f"{PACKAGE.as_posix()}/tasks/utr/task.toml"}
    True
    """
    return _each_text(said, _packaged)


def here(said: Any, sums: Mapping[str, str] | None = None) -> Any:
    """Return a document with the whole paths of what `portable` wrote, wherever the package is now.

    The first versions recorded whole paths. Such a path of a task's file is that of the package's own where the content
    is the one recorded in `sums` (path -> sha256), or where nothing was recorded of it and it is not there any more.

    >>> here("@biotilt/tasks/utr/task.toml") == f"{PACKAGE.as_posix()}/tasks/utr/task.toml"
    True
    """
    known = sums or {}
    return _each_text(said, lambda text: _here(text, known))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of what a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _packaged(text: str) -> str:
    return f"{PACKAGE.as_posix()}/{text.removeprefix(OURS)}" if text.startswith(OURS) else text


def _tasks() -> dict[str, str]:
    """Return the folders of the tasks of other packages that are in use, by name."""
    from biotilt.tasks import TASKS

    folders = {task.name: task.folder.absolute().as_posix() for task in TASKS.loaded}
    return {name: folder for name, folder in folders.items() if not Path(folder).is_relative_to(PACKAGE)}


def _of_task(text: str) -> str:
    """Return where a file of another package's task is; the text itself where there is no such task here."""
    from biotilt.tasks import TASKS

    name, _, place = text.removeprefix(OF_TASK).partition("/")
    return f"{TASKS[name].folder.absolute().as_posix()}/{place}" if name in TASKS else text


def _here(text: str, sums: Mapping[str, str]) -> str:
    if text.startswith(OURS):
        return _packaged(text)
    if text.startswith(OF_TASK):
        return _of_task(text)
    before, _, place = text.rpartition("/biotilt/tasks/")
    if not before or not Path(text).is_absolute():
        return text
    own = PACKAGE / "tasks" / place
    if not own.is_file() or (text not in sums and Path(text).exists()):
        return text
    same = text not in sums or sums[text] == sha256_of(own)
    return own.as_posix() if same else text


def _each_text(said: Any, change: Callable[[str], str]) -> Any:
    if isinstance(said, str):
        return change(said)
    if isinstance(said, Mapping):
        return {key: _each_text(value, change) for key, value in said.items()}
    return [_each_text(value, change) for value in said] if isinstance(said, list | tuple) else said
