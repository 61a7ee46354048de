"""Experiment files: TOML, checked key by key, with errors that name file, line and key."""

from __future__ import annotations

import copy
import math
import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from biotilt.errors import ConfigError, suggest
from biotilt.files import read_text
from biotilt.plugins import registry
from biotilt.training import TrainConfig
from biotilt.training.constraints import LagrangianConfig
from biotilt.values import VALUES, LearnedValueConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSection(_Section):
    """The pretrained generator: `path` of a safetensors file, and changes to its process (`per_step`, `num_steps`)."""

    path: str
    process: dict[str, Any] = Field(default_factory=dict)


class RewardSection(_Section):
    """A reward. `kind`: "python" (`function`), "learned" (`path`), "sum", "product" or "geometric_mean" (`parts`),
    "log_probability" or "threshold" (one of `parts`, with `options`), or a built-in one with its `options`; "none"
    switches off a task's `held_out`. `weight`: its weight in a sum, exponent in a product.

    What is declared of it: `direction`, `range` of its own scores, `units`, and for a noisy one `deterministic` = false
    with `repeats`, the times that a design is scored and averaged.
    """

    kind: str
    function: str | None = None
    per_design: bool = False
    path: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    parts: list[RewardSection] = Field(default_factory=list)
    weight: float = 1.0
    direction: Literal["maximise", "minimise"] = "maximise"
    range: tuple[float, float] | None = None
    deterministic: bool | None = None
    repeats: int = Field(1, ge=1)
    units: str | None = None


class ConstraintSection(RewardSection):
    """A bound on the mean of a reward over the tuned generator's designs: `at_least` and/or `at_most`, in its units.

    It is a reward section besides; `name` is shown in the history (default: that of the reward).
    """

    name: str | None = None
    at_least: float | None = None
    at_most: float | None = None


class DesignSection(_Section):
    """What a design must be. `fixed`: a pattern as long as the design ("GCC...."), or a table {"1-3" = "GCC"} (from 1).

    `scaffold`: a part that every design keeps, for generators whose designs have one (molecules: SMILES).
    `target`: what the designs are for, where the task asks for it (rna_fold: a structure in dot-bracket notation).
    """

    fixed: str | dict[str, str] | None = None
    scaffold: str | None = None
    target: str | None = None


class OracleSection(_Section):
    """How the reward is asked. `cache`: an SQLite file shared between runs (default: one in the run's folder).

    `backend`: "inline" (in this process), "pool" (`workers` processes, one a core by default) or "ray" (the cluster at
    `address`). With workers a design may take `time_limit` seconds and `memory_limit` MB, and is asked `retries` times
    more when a worker died or a fault was transient. `chunk`: designs that a worker gets at a time (default: as many as
    take about 0.2 s). A run ends when more than `max_unscored` could not be scored.
    """

    cache: str | None = None
    batch_size: int = Field(1024, ge=1)
    backend: str = "inline"
    workers: int | None = Field(None, ge=1)
    address: str | None = None
    time_limit: float | None = Field(None, gt=0)
    memory_limit: float | None = Field(None, gt=0)
    retries: int = Field(1, ge=0)
    chunk: int | None = Field(None, ge=1)
    max_unscored: float = Field(0.5, ge=0, le=1)


class ReferenceSection(_Section):
    """Real sequences for the panel: a file of good ones, and the largest value ever measured."""

    sequences: str | None = None
    measured_max: float | None = None


class OutputSection(_Section):
    """Designs in each row of the final table."""

    samples: int = Field(640, ge=2)


class Config(_Section):
    """A whole experiment. `alpha` > 0 is in units of reward: smaller tilts harder.

    `panel`: the task whose measures the table of results also shows; default: the experiment's own task.
    """

    task: str | None = None
    name: str = "run"
    seed: int = Field(0, ge=0)
    alpha: float = Field(gt=0)
    device: str = "cpu"
    model: ModelSection
    reward: RewardSection
    held_out: RewardSection | None = None
    objective: dict[str, Any] = Field(default_factory=lambda: {"name": "vidd"})
    sampler: dict[str, Any] = Field(default_factory=lambda: {"name": "smc"})
    value: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    constraints: list[ConstraintSection] = Field(default_factory=list)
    lagrangian: dict[str, Any] = Field(default_factory=dict)
    design: DesignSection = DesignSection()
    oracle: OracleSection = OracleSection()  # pyright: ignore[reportCallIssue]
    reference: ReferenceSection = ReferenceSection()
    output: OutputSection = OutputSection()  # pyright: ignore[reportCallIssue]
    panel: str | None = None

    def build_objective(self) -> Any:
        """Return the objective; ConfigError for an unknown name, key or value."""
        return _build_named("objective", self.objective, "vidd")

    def build_sampler(self) -> Any:
        """Return the sampler; ConfigError for an unknown name, key or value."""
        return _build_named("sampler", self.sampler, "smc")

    def build_train(self) -> TrainConfig:
        """Return the training options; ConfigError for an unknown key or value."""
        return build_dataclass(TrainConfig, self.train, "train")

    def build_lagrangian(self) -> LagrangianConfig:
        """Return how the constraints' multipliers adapt; ConfigError for an unknown key or value."""
        return build_dataclass(LagrangianConfig, self.lagrangian, "lagrangian")

    def value_options(self, kind: str) -> Any:
        """Return the options of the value of this kind; ConfigError for an unknown key or value.

        `[value]` serves whatever objective or sampler is named: keys of another kind of value are passed over.
        """
        chosen = VALUES.get(kind, LearnedValueConfig)
        known = {field.name for each in VALUES.values() for field in fields(each)}
        own = {field.name for field in fields(chosen)}
        return build_dataclass(chosen, {k: v for k, v in self.value.items() if k in own or k not in known}, "value")


def _build_named(section: str, options: dict[str, Any], default: str) -> Any:
    options, known = dict(options), registry(f"{section}s")
    name = str(options.pop("name", default))
    if name not in known:
        raise ConfigError(f'{section}.name: unknown {section} "{name}"{suggest(name, known)}')
    return build_dataclass(known[name], options, section)


def build_dataclass(kind: type, options: dict[str, Any], section: str) -> Any:
    """Build a dataclass from a section of the file; its fields are the valid keys.

    Raises ConfigError that names the key, and the nearest valid one when it is unknown.
    """
    valid = [field.name for field in fields(kind)]
    for key, value in options.items():
        if key not in valid:
            raise ConfigError(f"{section}.{key}: unknown key{suggest(key, valid)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{section}.{key}: must be a finite number, got {value}")
    try:
        return TypeAdapter(kind).validate_python(options)
    except ValidationError as error:
        raise ConfigError(_explain(error, (section,))) from error


def parse_config(data: dict[str, Any], source: str = "the experiment", text: str = "") -> Config:
    """Check a dictionary of keys; `source` and `text` (of the file) say where an error is.

    Raises ConfigError naming source, line and key.
    """
    try:
        config = Config.model_validate(data)
        objective = config.build_objective()
        config.build_sampler()
        config.build_train()
        config.build_lagrangian()
        config.value_options(getattr(objective, "value", "none"))
        return config
    except ValidationError as error:
        raise ConfigError(located(_explain(error), source, text)) from error
    except ConfigError as error:
        raise ConfigError(located(str(error), source, text)) from error


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """Return the keys of a TOML file and its text; ConfigError with line and column when it is malformed."""
    path = Path(path)
    text = read_text(path, error=ConfigError, missing=f"; `biotilt init utr {path}` writes a starter file")
    if not text.strip():
        raise ConfigError(f"{path} is empty; `biotilt init utr FILE` writes a starter file")
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def override(data: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Return the keys with `a.b=c` assignments applied; values are TOML, or plain text.

    >>> override({"train": {"lr": 1}}, ["train.lr=0.5", "task=utr"])
    {'train': {'lr': 0.5}, 'task': 'utr'}
    """
    data = copy.deepcopy(data)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f'--set "{assignment}": write key=value, for example train.lr=0.001')
        table = data
        *parents, last = key.strip().split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f'--set "{assignment}": "{parent}" is a value, not a table')
        try:
            table[last] = tomllib.loads(f"v = {value.strip()}")["v"]
        except tomllib.TOMLDecodeError:
            table[last] = value.strip()
    return data


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `under` with the keys of `over` laid on it, table by table.

    A reward of another kind, and an objective or a sampler of another name, replace the whole table: their options
    differ.
    """
    merged = dict(under)
    for key, value in over.items():
        tables = isinstance(value, dict) and isinstance(under.get(key), dict)
        named = {"reward": "kind", "held_out": "kind", "objective": "name", "sampler": "name"}.get(key)
        whole = not tables or (named in value and (named == "kind" or value[named] != under[key].get(named)))
        merged[key] = value if whole else merge(under[key], value)
    return merged


def _explain(error: ValidationError, prefix: tuple[str, ...] = ()) -> str:
    """Say what the first fault is: the key, then what is wrong with it."""
    fault = error.errors()[0]
    path = [*prefix, *(str(part) for part in fault["loc"])]
    if fault["type"] == "extra_forbidden":
        return f"{'.'.join(path)}: unknown key{suggest(path[-1], _valid_keys(path[:-1]))}"
    if fault["type"] == "missing":
        return f"{'.'.join(path)}: this key is missing"
    given = fault["input"]
    return f"{'.'.join(path)}: {fault['msg'][:1].lower()}{fault['msg'][1:]}, got {given!r}"


def _valid_keys(path: list[str]) -> list[str]:
    section: Any = Config
    for part in path:
        if part == "constraints":
            section = ConstraintSection
        if part.isdigit() or part == "constraints":
            continue
        if part == "parts":
            section = RewardSection
            continue
        annotation = section.model_fields[part].annotation
        options = getattr(annotation, "__args__", (annotation,))
        section = next(o for o in options if isinstance(o, type) and (issubclass(o, BaseModel) or is_dataclass(o)))
    return list(section.model_fields)


def located(message: str, source: str, text: str) -> str:
    """Put the file, and the line where the key stands, before a message that begins with `key.path:`."""
    key = message.partition(":")[0]
    line = _line_of(key.split("."), text) if re.fullmatch(r"[\w.]+", key) else None
    return f"{source}:{line}: {message}" if line else f"{source}: {message}"


def _line_of(path: list[str], text: str) -> int | None:
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+([^\]]+)\]+", line):
            table = [part.strip().strip('"') for part in header[1].split(".")]
            if table == path:
                return number
        elif (entry := re.match(r"\s*([\w.\"-]+)\s*=", line)) and table + entry[1].split(".") == path:
            return number
    return None
