"""Where a run comes from: `experiment.json`, written first, read back against a schema, and rebuilt from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from biotilt.config import MOST_THREADS, Config, ModelSection, OracleSection, RewardSection, checked_keys
from biotilt.core.precision import AUTO, Precision
from biotilt.errors import CheckpointError, ConfigError
from biotilt.experiment import Experiment
from biotilt.files import read_json, write_json
from biotilt.folder import RECORD
from biotilt.loading import in_python
from biotilt.models.hub import generator_file
from biotilt.options import PathText, Text, explain, plain
from biotilt.oracle import BACKENDS
from biotilt.portable import PACKAGE, here, portable, sha256_of
from biotilt.reward_given import meaningless
from biotilt.rewards.registry import REWARDS
from biotilt.trust import mark, require_trust


class RunRecord(BaseModel):
    """The resolved configuration, the folder that its paths start at, and what its result depends on.

    `sha256`: of the files that it read; `git`: the commit of the code, where it ran from a checkout;
    `chosen`: what "auto" chose, and why; `mark`: of the user who made it (`biotilt.trust`).
    """

    model_config = ConfigDict(frozen=True)  # keys of a later version are passed over

    config: Config
    base: PathText
    command: Text | None = None
    versions: dict[Text, Text] = {}
    git: Text | None = None
    sha256: dict[Text, Text] = {}
    reward_version: Text
    chosen: list[Text] = []
    mark: Text | None = None

    def document(self) -> dict[str, Any]:
        """Return the record as strict JSON; keys of the configuration that are not set are left out."""
        return self.model_dump(mode="json") | {
            "config": portable(self.config.model_dump(mode="json", exclude_none=True)),
            "sha256": {portable(path): value for path, value in self.sha256.items()},
        }


def read_record(folder: Path) -> RunRecord:
    """Return what the folder of a run says of itself.

    Files of the package are found wherever it is now, and keys that are refused today since they mean nothing are left
    out, with a warning. Raises CheckpointError when there is no such file, or when it is damaged, with the way to write
    it again.
    """
    path = folder / RECORD
    if not path.is_file():
        raise CheckpointError(f"{folder} is not the folder of a run: it has no {RECORD}")
    data: Any = None
    try:
        data = plain(read_json(path))
        if isinstance(data, dict) and isinstance(data.get("config"), dict):
            sums = data.get("sha256")
            sums = sums if isinstance(sums, dict) else {}
            data["config"] = _forgiven(checked_keys(here(data["config"], sums)), folder)
            data["sha256"] = {here(path, sums): value for path, value in sums.items()}
        return RunRecord.model_validate(data)
    except (CheckpointError, ConfigError, ValidationError) as error:
        what = explain(error, data) if isinstance(error, ValidationError) else str(error).removeprefix(f"{path} ")
        raise CheckpointError(
            f"{path} is damaged: {what}; `biotilt tune FILE --folder {folder}` with the file of the experiment "
            "writes it again"
        ) from error


def write_record(experiment: Experiment, folder: Path, precision: Precision | None = None) -> None:
    """Store the resolved configuration, the command, versions, git commit and hashes of what it read.

    `precision`: in which networks compute; default: as the run there began.
    """
    config, base = experiment.config, str(experiment.base.resolve())
    command, said = None, "float32"
    try:
        before = read_record(folder)
        command, said = before.command, before.versions.get("precision", said)
    except CheckpointError:
        pass
    sections = _sections(config)
    files = [section.path for section in sections if section.path]
    models = [config.model, *(section.model for section in sections if section.model is not None)]
    record = RunRecord(
        config=config, base=base, command=command or command_line(), git=git_commit(),
        versions=versions() | {"precision": precision or said},
        sha256=_hashes(experiment.base, files) | _model_sha256(models, experiment.base),
        reward_version=scores_version(experiment),
        chosen=experiment.chosen, mark=mark(config, base),
    )  # fmt: skip
    write_json(folder / RECORD, record.document())


def recorded(
    folder: Path, *, reward: Any = None, held_out: Any = None, model: Any = None,
    measures: Iterable[Any] | None = None, trust: bool = False,
) -> Experiment:  # fmt: skip
    """Rebuild the experiment of a run's folder, as it was recorded.

    Raises UntrustedRun when that would run code in a folder that this user did not make here, unless `trust`.
    """
    record = read_record(folder)
    config = record.config
    if model is None and in_python(config.model.path):
        raise ConfigError(
            f"the model of {folder} was given in Python: go on there, with "
            f'biotilt.resume("{folder}", model=…) or Run.load("{folder}", model=…)'
        )
    for key, section, given in (("reward", config.reward, reward), ("held_out", config.held_out, held_out)):
        if given is None and section is not None and in_python(section.function):
            raise ConfigError(
                f"the {key} of {folder} was given in Python: go on there, with "
                f'biotilt.resume("{folder}", {key}=…) or Run.load("{folder}", {key}=…)'
            )
    if not trust:
        given_here = {"reward": reward, "held_out": held_out, "model": model}
        replaced = [key for key, given in given_here.items() if given is not None]
        require_trust(folder, config, record.base, record.mark, replaced)
    _tell_changes(record, folder)
    # the task's defaults of that day are in the record already
    keys = config.model_dump(mode="json", exclude_none=True, exclude={"task"})
    experiment = Experiment.from_dict(
        keys, Path(record.base), str(folder / RECORD), reward=reward, held_out=held_out, model=model,
        measures=measures, proven=True,  # when the run began
    )  # fmt: skip
    config = experiment.config.model_copy(update={"task": config.task})
    return replace(experiment, config=config, chosen=record.chosen)


def scores_version(experiment: Experiment) -> str:
    """Return the versions of the reward and of the constraints: with others it is another experiment."""
    return " ".join(reward.version for reward in (experiment.reward, *experiment.constraints))


def digest(experiment: Experiment) -> str:
    """Return a hash of all that decides the run, by which its checkpoints are known."""
    return _hash_of(experiment, portable(_deciding(experiment)))


def digests(experiment: Experiment) -> tuple[str, str]:
    """Return the hash of all that decides the run, and that of versions which took whole paths of the package's files.

    Checkpoints of the experiment are known by one of the two.
    """
    return digest(experiment), _hash_of(experiment, _deciding(experiment))


def _deciding(experiment: Experiment) -> dict[str, Any]:
    return experiment.config.model_dump(mode="json", exclude_none=True, exclude={"task", "measures", "threads"})


def _hash_of(experiment: Experiment, config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([config, scores_version(experiment)], sort_keys=True).encode()).hexdigest()


def _tell_changes(record: RunRecord, folder: Path) -> None:
    """Warn of files of the package that are not those which a run was made with."""
    changed = []
    for text, known in record.sha256.items():
        path = Path(text)
        if path.is_relative_to(PACKAGE) and path.is_file() and sha256_of(path) != known:
            changed.append(path.relative_to(PACKAGE).as_posix())
    if changed:
        warnings.warn(
            f"{folder} was made with other versions of {', '.join(changed)} than this biotilt has: what is drawn and "
            "scored by them now compares with what the run recorded only roughly",
            stacklevel=3,
        )


def _forgiven(config: Config, folder: Path) -> Config:
    """Return the configuration of an old record without what is refused today since it never meant anything."""
    changes: dict[str, Any] = {}
    dropped: list[str] = []
    if config.lagrangian and not config.constraints:
        changes["lagrangian"] = {}
        dropped.append("lagrangian")
    with suppress(ConfigError):  # a backend of another package that is not there
        known = {field.name for field in fields(BACKENDS.options_of(config.oracle.backend, "oracle.backend"))}
        foreign = config.oracle.of_backend().keys() - known - (config.oracle.options or {}).keys()
        if foreign:
            said, usual = config.oracle.model_dump(exclude_unset=True), OracleSection().model_dump()
            dropped += [f"oracle.{key}" for key in foreign if said[key] != usual[key]]
            changes["oracle"] = OracleSection.model_validate({k: v for k, v in said.items() if k not in foreign})
    for key, section in (("reward", config.reward), ("held_out", config.held_out)):
        if section is not None:
            changes[key] = _forgiven_reward(section, key, dropped)
    changes["constraints"] = [
        _forgiven_reward(section, f"constraints.{i}", dropped) for i, section in enumerate(config.constraints)
    ]
    if dropped:
        told = ", ".join(sorted(dropped))
        warnings.warn(f"{folder}: its record has keys that mean nothing, which are left out: {told}", stacklevel=3)
    return config.model_copy(update=changes)


def _forgiven_reward(section: RewardSection, key: str, dropped: list[str]) -> RewardSection:
    parts = [_forgiven_reward(part, f"{key}.parts.{i}", dropped) for i, part in enumerate(section.parts)]
    section = section.model_copy(update={"parts": parts})
    try:
        foreign = meaningless(section, REWARDS.find(section.kind, f"{key}.kind"))
    except ConfigError:  # of another package that is not there
        return section
    changes: dict[str, Any] = {}
    for name in foreign:
        dropped.append(f"{key}.{name}")
        if name == "weights":
            changes["parts"] = [part.model_copy(update={"weight": 1.0}) for part in parts]
        else:
            changes[name] = RewardSection.model_fields[name].get_default(call_default_factory=True)
    return section.model_copy(update=changes)


def _sections(config: Config) -> list[RewardSection]:
    found, waiting = [], [config.reward, config.held_out, *config.constraints]
    while waiting:
        section = waiting.pop()
        if section is not None:
            found.append(section)
            waiting.extend(section.parts)
    return found


def _hashes(base: Path, files: list[str]) -> dict[str, str]:
    """Return the sha256 of files, whose relative paths start at `base`."""
    return {file: sha256_of(base / file) for file in files}


def model_hash(config: Config, base: Path) -> str | None:
    """Return the sha256 of the generator's file, as records have it; None where it is no file."""
    return next(iter(_model_sha256([config.model], base).values()), None)


def _model_sha256(sections: Iterable[ModelSection], base: Path) -> dict[str, str]:
    """Return the sha256 of the files of generators, by what names them; nothing of those that are no file."""
    paths = [section.path for section in sections if section.path is not None and not in_python(section.path)]
    return {path: sha256_of(generator_file(path, base)) for path in paths}


def threads_of(experiment: Experiment, folder: Path) -> int | None:
    """Return with how many threads a run computes: as it says, or as it began, since sums depend on it; else None."""
    if experiment.config.threads is not None:
        return experiment.config.threads
    try:
        threads = int(read_record(folder).versions.get("threads", ""))
    except (CheckpointError, ValueError):  # no run yet, or one of an early version
        return None
    return threads if 1 <= threads <= MOST_THREADS else None


def precision_said(experiment: Experiment, folder: Path | None = None) -> Precision | Literal["auto"]:
    """Return in what precision an experiment computes: as it says, or as its run in a folder began.

    Runs of versions that knew no other are in float32.
    """
    said = experiment.config.build_train().precision
    if said != AUTO or folder is None:
        return said
    try:
        began = read_record(folder).versions.get("precision", "float32")
    except CheckpointError:  # no run yet
        return AUTO
    return "bfloat16" if began == "bfloat16" else "float32"


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = {name: _version(name) for name in ("biotilt", "torch", "numpy")}
    return {"python": platform.python_version(), **packages, "threads": str(torch.get_num_threads())}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from its sources, without having been installed
        return "unknown"


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
