"""Experiment files: TOML, checked key by key, with errors that name file, line and key."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from biotilt.constraints import LagrangianConfig
from biotilt.core import Algorithm, Objective, Sampler
from biotilt.errors import ConfigError, suggest
from biotilt.locate import located
from biotilt.objectives import OBJECTIVES
from biotilt.options import (
    Count,
    Flag,
    NotNegative,
    Number,
    Pair,
    PathText,
    Positive,
    Seed,
    Share,
    Text,
    build_options,
    explain,
    plain,
)
from biotilt.oracle.workers.limits import Megabytes, Retries, Seconds, Workers
from biotilt.samplers import SAMPLERS
from biotilt.screens import SCREENS
from biotilt.training import EarlyStopping, TrainConfig
from biotilt.training.trackers import TRACKERS, Tracker
from biotilt.values import VALUES

AUTO = "auto"  # in the place of an objective: see `biotilt.auto`
MOST_THREADS = 4096
TargetKL = Annotated[Number, Field(ge=0.01, le=1000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(_Section):
    """The pretrained generator, and changes to its process (`per_step`, `num_steps`).

    `path` of a safetensors file; or `factory`, a function of your own, "module:function" or "file.py:function", that
    returns a model (`biotilt.wrap`) when called with `options`; or `source`, the name of a model that is built from
    `options` (`biotilt list models`), of which `path` may also stand beside it.
    `lora`: adapters, {rank = 8, alpha = 16, targets = []}, which alone are then trained and stored.

    `condition`: what its network is told in every call, a label or a number; a list of several, one drawn for each
    design; or a table with their shares. `guidance` ≥ 0: classifier-free, in either case.
    """

    path: PathText | None = None
    factory: PathText | None = None
    source: Text | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    process: dict[str, Any] = Field(default_factory=dict)
    lora: dict[str, Any] | None = None
    condition: Text | Number | list[Text | Number] | dict[Text, Number] | None = None
    guidance: NotNegative = 0.0

    @model_validator(mode="before")
    @classmethod
    def _path_of_source(cls, given: Any) -> Any:
        """Return keys in which the path of a source is one of its options."""
        if not isinstance(given, dict) or given.get("source") is None or given.get("path") is None:
            return given
        rest = {key: value for key, value in given.items() if key != "path"}
        options = given.get("options", {})
        if not isinstance(options, dict) or "path" in options:
            return given
        return rest | {"options": {"path": given["path"]} | options}

    @model_validator(mode="after")
    def _one_source(self) -> ModelSection:
        if sum(given is not None for given in (self.path, self.factory, self.source)) != 1:
            raise ValueError(
                'give one of path, of a safetensors file, factory, such as "my_models.py:load", and source, a name'
            )
        if self.options and self.path is not None:
            raise ValueError(
                "options are for a factory or a source; of a file only the process can be changed: process = { … }"
            )
        if self.guidance and self.condition is None:
            raise ValueError("guidance strengthens a condition: name one, condition = …")
        return self


class RewardSection(_Section):
    """A reward. `kind`: "python" (`function`), "log_density" (`function`, of a reference), "learned" (`path`), "sum",
    "product" or "geometric_mean" (`parts`), "log_probability" or "threshold" (one of `parts`, with `options`), or a
    built-in one with its `options`; "none" switches off a task's `held_out`. `weight`: its weight in a sum, exponent in
    a product.

    `model`: of "loglik", the model whose log p it is, a table with the keys of `[model]`; default: the pretrained one.

    `column`: which one it is of the named outputs that a function or a program gives; sections that name the same one
    share its calls.

    What is declared of it: `direction`, `range` of its own scores, `units`, and for a noisy one `deterministic` = false
    with `repeats`, the times that a design is scored and averaged.
    """

    kind: Text
    function: PathText | None = None
    per_design: Flag = False
    column: Text | None = None
    path: PathText | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    model: ModelSection | None = None
    parts: list[RewardSection] = Field(default_factory=list)
    weight: Number = 1.0
    direction: Literal["maximise", "minimise"] = "maximise"
    range: tuple[Number, Number] | None = None
    deterministic: Flag | None = None
    repeats: Annotated[Count, Field(le=10_000)] = 1
    units: Text | None = None


class ConstraintSection(RewardSection):
    """A bound on the mean of a reward over the tuned generator's designs: `at_least` and/or `at_most`, in its units.

    It is a reward section besides; `name` is shown in the history (default: that of the reward).
    """

    name: Text | None = None
    at_least: Number | None = None
    at_most: Number | None = None


class MeasureSection(_Section):
    """A line that the table of results shows besides: of a `kind` with its `options` (`biotilt list measures`), or a
    `function`, "file.py:function", of a list of designs (`per_design`: of one) that returns a number.

    `name`: its key in files; `header` and `meaning`: what table and page call it; `written`: as a "number", "percent",
    "count" or "duration"; `natural`: it tells how natural designs are. Past a limit the page warns: `at_least`,
    `at_most`, or against the base's value at most `fall` below or `rise` above it, at least `kept` or at most `grown`
    times it.
    """

    kind: Text | None = None
    function: PathText | None = None
    per_design: Flag = False
    options: dict[str, Any] = Field(default_factory=dict)
    name: Text | None = None
    header: Text | None = None
    meaning: Text | None = None
    written: Literal["number", "percent", "count", "duration"] | None = None
    natural: Flag | None = None
    at_least: Number | None = None
    at_most: Number | None = None
    fall: NotNegative | None = None
    rise: NotNegative | None = None
    kept: NotNegative | None = None
    grown: NotNegative | None = None

    @model_validator(mode="after")
    def _one_source(self) -> MeasureSection:
        if (self.kind is None) == (self.function is None):
            raise ValueError('give one of function, such as "my_measures.py:entropy", and kind, the name of a measure')
        if self.function is not None and self.options:
            raise ValueError("options are those of a kind; a function has none")
        if self.kind is not None and self.per_design:
            raise ValueError("per_design says what a function takes; leave it out beside kind")
        return self


class DesignSection(_Section):
    """What a design must be. `fixed`: a pattern as long as the design ("GCC...."), or a table {"1-3" = "GCC"} (from 1).

    `scaffold`: a part that every design keeps, for generators whose designs have one (molecules: SMILES).
    `target`: what the designs are for, where the task asks for it (rna_fold: a structure in dot-bracket notation).
    """

    fixed: Text | dict[Text, Text] | None = None
    scaffold: Text | None = None
    target: Text | None = None


class OracleSection(_Section):
    """How the reward is asked. `cache`: an SQLite file shared between runs (default: one in the run's folder).

    `backend`: "inline" (in this process), "pool" (`workers` processes, one a core by default) or "ray" (the cluster at
    `address`). With workers a design may take `time_limit` seconds and `memory_limit` MB, and is asked `retries` times
    more when a worker died or a fault was transient. `chunk`: designs that a worker gets at a time (default: as many as
    take about 0.2 s). `options`: those of a backend of another package. A run ends when more than `max_unscored` could
    not be scored.
    """

    cache: PathText | None = None
    batch_size: Count = 1024
    backend: Text = "inline"
    workers: Workers | None = None
    address: Text | None = None
    time_limit: Seconds | None = None
    memory_limit: Megabytes | None = None
    retries: Retries = 1
    chunk: Count | None = None
    options: dict[str, Any] | None = None
    max_unscored: Share = 0.5

    def of_backend(self) -> dict[str, Any]:
        """Return the options that are given for the backend: what is left out is for it to decide."""
        keys = {"workers", "address", "time_limit", "memory_limit", "retries", "chunk"} & self.model_fields_set
        return {key: value for key, value in self.model_dump(include=keys).items() if value is not None} | (
            self.options or {}
        )


class ReferenceSection(_Section):
    """Real sequences for the panel: a file of good ones, and the largest value ever measured."""

    sequences: PathText | None = None
    measured_max: Number | None = None


class OutputSection(_Section):
    """Designs in each row of the final table."""

    samples: Annotated[Pair, Field(le=1_000_000)] = 640


class Config(_Section):
    """A whole experiment. `alpha` > 0 is in units of reward: smaller tilts harder. In its place `target_kl`, in nats:
    tuning sets α so that the policy's KL to the base comes to that.

    `panel`: the task whose measures the table of results also shows; default: the experiment's own task. `measures`:
    further ones. They are no part of what a run is: a finished one can be judged by others. `threads` of the processor;
    default, and for a run that goes on, see `biotilt.threads`.
    """

    task: Text | None = None
    name: Text = "run"
    seed: Seed = 0
    target_kl: TargetKL | None = None
    alpha: Positive | None = Field(default=None, validate_default=True)
    device: Text = "cpu"
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = None
    model: ModelSection
    reward: RewardSection
    held_out: RewardSection | None = None
    objective: dict[str, Any] = Field(default_factory=lambda: {"name": "vidd"})
    sampler: dict[str, Any] = Field(default_factory=lambda: {"name": "smc"})
    value: dict[str, Any] = Field(default_factory=dict)
    screen: dict[str, Any] | None = None
    train: dict[str, Any] = Field(default_factory=dict)
    constraints: list[ConstraintSection] = Field(default_factory=list)
    lagrangian: dict[str, Any] = Field(default_factory=dict)
    design: DesignSection = DesignSection()
    oracle: OracleSection = OracleSection()
    reference: ReferenceSection = ReferenceSection()
    output: OutputSection = OutputSection()
    panel: Text | None = None
    measures: list[MeasureSection] = Field(default_factory=list)

    @field_validator("alpha")
    @classmethod
    def _one_tilt(cls, alpha: float | None, info: ValidationInfo) -> float | None:
        if "target_kl" in info.data and (alpha is None) == (info.data["target_kl"] is None):
            if alpha is None:
                raise PydanticCustomError("missing", "")
            raise PydanticCustomError("option", "cannot stand beside target_kl, which sets it: leave one of them out")
        return alpha

    @property
    def is_auto(self) -> bool:
        """Whether the objective is yet to be chosen; ConfigError for options beside that."""
        if self.objective.get("name") != AUTO:
            return False
        if options := sorted(self.objective.keys() - {"name"}):
            raise ConfigError(f"objective.{options[0]}: auto takes no options; name an objective to set those of it")
        return True

    def build_objective(self) -> Objective:
        """Return the objective; ConfigError for an unknown name, key or value."""
        return OBJECTIVES.of_table(self.objective, "objective", "vidd")

    def build_sampler(self) -> Sampler:
        """Return the sampler; ConfigError for an unknown name, key or value."""
        return SAMPLERS.of_table(self.sampler, "sampler", "smc")

    def build_train(self) -> TrainConfig:
        """Return the training options; ConfigError for an unknown key or value."""
        options = dict(self.train)
        if "stop" in options:
            options["stop"] = build_options(EarlyStopping, options["stop"], "train.stop")
        return build_options(TrainConfig, options, "train")

    def build_trackers(self) -> list[Tracker]:
        """Return the trackers; ConfigError for an unknown name, key or value."""
        found = []
        for i, named in enumerate(self.build_train().trackers):
            table = {"name": named} if isinstance(named, str) else dict(named)
            found.append(TRACKERS.of_table(table, f"train.trackers.{i}"))
        return found

    def screen_options(self) -> tuple[str, Any] | None:
        """Return the name and the options of the screen, None without one; ConfigError for an unknown name or key."""
        if self.screen is None:
            return None
        name, options = self.screen.get("name", "gp"), {k: v for k, v in self.screen.items() if k != "name"}
        return name, build_options(SCREENS.options_of(name, "screen.name"), options, "screen")

    def build_lagrangian(self) -> LagrangianConfig:
        """Return how the constraints' multipliers adapt; ConfigError for an unknown key or value."""
        return build_options(LagrangianConfig, self.lagrangian, "lagrangian")

    def value_options(self, algorithm: Algorithm, section: str) -> Any:
        """Return the options of the value that an algorithm names; None where it names none.

        `[value]` serves whatever objective or sampler is named: keys of another kind of value are passed over. Raises
        ConfigError for an unknown value, key or option; `section` is where the algorithm stands.
        """
        name = algorithm.value_name
        chosen = None if name is None else VALUES.options_of(name, f"{section}.value")
        own = set() if chosen is None else {field.name for field in fields(chosen)}
        if foreign := self.value.keys() - own:
            known = {field.name for name in VALUES for field in fields(VALUES.options_of(name))}
            if unknown := sorted(foreign - known):
                raise ConfigError(f"value.{unknown[0]}: unknown key{suggest(unknown[0], known)}")
        options = {key: value for key, value in self.value.items() if key in own}
        return None if chosen is None else build_options(chosen, options, "value")


def parse_config(data: dict[str, Any], source: str = "the experiment", text: str = "") -> Config:
    """Check a dictionary of keys; `source` and `text` (of the file) say where an error is.

    Raises ConfigError naming source, line and key.
    """
    try:
        config = checked_keys(data)
        objective = None if config.is_auto else config.build_objective()
        sampler = config.build_sampler()
        config.build_trackers()
        config.build_lagrangian()
        config.screen_options()
        if config.lagrangian and not config.constraints:
            raise ConfigError(
                "lagrangian: there are no [[constraints]], whose multipliers this is about; add one, or leave it out"
            )
        if objective is not None:
            config.value_options(objective, "objective")
        config.value_options(sampler, "sampler")
        return config
    except ConfigError as error:
        raise ConfigError(located(str(error), source, text)) from error


def checked_keys(data: Any) -> Config:
    """Return a document as a configuration, its own keys checked; ConfigError names the key."""
    data = plain(data)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, data, "", _valid_keys)) from error


_LISTS: dict[str, Any] = {"constraints": ConstraintSection, "measures": MeasureSection}


def _valid_keys(path: list[str]) -> list[str]:
    section: Any = Config
    for part in path:
        if part in _LISTS:
            section = _LISTS[part]
        if part.isdigit() or part in _LISTS:
            continue
        if part == "parts":
            section = RewardSection
            continue
        annotation = section.model_fields[part].annotation
        options = getattr(annotation, "__args__", (annotation,))
        section = next(o for o in options if isinstance(o, type) and (issubclass(o, BaseModel) or is_dataclass(o)))
    return list(section.model_fields)
