"""From a description to objects: the only place where names become objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from biotilt.asking import Oracles
from biotilt.auto import settled, with_tilt
from biotilt.config import Config, ConstraintSection, ModelSection, RewardSection, parse_config
from biotilt.constraints import Bounds
from biotilt.constraints.tempered import check_tempered
from biotilt.core import Algorithm, Objective, Parts, Sampler, Sees, Value, check_parts
from biotilt.core.fixed import Fixed
from biotilt.declared import Declaration
from biotilt.errors import ConfigError
from biotilt.evaluation.measure import Measure
from biotilt.keys import merge
from biotilt.locate import locating
from biotilt.measures import own_measures, with_given
from biotilt.model import Model
from biotilt.models.checks import reads_relaxed
from biotilt.models.hub import is_hub
from biotilt.models.origin import FactoryOrigin, Origin, SourceOrigin
from biotilt.models.reference import base_density
from biotilt.models.sources import MODELS
from biotilt.networks import ValueSize, value_network
from biotilt.options import anchored, plain, shown
from biotilt.oracle.reading import check_reads
from biotilt.oracle.workers.isolation import adopt, isolated
from biotilt.portable import packaged
from biotilt.processes import PROCESSES
from biotilt.rewards import REWARDS, NamedReward
from biotilt.rewards import reward as wrap_reward
from biotilt.rewards.generic.base import Named
from biotilt.rewards.generic.columns import GivesColumns, Source, plan, sources
from biotilt.rewards.generic.declare import declare
from biotilt.rewards.generic.section import FromSection, Section
from biotilt.screening import check_screen, view_of
from biotilt.spaces import Text
from biotilt.tasks import find_task
from biotilt.values import VALUES


@dataclass
class Assembled:
    """A checked configuration with its objects; `base` is the folder that relative paths start at.

    `chosen`: what "auto" chose, and why, in sentences; the configuration has the choice.
    """

    config: Config
    base: Path
    model: Model
    reward: NamedReward
    held_out: NamedReward | None
    constraints: list[NamedReward]
    measures: list[Measure]
    oracles: Oracles = field(repr=False, compare=False)
    chosen: list[str] = field(default_factory=list)

    def rewards(self) -> dict[str, NamedReward]:
        """Return every reward there is by the key that names it."""
        judge = {} if self.held_out is None else {"held_out": self.held_out}
        bounds = {f"constraints.{i}": constraint for i, constraint in enumerate(self.constraints)}
        return {"reward": self.reward} | judge | bounds

    def bounds(self) -> Iterator[tuple[str, ConstraintSection, NamedReward]]:
        """Yield each constraint: what the history calls it, its section and its reward."""
        for section, reward in zip(self.config.constraints, self.constraints):
            yield section.name or reward.name, section, reward

    @property
    def sources(self) -> list[Source]:
        """What gives several columns to the reward, the judge and the constraints."""
        return sources(list(self.rewards().values()))

    @property
    def comparable(self) -> bool:
        """Whether both oracles speak in the same unit: only then mean a gap, or a measured maximum, anything."""
        judge = self.held_out
        return judge is None or Declaration.by(judge).units == Declaration.by(self.reward).units


def assemble(
    data: dict[str, Any], base: Path, source: str, text: str = "",
    *, reward: Any = None, held_out: Any = None, model: Any = None, measures: Iterable[Any] | None = None,
    proven: bool = False,
) -> Assembled:  # fmt: skip
    """Build what keys describe; a `task` fills in what they do not say.

    `reward`, `held_out`, `model`: objects, or sections as in a file, in place of what the keys name; `measures`: beside
    those that they name (`with_given`). A network that is not one of ours is tried (`Model.check`) unless it is
    `proven`: then it is a run's that began before. Raises ConfigError, with `source`, line (in `text`)
    and key, for anything that cannot work.
    """
    with locating(source, text):
        data = plain(data)
        if "task" in data:
            data = merge(find_task(data["task"]).defaults(), data)
        given: dict[str, Any] = {}
        for key, own in (("reward", reward), ("held_out", held_out)):
            if isinstance(own, Mapping):  # a section, as in a file
                data = {**data, key: plain(own, key)}
            elif own is not None:
                given[key] = _as_reward(own, key)
                data = {**data, key: {"kind": "python", "function": f"<{given[key].name}, given in Python>"}}
        if isinstance(model, Model):
            given["model"] = model
            data = {**data, "model": _model_section(model)}
        elif model is not None:
            data = {**data, "model": plain(model, "model")}
        data, shown_too = with_given(data, measures)
        base = Path(base).absolute()  # a reward may change the working folder
        data, tilted = with_tilt(data)
        found = _built(parse_config(packaged(data), source, text), base, given)
        found.chosen += tilted
        found.measures = own_measures(found.config.measures, base, shown_too, found.model.space, finished=proven)
        _check(found, prove=not proven and (isinstance(found.model.origin, Origin) or "model" in given))
        return found


def _built(config: Config, base: Path, given: Mapping[str, Any]) -> Assembled:
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
    model = _told(config.model, model)
    reward = given["reward"] if "reward" in given else load_reward(config.reward, base, "reward", target, model)
    held_out = given.get("held_out")
    if held_out is None and config.held_out is not None and config.held_out.kind != "none":
        held_out = load_reward(config.held_out, base, "held_out", target, model)
    constraints = [load_reward(c, base, f"constraints.{i}", target, model) for i, c in enumerate(config.constraints)]
    config, chosen = settled(config, model)
    oracles = Oracles(config.oracle, base, model)
    return Assembled(config, base, model, reward, held_out, constraints, [], oracles, chosen)


def _check(found: Assembled, *, prove: bool) -> None:
    """Refuse what does not fit before any compute; `prove`: also try the network."""
    config, held_out = found.config, found.held_out
    _check_conditional(found)
    _check_sources(found)
    if prove:
        found.model.check()
    for key, part in found.rewards().items():
        check_reads(part, found.model.space, key)
    check_screen(config, found.model, *objective_and_value(found))
    if config.target_kl is not None:
        check_tempered(found.model.policy.process, config.build_train().batch, PROCESSES.values())
    found.oracles.check()
    if config.build_train().stop.hacking and not (held_out is not None and found.comparable):
        raise ConfigError(
            "train.stop.hacking: needs a [held_out] reward in the same units as the reward, since it watches the "
            "gap between the two; leave the key out, or add one"
        )
    space = found.model.space
    if config.reference.sequences is not None and not (isinstance(space, Text) and space.written_in is not None):
        raise ConfigError(
            "reference.sequences: designs of this model are not made of letters whose k-mers could be compared with "
            "those of the file; leave this key out"
        )
    for name, section, _ in found.bounds():
        Bounds(name, section.at_least, section.at_most)


def _check_sources(found: Assembled) -> None:
    """Raise ConfigError for repeats that cannot be kept, or that differ between the readers of one source."""
    repeats: dict[tuple[str, str], int] = {}
    for source in found.sources:
        if repeats.setdefault((source.name, source.own_version), source.repeats) != source.repeats:
            raise ConfigError(
                f'columns of "{source.name}" are read with different repeats: say the same in every section, '
                "so that a design is asked for once"
            )


def _check_conditional(found: Assembled) -> None:
    """Raise ConfigError where a reward reads conditions, and no design is drawn under one."""
    told = found.model.told is not None and isinstance(found.model.space, Text)
    for reward in found.rewards().values():
        if not Declaration.by(reward).conditional:
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


def objective_and_value(parts: Assembled) -> tuple[Objective, Value | None]:
    """Return the objective and its value, checked against the process and the reward."""
    objective = parts.config.build_objective()
    objective.check_calls(parts.config.build_train().batch)
    return objective, _value_of(objective, "objective", parts)


def sampler_and_value(parts: Assembled, given: Value | None = None) -> tuple[Sampler, Value | None]:
    """Return the sampler and its value, or the one `given` in its place, checked against the process and the reward."""
    sampler = parts.config.build_sampler()
    if given is not None and sampler.value_name is None:
        raise ConfigError(
            f'a value was given, and the sampler "{sampler.name}" asks none as it is configured; svdd, smc and '
            "refinement do"
        )
    return sampler, _value_of(sampler, "sampler", parts, given)


def value_like(config: Config, model: Model) -> Value | None:
    """Return a new value such as the objective of a configuration trains, of this model."""
    return _new_value(config.build_objective(), "objective", config, model)


def _new_value(algorithm: Algorithm, section: str, config: Config, model: Model) -> Value | None:
    options, policy = config.value_options(algorithm, section), model.policy
    if options is None:
        return None
    value = VALUES.find(algorithm.value_name).build(
        options, policy.process, lambda width, depth: value_network(policy, ValueSize(width, depth))
    )
    if isinstance(value, Sees):
        value.see(view_of(model))
    return value


def _value_of(algorithm: Algorithm, section: str, parts: Assembled, given: Value | None = None) -> Value | None:
    """Return the value that an objective or a sampler asks for by its `value`, once all have been found to fit."""
    policy = parts.model.policy
    value = _new_value(algorithm, section, parts.config, parts.model) if given is None else given
    differentiable = all(reward.differentiable for reward in (parts.reward, *parts.constraints))
    relaxed = not isinstance(parts.model.origin, Origin) or reads_relaxed(policy)  # networks of ours do
    known = PROCESSES.values(), VALUES.values()
    check_parts(algorithm, Parts(policy.process, value, differentiable, *known, relaxed))
    return value


def load_reward(
    section: RewardSection, base: Path, key: str, target: str | None = None, model: Model | None = None
) -> NamedReward:
    """Build a reward as `build_reward` does; what its file sets in this process when it is run stays with it."""
    if section.weight != 1:
        raise ConfigError(
            f"{key}.weight: only the parts of a sum, a product or a mean have weights; leave this key out"
        )
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
        _model_of(section, base, key, model),
    )  # fmt: skip
    _check_keys(section, kind, key)
    said = {name: getattr(section, name) for name in ("direction", "range", "units")}
    if section.column is not None:
        return declare(_column_of(kind, given, section), **said)
    said |= {name: getattr(section, name) for name in ("deterministic", "repeats")}
    if issubclass(kind, FromSection):
        return declare(kind.of_section(given), **said)
    return declare(REWARDS.build(section.kind, given.options, f"{key}.options"), **said)


def _model_of(section: RewardSection, base: Path, key: str, given: Model | None) -> Callable[[], Model] | None:
    """Return what loads the model that a reward's section names, or gives the base; None where there is neither."""
    said = section.model
    if said is None:
        return None if given is None else lambda: given
    if said.lora is not None:
        raise ConfigError(f"{key}.model.lora: adapters are for tuning, and nothing is tuned here; leave this key out")
    return lambda: _told(said, load_base(said, base))


def _check_keys(section: RewardSection, kind: type, key: str) -> None:
    """Raise ConfigError for what is said of a kind that does not read it."""
    for name in meaningless(section, kind):
        where = f"{key}.parts: a weight" if name == "weights" else f"{key}.{name}: this key"
        raise ConfigError(f'{where} means nothing to a reward of kind "{section.kind}"; leave it out')


def meaningless(section: RewardSection, kind: type) -> list[str]:
    """Return what is said of a reward, the names of keys or "weights" of parts, that its kind does not read."""
    takes = kind.takes if issubclass(kind, FromSection) else frozenset({"options"})
    weights = any(part.weight != 1 for part in section.parts)
    said = {
        "function": section.function is not None, "per_design": section.per_design, "path": section.path is not None,
        "options": bool(section.options), "parts": bool(section.parts), "weights": weights,
        "model": section.model is not None,
    }  # fmt: skip
    return [name for name, given in said.items() if given and name not in takes]


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
    accepted = {option.name for option in fields(kind)} if is_dataclass(kind) else set()
    if target is not None and "target" in accepted:
        options = {"target": target} | options
    if "folder" in accepted:  # a program works where the experiment is
        options = {"folder": "."} | options
    return anchored(kind, options, base)


def load_base(section: ModelSection, base: Path) -> Model:
    """Load the pretrained generator that a section names, whose relative paths start at the folder `base`.

    Raises ConfigError, which names the key, when it cannot be built, or does not do what every algorithm expects.
    """
    if section.path is not None:
        try:
            return Model.load(section.path if is_hub(section.path) else base / section.path, **section.process)
        except ConfigError as error:
            raise ConfigError(f"model.process: {error}") from error
    if section.source is not None:
        kind = MODELS.options_of(section.source, "model.source")
        model = Model.of_origin(SourceOrigin(section.source, anchored(kind, section.options, base)))
    else:
        assert section.factory is not None  # the section checked that it is one of the three
        try:
            model = Model.of_origin(FactoryOrigin.of(section.factory, section.options, base))
        except ConfigError as error:
            raise ConfigError(f"model.factory: {error}") from error
    return model.with_process(**section.process) if section.process else model


def _told(section: ModelSection, model: Model) -> Model:
    """Return the model whose network is told what a section says; ConfigError, which names the key, where it cannot."""
    if section.condition is None:
        return model
    try:
        return model.with_condition(section.condition, guidance=section.guidance)
    except ConfigError as error:
        key = "guidance" if str(error).startswith("guidance") else "condition"
        raise ConfigError(f"model.{key}: {error}") from error


def fixed_positions(config: Config, model: Model) -> Fixed | None:
    """Return what the configuration holds fixed in the model's designs."""
    given = {"fixed": config.design.fixed, "scaffold": config.design.scaffold}
    said = {key: what for key, what in given.items() if what is not None}
    if len(said) > 1:
        raise ConfigError("design.scaffold: give a scaffold or fixed positions, not both")
    return next((model.fixed(what, key) for key, what in said.items()), None)


def _model_section(model: Model) -> dict[str, Any]:
    """Return what a configuration says of a model that was given as an object."""
    told = {} if model.told is None else {"condition": model.told.table, "guidance": model.told.guidance}
    if not isinstance(model.origin, Origin):
        net = model.with_condition(None).policy.net
        return {"path": f"<{type(net).__name__}, given in Python>"} | told
    adapters = {} if model.lora is None else {"lora": asdict(model.lora)}
    return asdict(model.origin) | {"process": model.process_options} | adapters | told


def _as_reward(function: Any, key: str) -> NamedReward:
    if not callable(function):
        raise ConfigError(f"{key}: {shown(function)} is no function of a list of designs")
    if isinstance(function, Source):
        raise ConfigError(f'{key}: "{function.name}" gives several columns; give one of them, .column("…")')
    found: Any = function if isinstance(function, Named) else wrap_reward(function)
    return found
