"""From a description to objects: the only place where names become objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biotilt.asking import Oracles
from biotilt.auto import settled, with_tilt
from biotilt.config import Config, ConstraintSection, parse_config
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
from biotilt.model_given import load_base, model_section, with_told
from biotilt.models.checks import reads_relaxed
from biotilt.models.origin import Origin
from biotilt.networks import ValueSize, value_network
from biotilt.options import plain
from biotilt.oracle.reading import check_reads
from biotilt.portable import packaged
from biotilt.processes import PROCESSES
from biotilt.reward_given import as_reward, load_reward
from biotilt.rewards import NamedReward
from biotilt.rewards.generic.columns import Source, plan, sources
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

    `reward`, `held_out`, `model`: objects, or sections as in a file, in place of what the keys name; of a model that is
    named already, a section without `path`, `source` or `factory` changes the keys that it has. `measures`: beside
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
                given[key] = as_reward(own, key)
                data = {**data, key: {"kind": "python", "function": f"<{given[key].name}, given in Python>"}}
        if isinstance(model, Model):
            given["model"] = model
            data = {**data, "model": model_section(model)}
        elif model is not None:  # keys beside those of the file, or of the task
            data = merge(data, {"model": plain(model, "model")})
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
    model = with_told(config.model, model)
    reward = given["reward"] if "reward" in given else load_reward(config.reward, base, "reward", target, model)
    held_out = given.get("held_out")
    if held_out is None and config.held_out is not None and config.held_out.kind != "none":
        held_out = load_reward(config.held_out, base, "held_out", target, model)
    constraints = [load_reward(c, base, f"constraints.{i}", target, model) for i, c in enumerate(config.constraints)]
    config, chosen = settled(config, model, [reward, *constraints])
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
    told = found.model.told is not None and found.model.space.medium == "text"
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


def fixed_positions(config: Config, model: Model) -> Fixed | None:
    """Return what the configuration holds fixed in the model's designs."""
    given = {"fixed": config.design.fixed, "scaffold": config.design.scaffold}
    said = {key: what for key, what in given.items() if what is not None}
    if len(said) > 1:
        raise ConfigError("design.scaffold: give a scaffold or fixed positions, not both")
    return next((model.fixed(what, key) for key, what in said.items()), None)
