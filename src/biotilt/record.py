"""What a run's folder says of itself: `experiment.json`, written first and read back against a schema."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from biotilt.config import Config, checked_keys
from biotilt.errors import CheckpointError, ConfigError
from biotilt.files import read_json
from biotilt.folder import RECORD
from biotilt.options import PathText, Text, explain, plain


class RunRecord(BaseModel):
    """The resolved configuration, the folder that its paths start at, and what its result depends on.

    `sha256`: of the files that it read; `git`: the commit of the code, where it ran from a checkout;
    `mark`: of the user who made it (`biotilt.trust`).
    """

    model_config = ConfigDict(frozen=True)  # keys of a later version are passed over

    config: Config
    base: PathText
    command: Text | None = None
    versions: dict[Text, Text] = {}
    git: Text | None = None
    sha256: dict[Text, Text] = {}
    reward_version: Text
    mark: Text | None = None

    def document(self) -> dict[str, Any]:
        """Return the record as strict JSON; keys of the configuration that are not set are left out."""
        return self.model_dump(mode="json") | {"config": self.config.model_dump(mode="json", exclude_none=True)}


def read_record(folder: Path) -> RunRecord:
    """Return what the folder of a run says of itself.

    Raises CheckpointError when there is no such file, or when it is damaged, with the way to write it again.
    """
    path = folder / RECORD
    if not path.is_file():
        raise CheckpointError(f"{folder} is not the folder of a run: it has no {RECORD}")
    data: Any = None
    try:
        data = plain(read_json(path))
        if isinstance(data, dict) and isinstance(data.get("config"), dict):
            data["config"] = checked_keys(data["config"])
        return RunRecord.model_validate(data)
    except (CheckpointError, ConfigError, ValidationError) as error:
        what = explain(error, data) if isinstance(error, ValidationError) else str(error).removeprefix(f"{path} ")
        raise CheckpointError(
            f"{path} is damaged: {what}; `biotilt tune FILE --folder {folder}` with the file of the experiment "
            "writes it again"
        ) from error


def hashes(base: Path, files: list[str]) -> dict[str, str]:
    """Return the sha256 of files, whose relative paths start at `base`."""
    return {file: hashlib.sha256((base / file).read_bytes()).hexdigest() for file in files}


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = {name: importlib.metadata.version(name) for name in ("biotilt", "torch", "numpy")}
    return {"python": platform.python_version(), **packages, "threads": str(torch.get_num_threads())}


def git_commit() -> str | None:
    """Return the commit of the code that runs, when it runs from a git checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def command_line() -> str | None:
    """Return the command that started this process, when it is ours."""
    return shlex.join(["biotilt", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "biotilt" else None
