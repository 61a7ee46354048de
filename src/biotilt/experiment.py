"""From a configuration to objects: the only place where names become objects."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.config import Config, ModelSection, RewardSection, merge, override, parse_config, read_toml
from biotilt.constraints import Adapting, Bounds, Constrained, Constraint
from biotilt.core import Algorithm, Context, Metrics, Objective, Parts, Replay, Roles, Sampler, Value, check_parts
from biotilt.core.fixed import Fixed
from biotilt.errors import CheckpointError, ConfigError
from biotilt.files import write_json
from biotilt.folder import LEDGER, RECORD
from biotilt.locate import located
from biotilt.model import Model
from biotilt.models.checks import reads_relaxed
from biotilt.models.origin import FactoryOrigin, Origin, SourceOrigin
from biotilt.models.reference import base_density
from biotilt.networks import ValueSize, value_network
from biotilt.options import plain, shown
from biotilt.oracle import Backend, Limits, Oracle, Shared, Store, build_backend, check_backend
from biotilt.oracle.reading import check_reads
from biotilt.oracle.workers.isolation import adopt, isolated, reseed
from biotilt.oracle.workers.scoring import Declaration
from biotilt.processes import PROCESSES
from biotilt.record import RunRecord, command_line, git_commit, hashes, read_record, versions
from biotilt.rewards import REWARDS, NamedReward
from biotilt.rewards import reward as wrap_reward
from biotilt.rewards.generic.base import declare
from biotilt.rewards.generic.columns import GivesColumns, Source, plan, sources
from biotilt.rewards.generic.section import FromSection, Section
from biotilt.rewards.registry import PATHS
from biotilt.spaces import Text
from biotilt.tasks import find_task
from biotilt.training import Callback, Trainer
from biotilt.trust import mark, require_trust
from biotilt.values import VALUES


@dataclass
class Experiment:
    """A checked configuration with its objects; `base` is the folder that relative paths start at.

    Make one with `Experiment.load(file)` or `Experiment.for_task("utr")`. `reward`, `held_out`: objects that
    replace what the configuration names.

    >>> import biotilt
    >>> experiment = biotilt.Experiment.for_task("utr", alpha=0.1, train={"max_calls": 512})
    >>> experiment.config.alpha, experiment.model.space.medium
    (0.1, 'text')
    """

    config: Config
    base: Path
    model: Model
    reward: NamedReward
    held_out: NamedReward | None
    constraints: list[NamedReward] = field(default_factory=list)
    _backends: dict[Hashable, Backend] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls, path: Path | str, *, overrides: list[str] | None = None,
        reward: Any = None, held_out: Any = None, model: Model | None = None,
    ) -> Experiment:  # fmt: skip
        """Read an experiment file; `overrides` are `a.b=c` texts.

        Raises ConfigError, with file, line and key, for anything that cannot work.
        """
        data, text = read_toml(Path(path))
        data = override(data, overrides or [])
        return cls.from_dict(data, Path(path).parent, str(path), text, reward=reward, held_out=held_out, model=model)

    @classmethod
    def for_task(
        cls, task: str, *, reward: Any = None, held_out: Any = None, model: Any = None, **changes: Any
    ) -> Experiment:
        """Build a ready-made task; `changes` are top-level keys (`alpha=0.2`, `train={"max_calls": 512}`)."""
        data = {"task": task, **changes}
        return cls.from_dict(data, Path(), f'task "{task}"', reward=reward, held_out=held_out, model=model)

    @classmethod
    def from_dict(
        cls, data: dict[str, Any], base: Path, source: str = "the experiment", text: str = "",
        *, reward: Any = None, held_out: Any = None, model: Any = None, proven: bool = False,
    ) -> Experiment:  # fmt: skip
        """Build from a dictionary of keys; a `task` fills in what it does not say.

        `model`: a Model (`biotilt.wrap`), or a section as in a file, in place of what `[model]` names. A network that
        is not one of ours is tried (`Model.check`) unless it is `proven`.
        """
        with _locating(source, text):
            data = plain(data)
            if "task" in data:
                data = merge(find_task(data["task"]).defaults(), data)
            given: dict[str, Any] = {}
            for key, own in (("reward", reward), ("held_out", held_out)):
                if isinstance(own, Mapping):  # a section, as in a file
                    data = {**data, key: plain(own, key)}
                elif own is not None:
                    given[key] = _as_reward(own, key)
                    data = {**data, key: _given_in_python(given[key])}
            if isinstance(model, Model):
                given["model"] = model
                data = {**data, "model": _model_section(model)}
            elif model is not None:
                data = {**data, "model": plain(model, "model")}
            base = Path(base).absolute()  # a reward may change the working folder
            return cls._built(parse_config(data, source, text), base, given, proven=proven)

    @classmethod
    def _built(cls, config: Config, base: Path, given: dict[str, Any], *, proven: bool = False) -> Experiment:
        """Build the objects that a configuration names, but for the model and the rewards that are given."""
        model = given["model"] if "model" in given else load_base(config.model, base)
        lora = config.model.lora
        if config.panel is not None:
            find_task(config.panel, "panel")
        target = config.design.target
        if target is not None:
            model = model.for_target(target)
        model = model.with_fixed(fixed_positions(config, model))
        if lora is not None and model.lora is None:
            model = model.with_lora(**lora)
        model = told_as(config.model, model)
        reward = given["reward"] if "reward" in given else load_reward(config.reward, base, "reward", target, model)
        held_out = given.get("held_out")
        if held_out is None and config.held_out is not None and config.held_out.kind != "none":
            held_out = load_reward(config.held_out, base, "held_out", target, model)
        constraints = [
            load_reward(c, base, f"constraints.{i}", target, model) for i, c in enumerate(config.constraints)
        ]
        experiment = cls(config, base, model, reward, held_out, constraints)
        experiment._check_conditional()
        # all refuse what does not fit before any compute
        experiment.check_sources()
        if (isinstance(model.origin, Origin) or "model" in given) and not proven:
            model.check()
        for key, part in experiment.rewards().items():
            check_reads(part, model.space, key)
        experiment.objective_and_value()
        check_backend(config.oracle.backend, **experiment._workers)
        if config.build_train().stop.hacking and not (held_out is not None and comparable(experiment)):
            raise ConfigError(
                "train.stop.hacking: needs a [held_out] reward in the same units as the reward, since it watches the "
                "gap between the two; leave the key out, or add one"
            )
        for section, constraint in zip(config.constraints, constraints):
            Bounds(section.name or constraint.name, section.at_least, section.at_most)
        return experiment

    def rewards(self) -> dict[str, NamedReward]:
        """Return every reward there is by the key that names it."""
        judge = {} if self.held_out is None else {"held_out": self.held_out}
        bounds = {f"constraints.{i}": constraint for i, constraint in enumerate(self.constraints)}
        return {"reward": self.reward} | judge | bounds

    def check_sources(self) -> None:
        """Raise ConfigError for repeats that cannot be kept, or that differ between the readers of one source."""
        found: dict[tuple[str, str], int] = {}
        for source in self.sources:
            if found.setdefault((source.name, source.own_version), source.repeats) != source.repeats:
                raise ConfigError(
                    f'columns of "{source.name}" are read with different repeats: say the same in every section, '
                    "so that a design is asked for once"
                )

    def _check_conditional(self) -> None:
        """Raise ConfigError where a reward reads conditions, and no design is drawn under one."""
        told = self.model.told is not None and isinstance(self.model.space, Text)
        for reward in (self.reward, self.held_out, *self.constraints):
            if reward is None or not Declaration.by(reward).conditional:
                continue
            if not told:
                raise ConfigError(
                    f'"{reward.name}" reads the conditions of texts, and these designs have none: condition = … under '
                    "[model]"
                )
            if plan(reward) is not None:
                raise ConfigError(
                    f'"{reward.name}" reads conditions, and columns of one source, which are kept by design alone: '
                    "make one function of both"
                )

    def objective_and_value(self) -> tuple[Objective, Value | None]:
        """Return the objective and its value, checked against the process."""
        objective = self.config.build_objective()
        value = self._value_of(objective, "objective")
        check_parts(objective, self._parts(value))
        return objective, value

    def sampler_and_value(self) -> tuple[Sampler, Value | None]:
        """Return the sampler and its value, checked against the process and the reward."""
        sampler = self.config.build_sampler()
        value = self._value_of(sampler, "sampler")
        check_parts(sampler, self._parts(value))
        return sampler, value

    def trainer(self, folder: Path | None, callbacks: Sequence[Callback] = ()) -> Trainer:
        """Build the training loop; with `folder` it keeps its oracle, ledger and checkpoints there."""
        config, device = self.config, self.device
        torch.manual_seed(config.seed)
        reseed()
        objective, value = self.objective_and_value()
        self.model.policy.net.to(device)
        if isinstance(value, torch.nn.Module):
            value.to(device)
        store = self._store(folder)
        train = config.build_train()
        oracle: Any = self.oracle(self.reward, store, self._run_id(folder), max_calls=train.max_calls)
        if self.constraints:
            oracle = Constrained(oracle, self._constraints(store, folder), config.alpha, config.build_lagrangian())
            objective = Adapting(objective, oracle)
        context = Context(
            Roles.start(self.model.policy), oracle, config.alpha,
            torch.Generator(device).manual_seed(config.seed), Replay(objective.capacity), value,
        )  # fmt: skip
        settings = config.model_dump(mode="json", exclude_none=True)
        return Trainer(
            context, objective, train, oracle, folder, self._monitor(store, folder), callbacks,
            experiment=self.digest, settings=settings,
        )  # fmt: skip

    def _constraints(self, store: Store, folder: Path | None) -> list[Constraint]:
        found = []
        for section, reward in zip(self.config.constraints, self.constraints):
            name = section.name or reward.name
            scorer = self.oracle(reward, store, f"{self._run_id(folder)}:constraint:{name}")
            found.append(Constraint(scorer, Bounds(name, section.at_least, section.at_most)))
        return found

    def oracle(self, reward: NamedReward, store: Store, run_id: str, *, max_calls: int | None = None) -> Oracle:
        """Return the oracle that asks a reward as `[oracle]` says; its ledger in `store` is that of `run_id`.

        Only one with a budget, `max_calls`, ends a run for designs that cannot be scored: judging goes on.
        """
        section = self.config.oracle
        most = 1.0 if max_calls is None else section.max_unscored
        shared = plan(reward)
        if shared is None:
            backend = self._backend(reward)
        else:
            backend = Shared(shared, reward, store, run_id, [self._backend(part) for part in shared.parts])
        return Oracle(
            reward, store=store, max_calls=max_calls, space=self.model.space, run_id=run_id,
            decode=self.model.decode, bare=self.model.bare_design,
            batch_size=section.batch_size, max_unscored=most, backend=backend,
        )  # fmt: skip

    def close(self) -> None:
        """End the workers that score designs; they start again when they are needed."""
        while self._backends:
            self._backends.popitem()[1].close()

    @property
    def sources(self) -> list[Source]:
        """What gives several columns to the reward, the judge and the constraints."""
        return sources(list(self.rewards().values()))

    def _backend(self, reward: NamedReward | Source) -> Backend:
        """Return where a reward is asked: tuning and judging share one, so that workers start once."""
        key = (reward.name, reward.version) if isinstance(reward, Source) else id(reward)
        if key not in self._backends:
            self._backends[key] = build_backend(self.config.oracle.backend, reward, **self._workers)
        return self._backends[key]

    @property
    def _workers(self) -> dict[str, Any]:
        """The options of the backend: how many workers, where, and what a design may cost."""
        section = self.config.oracle
        limits = Limits(section.time_limit, section.memory_limit, section.retries, section.chunk)
        return {"workers": section.workers, "limits": limits, "address": section.address}

    def _value_of(self, algorithm: Algorithm, section: str) -> Value | None:
        """Return the value that an objective or a sampler asks for by its `value`, or None."""
        options = self.config.value_options(algorithm, section)
        if options is None:
            return None
        policy = self.model.policy
        return VALUES.find(algorithm.value_name).build(
            options, policy.process, lambda width, depth: value_network(policy, ValueSize(width, depth))
        )

    def _parts(self, value: Value | None) -> Parts:
        differentiable = all(reward.differentiable for reward in (self.reward, *self.constraints))
        policy = self.model.policy
        relaxed = not isinstance(self.model.origin, Origin) or reads_relaxed(policy)  # networks of ours do
        return Parts(policy.process, value, differentiable, PROCESSES.values(), VALUES.values(), relaxed)

    @property
    def device(self) -> torch.device:
        """Where tensors live; ConfigError when this machine has no such device."""
        return _device(self.config.device)

    def decode(self, states: Tensor) -> list[Any]:
        """Return the designs of states."""
        return self.model.decode(states)

    @property
    def scores_version(self) -> str:
        """The version of the reward, and of the constraints where there are any: another one is another experiment."""
        return " ".join(reward.version for reward in (self.reward, *self.constraints))

    @property
    def digest(self) -> str:
        """A hash of all that decides the run, by which its checkpoints are known."""
        config = self.config.model_dump(mode="json", exclude_none=True, exclude={"task"})
        return hashlib.sha256(json.dumps([config, self.scores_version], sort_keys=True).encode()).hexdigest()

    def record(self, folder: Path) -> None:
        """Store the resolved configuration, the command, versions, git commit and hashes of what it read."""
        try:
            before = read_record(folder).command
        except CheckpointError:
            before = None
        files = [s.path for s in (*_sections(self.config), self.config.model) if s.path and not _in_python(s.path)]
        base = str(self.base.resolve())
        record = RunRecord(
            config=self.config, base=base, command=before or command_line(), versions=versions(), git=git_commit(),
            sha256=hashes(self.base, files), reward_version=self.scores_version, mark=mark(self.config, base),
        )  # fmt: skip
        write_json(folder / RECORD, record.document())

    @classmethod
    def recorded(
        cls, folder: Path, *, reward: Any = None, held_out: Any = None, model: Any = None, trust: bool = False
    ) -> Experiment:
        """Rebuild the experiment of a run's folder, as it was recorded.

        Raises UntrustedRun when that would run code in a folder that this user did not make here, unless `trust`.
        """
        record = read_record(folder)
        config = record.config
        if model is None and _in_python(config.model.path):
            raise ConfigError(
                f"the model of {folder} was given in Python: go on there, with "
                f'biotilt.resume("{folder}", model=…) or Run.load("{folder}", model=…)'
            )
        for key, section, given in (("reward", config.reward, reward), ("held_out", config.held_out, held_out)):
            if given is None and section is not None and _in_python(section.function):
                raise ConfigError(
                    f"the {key} of {folder} was given in Python: go on there, with "
                    f'biotilt.resume("{folder}", {key}=…) or Run.load("{folder}", {key}=…)'
                )
        if not trust:
            given_here = {"reward": reward, "held_out": held_out, "model": model}
            replaced = [key for key, given in given_here.items() if given is not None]
            require_trust(folder, config, record.base, record.mark, replaced)
        # the task's defaults of that day are in the record already
        keys = config.model_dump(mode="json", exclude_none=True, exclude={"task"})
        experiment = cls.from_dict(
            keys, Path(record.base), str(folder / RECORD), reward=reward, held_out=held_out, model=model,
            proven=True,  # when the run began
        )  # fmt: skip
        experiment.config = experiment.config.model_copy(update={"task": config.task})
        return experiment

    def _store(self, folder: Path | None) -> Store:
        if folder is None:
            return Store(None)
        cache = self.config.oracle.cache
        return Store(folder / LEDGER if cache is None else self.base / cache)

    def _run_id(self, folder: Path | None) -> str:
        """Name this run in its ledger: by its place only when runs share a file, so that a folder can be moved."""
        shared = folder is not None and self.config.oracle.cache is not None
        return str(folder.resolve()) if folder is not None and shared else "tuning"

    def _monitor(self, store: Store, folder: Path | None) -> Callable[[Tensor], Metrics] | None:
        if self.held_out is None:
            return None
        judge = self.oracle(self.held_out, store, f"{self._run_id(folder)}:held_out")

        def monitor(designs: Tensor) -> Metrics:
            scores = judge(designs)
            low, high = scores.nanquantile(torch.tensor([0.05, 0.95], device=scores.device))
            return {"held_out": scores.nanmean().item(), "held_out_spread": (high - low).item()}

        return monitor


def comparable(experiment: Experiment) -> bool:
    """Whether both oracles speak in the same unit: only then mean a gap, or a measured maximum, anything."""
    judge = experiment.held_out
    return judge is None or getattr(judge, "units", "") == getattr(experiment.reward, "units", "")


def load_reward(
    section: RewardSection, base: Path, key: str, target: str | None = None, model: Model | None = None
) -> NamedReward:
    """Build a reward as `build_reward` does; what its file sets in this process when it is run stays with it."""
    with isolated() as world:
        made = build_reward(section, base, key, target, model)
    adopt(made, world)
    return made


def build_reward(
    section: RewardSection, base: Path, key: str, target: str | None = None, model: Model | None = None
) -> NamedReward:
    """Build a reward from its section; ConfigError names the key when something is missing.

    `target` is given to the rewards that have an option of that name and whose section does not set it; `model`, the
    base, to those that are weighed against the density of its designs.
    """
    kind = REWARDS.find(section.kind, f"{key}.kind")
    parts = [build_reward(part, base, f"{key}.parts.{i}", target, model) for i, part in enumerate(section.parts)]
    given = Section(
        key, base, _options(section, base, target), parts, [part.weight for part in section.parts],
        section.function, section.per_design, section.path, None if model is None else lambda: base_density(model),
    )  # fmt: skip
    said = {name: getattr(section, name) for name in ("direction", "range", "units")}
    if section.column is not None:
        return declare(_column_of(kind, given, section), **said)
    said |= {name: getattr(section, name) for name in ("deterministic", "repeats")}
    if issubclass(kind, FromSection):
        return declare(kind.of_section(given), **said)
    return declare(REWARDS.build(section.kind, given.options, f"{key}.options"), **said)


def _column_of(kind: type, given: Section, section: RewardSection) -> NamedReward:
    """Return one column of what gives several, asked as often as the section says."""
    assert section.column is not None
    if not issubclass(kind, GivesColumns):
        raise ConfigError(f'{given.key}.column: a reward of kind "{section.kind}" gives one score; leave this key out')
    source = kind.source_of(given)
    try:
        return source.asked(section.repeats).column(section.column)
    except ConfigError as error:
        raise ConfigError(f"{given.key}.column: {error}") from error


def _options(section: RewardSection, base: Path, target: str | None) -> dict[str, Any]:
    """Return the options of a reward, with its target and the paths that start at the experiment."""
    options, kind = dict(section.options), REWARDS.options_of(section.kind)
    accepted = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    if target is not None and "target" in accepted:
        options = {"target": target} | options
    if "folder" in accepted:  # a program works where the experiment is
        options = {"folder": "."} | options
    for name in set(PATHS) & options.keys() & accepted:
        with contextlib.suppress(OSError, ValueError):  # it is no path: the reward says so
            if options[name] and (base / str(options[name])).exists():
                options[name] = str(base / str(options[name]))
    return options


def load_base(section: ModelSection, base: Path) -> Model:
    """Load the pretrained generator that a section names, whose relative paths start at the folder `base`.

    Raises ConfigError, which names the key, when it cannot be built, or does not do what every algorithm expects.
    """
    if section.path is not None:
        try:
            return Model.load(base / section.path, **section.process)
        except ConfigError as error:
            raise ConfigError(f"model.process: {error}") from error
    if section.source is not None:
        model = Model.of_origin(SourceOrigin(section.source, section.options))
    else:
        assert section.factory is not None  # the section checked that it is one of the three
        try:
            model = Model.of_origin(FactoryOrigin.of(section.factory, section.options, base))
        except ConfigError as error:
            raise ConfigError(f"model.factory: {error}") from error
    return model.with_process(**section.process) if section.process else model


def told_as(section: ModelSection, model: Model) -> Model:
    """Return the model whose network is told what a section says; ConfigError, which names the key, where it cannot."""
    if section.condition is None:
        return model
    try:
        return model.with_condition(section.condition, guidance=section.guidance)
    except ConfigError as error:
        key = "guidance" if str(error).startswith("guidance") else "condition"
        raise ConfigError(f"model.{key}: {error}") from error


def _model_section(model: Model) -> dict[str, Any]:
    """Return what a configuration says of a model that was given as an object."""
    told = {} if model.told is None else {"condition": model.told.table, "guidance": model.told.guidance}
    if not isinstance(model.origin, Origin):
        net = model.with_condition(None).policy.net
        return {"path": f"<{type(net).__name__}, given in Python>"} | told
    adapters = {} if model.lora is None else {"lora": asdict(model.lora)}
    return asdict(model.origin) | {"process": model.process_options} | adapters | told


def _in_python(reference: str | None) -> bool:
    return (reference or "").startswith("<")


def _given_in_python(reward: NamedReward) -> dict[str, str]:
    return {"kind": "python", "function": f"<{reward.name}, given in Python>"}


def _as_reward(function: Any, key: str) -> NamedReward:
    if not callable(function):
        raise ConfigError(f"{key}: {shown(function)} is no function of a list of designs")
    if isinstance(function, Source):
        raise ConfigError(f'{key}: "{function.name}" gives several columns; give one of them, .column("…")')
    found: Any = function if hasattr(function, "name") and hasattr(function, "version") else wrap_reward(function)
    return found


@contextmanager
def _locating(source: str, text: str) -> Iterator[None]:
    """Put file and line before an error about a key."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(located(str(error), source, text)) from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device: cannot use "{name}": {str(error).splitlines()[0]}; "cpu" always works') from error
    return device


def fixed_positions(config: Config, model: Model) -> Fixed | None:
    """Return what the configuration holds fixed in the model's designs."""
    given = {"fixed": config.design.fixed, "scaffold": config.design.scaffold}
    said = {key: what for key, what in given.items() if what is not None}
    if len(said) > 1:
        raise ConfigError("design.scaffold: give a scaffold or fixed positions, not both")
    return next((model.fixed(what, key) for key, what in said.items()), None)


def _sections(config: Config) -> list[RewardSection]:
    found, waiting = [], [config.reward, config.held_out, *config.constraints]
    while waiting:
        section = waiting.pop()
        if section is not None:
            found.append(section)
            waiting.extend(section.parts)
    return found
