"""A generator: a network, a process and a space, in memory and as one safetensors file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.core import Policy, own_names, sample
from biotilt.core.fixed import Fixed, Holding
from biotilt.core.reading import Reading
from biotilt.core.space import Constrained, Held, Particular, Space, Targeted
from biotilt.errors import ConfigError, DataError, UntrustedRun
from biotilt.files import blamed_on
from biotilt.models.changed import changed, options_of
from biotilt.models.checks import check_network, check_rebuilding, device_of
from biotilt.models.conditions import Conditions, Given, Told
from biotilt.models.hub import MASKED, PIPELINES, generator_file, is_hub, is_of_transformers, is_pipeline
from biotilt.models.hub import named as as_named
from biotilt.models.lora import LoRA, adapted, merged
from biotilt.models.origin import FactoryOrigin, FileOrigin, Origin, SourceOrigin, fingerprint
from biotilt.models.reading import reading_of
from biotilt.models.sharing import write_folder
from biotilt.models.sources import MODELS
from biotilt.models.stored import GeneratorFile, StoredOrigin, put_trained, whole_parts
from biotilt.networks import describe_network
from biotilt.networks.conditional import Conditional
from biotilt.networks.targets import Targetable
from biotilt.options import Count, Seed, anchored, build_options
from biotilt.portable import portable
from biotilt.processes import PROCESSES, Simplex
from biotilt.processes.conditioned import Conditioned, conditioned
from biotilt.processes.letters import LetterProcess
from biotilt.schema import checked
from biotilt.spaces.told import ToldText
from biotilt.tensors import halved, load_tensors, save_tensors


@dataclass
class Model:
    """A policy together with the space of what it designs.

    `origin`: where its network comes from: a function, if it is not one of ours (`biotilt.wrap`), the name of a source,
    or its file. `lora`:
    the adapters that it has. `conditions`: what the network can be told; `told`: what it is told (`with_condition`).

    >>> import biotilt
    >>> model = biotilt.Experiment.for_task("utr").model
    >>> [len(design) for design in model.sample(2, seed=0)]
    [50, 50]
    """

    policy: Policy
    space: Space[Any]
    origin: Origin | FileOrigin | None = None
    lora: LoRA | None = None
    conditions: Conditions | None = None
    told: Told | None = None

    def __post_init__(self) -> None:
        process = self.policy.process
        if isinstance(self.space, Constrained) and isinstance(process, Holding) and process.fixed is None:
            self.policy = Policy(process.holding(self.space.limits), self.policy.net)
        if isinstance(process, Particular):
            process.check_space(self.space)

    def sample(self, count: int, *, seed: int = 0) -> list[Any]:
        """Return `count` designs: text or arrays, as the space says."""
        return self.decode(self.draw(count, seed=seed))

    def draw(self, count: int, *, seed: int = 0) -> Tensor:
        """Return `count` designs as states x[K], which `decode` and `conditions_of` read."""
        seed, count = checked(seed, Seed, "seed", ConfigError), checked(count, Count, "count", ConfigError)
        device = next(self.policy.net.parameters()).device
        return sample(self.policy, count, torch.Generator(device).manual_seed(seed))

    def decode(self, states: Tensor) -> list[Any]:
        """Return the designs of states x[K]; texts know their condition (`ToldText`), where the network is told one."""
        designs = self.space.decode(self.read(states).cpu())
        if self.space.medium == "text" and self.told is not None:
            return [ToldText(design, told) for design, told in zip(designs, self.conditions_of(states))]
        return designs

    def encode(self, designs: list[Any]) -> Tensor | None:
        """Return states of designs, None where conditions are not known of all; DataError names one that has none."""
        states, process = self.space.encode(designs), self.policy.process
        if self.told is None or not isinstance(process, Conditioned):
            return states
        labels = [design.condition if isinstance(design, ToldText) else None for design in designs]
        if not set(labels) <= set(self.told.labels):
            return None
        return process.mark.write(states, torch.tensor([self.told.labels.index(str(label)) for label in labels]))

    def bare_design(self, designs: Tensor) -> Tensor:
        """Return relaxed designs without what their states say of the condition."""
        process = self.policy.process
        return process.mark.without(designs) if isinstance(process, Conditioned) else designs

    def read(self, states: Tensor) -> Tensor:
        """Return what the space reads of states x[K]: these, or their letters where they are points of a simplex."""
        process = self.policy.process
        if isinstance(process, Conditioned):
            process, states = process.inner, process.mark.without(states)
        return process.tokens(states) if isinstance(process, Simplex) else states

    def conditions_of(self, states: Tensor) -> list[str]:
        """Return the label of the condition of each design x[K]; [] for a model that is told none."""
        process = self.policy.process
        if self.told is None:
            return []
        if not isinstance(process, Conditioned):
            return list(self.told.labels) * len(states)
        return [self.told.labels[index] for index in process.target_of(states).tolist()]

    @property
    def reading(self) -> Reading:
        """What the space tells those that search among designs."""
        return reading_of(self.space, self.decode)

    def with_condition(
        self, condition: Given | Sequence[Given] | Mapping[str, float] | None, *, guidance: float = 0.0
    ) -> Model:
        """Return the same model whose network is told a condition in every call, or one of several in each chain.

        `condition`: a label or a number; a list of them, drawn uniformly for each chain; or a table with their shares.
        None takes it back. `guidance` = w ≥ 0: classifier-free, (1 + w) · out(condition) − w · out(unconditional), at
        two rows a state. Raises ConfigError where the network knows no such condition, or no unconditional input.
        """
        return self._bare() if condition is None else self._telling(Told.of(condition, guidance))

    def _telling(self, told: Told) -> Model:
        bare = self._bare()
        if bare.conditions is None:
            raise ConfigError(
                "this generator takes no condition; biotilt.wrap(net, conditions=…) makes one of a network that does"
            )
        if told.guidance > 0 and bare.conditions.unconditional is None:
            raise ConfigError(
                "guidance needs to know what the network is told for no condition: biotilt.wrap(net, unconditional=…)"
            )
        process, table = bare.policy.process, bare.conditions.table(told.given)
        if len(told.given) > 1:
            process = conditioned(process, told.weights)
        net = Conditional(
            bare.policy.net, table, unconditional=bare.conditions.unconditional, guidance=told.guidance,
            mark=process.mark if isinstance(process, Conditioned) else None,
        )  # fmt: skip
        return replace(bare, policy=Policy(process, net.eval().to(device_of(bare.policy.net))), told=told)

    def _bare(self) -> Model:
        """Return the same model whose network is told nothing."""
        process, net = self.policy.process, self.policy.net
        if self.told is None or not isinstance(net, Conditional):
            return self
        process = process.inner if isinstance(process, Conditioned) else process
        return replace(self, policy=Policy(process, net.net), told=None)

    def _beneath(self, change: Callable[[Model], Model]) -> Model:
        """Return the model with its condition over what `change` makes of it without."""
        changed = change(self._bare())
        return changed if self.told is None else changed._telling(self.told)

    def for_target(self, target: str) -> Model:
        """Return the model that designs for a target (of a structure, a protein); ConfigError when it takes none."""
        if self.told is not None:
            return self._beneath(lambda bare: bare.for_target(target))
        space, net, process = self.space, self.policy.net, self.policy.process
        if not isinstance(space, Targeted) or not isinstance(process, LetterProcess):
            raise ConfigError("design.target: this generator takes no target; leave the key out")
        try:
            space = space.for_target(target)
        except DataError as error:
            raise ConfigError(f"design.target: {error}") from error
        if isinstance(net, Targetable):
            net = net.for_target(target)
        elif space.length != process.length:
            raise ConfigError(
                f"design.target: this target needs designs of {space.length} tokens, and the generator makes such of "
                f"{process.length}"
            )
        origin = self.origin if isinstance(self.origin, Origin) else None  # its file is of another target
        policy = Policy(replace(process, length=space.length, fixed=None), net)
        return replace(self, policy=policy, space=space, origin=origin, lora=None)

    def fixed(self, given: str | Mapping[str, str], key: str = "fixed") -> Fixed:
        """Return what a pattern ("GCC..."), a table {"1-3" = "GCC"} or a scaffold holds of a design.

        Raises ConfigError where it does not fit, or the space is told by another `key` of `[design]`.
        """
        process = self._bare().policy.process
        if not isinstance(self.space, Held) or not isinstance(process, Holding):
            raise ConfigError(f"design.{key}: nothing can be held in designs of {self.space.name}; leave the key out")
        if self.space.held_by != key:
            raise ConfigError(f"design.{key}: designs of {self.space.name} are held by design.{self.space.held_by}")
        return self.space.fixed(given, process.coordinates)

    def with_fixed(self, fixed: Fixed | None) -> Model:
        """Return the same model with this held, beside what its space always asks for."""
        process = self.policy.process
        if fixed is None:
            return self
        if self.told is not None:
            return self._beneath(lambda bare: bare.with_fixed(fixed))
        if not isinstance(process, Holding):
            raise ConfigError(f'the process "{process.name}" cannot hold positions fixed')
        if isinstance(self.space, Constrained):
            fixed = fixed.merged(self.space.limits)
        return replace(self, policy=Policy(process.holding(fixed), self.policy.net))

    @property
    def process_options(self) -> dict[str, Any]:
        """What the process is configured with, but for held positions, as JSON holds it."""
        return {key: value for key, value in options_of(self._bare().policy.process).items() if key != "fixed"}

    def with_process(self, **options: Any) -> Model:
        """Return the same model with other options of its process (`per_step=1`); ConfigError names a wrong one.

        `name="confidence"` is another process for the same network: see `biotilt.models.changed`.
        """
        if self.told is not None:
            return self._beneath(lambda bare: bare.with_process(**options))
        net = self.policy.net
        return replace(self, policy=Policy(changed(self.policy.process, options, net), net))

    @classmethod
    def of_origin(cls, origin: Origin) -> Model:
        """Return the model that a function of the user's, or a source, builds; ConfigError when it builds none."""
        given = origin.build()
        if not isinstance(given, Model):
            raise ConfigError(
                f"model {origin.shown} must return a model, such as biotilt.wrap makes, not {type(given).__name__}"
            )
        if isinstance(origin, SourceOrigin) and origin.is_whole:
            return given
        return replace(given, origin=origin)

    def with_lora(self, lora: LoRA | None = None, /, **options: Any) -> Model:
        """Return the model with low-rank adapters, which alone are trained: `with_lora(rank=8, targets=("query",))`.

        Its weights stay where they are. Raises ConfigError when no layer is called so, or peft is not installed.
        """
        chosen = lora or build_options(LoRA, options, "model.lora")
        if self.told is not None:
            return self._beneath(lambda bare: bare.with_lora(chosen))
        return replace(self, policy=Policy(self.policy.process, adapted(self.policy.net, chosen)), lora=chosen)

    def merged(self) -> Model:
        """Return the model with its adapters made part of its weights: its file then needs no other."""
        if self.lora is None:
            return self
        if self.told is not None:
            return self._beneath(lambda bare: bare.merged())
        return replace(self, policy=Policy(self.policy.process, merged(self.policy.net)), lora=None)

    def check(self) -> None:
        """Try what every algorithm takes for granted, on a few states.

        Raises ConfigError, with what to do, when the network's output does not fit the process, the mask is no token
        that it knows, dropout or batch statistics act, or it cannot be stored and loaded again in another process.
        """
        check_network(self.policy)
        if not isinstance(self.origin, Origin):
            describe_network(self._bare().policy.net)  # ours are what their description says
            return
        if self.origin.is_ours:
            return

        def save(policy: Policy, path: Path) -> None:
            replace(self, policy=policy).save(path)

        check_rebuilding(self.policy, save, self.origin.shown)

    def save_pretrained(
        self, folder: Path | str, *, title: str = "", about: Mapping[str, str] | None = None, overwrite: bool = False
    ) -> None:
        """Write a folder with the model, its description and a card, which `Model.pretrained` reads anywhere.

        Adapters come with the weights that they are added to, and held positions with the model. Only a network that a
        function or a source builds stays theirs: the folder names it. `title` and `about` (a heading → what stands
        below it, in Markdown) are for the card, `README.md`, beside what is known of the model itself. Raises
        ConfigError for a folder that holds other files, unless `overwrite`.
        """
        whole = replace(self, origin=None) if isinstance(self.origin, FileOrigin) else self
        write_folder(whole, Path(folder), title, about or {}, overwrite=overwrite)

    @classmethod
    def pretrained(
        cls, named: str | Path, /, *, factory: Callable[..., Model] | None = None, trust: bool = False, **options: Any
    ) -> Model:  # fmt: skip
        """Return a model that somebody made: a file, a folder of `save_pretrained`, or of the Hugging Face hub.

        `named`: a path; "owner/name" or "owner/name@revision", of which only safetensors, JSON, TOML and text are
        fetched, once; or what `biotilt list models` names, with the `options` of that source. Of the others `options`
        are those of the process (`num_steps=128`). `factory` and `trust` as in `load`. Raises ConfigError, with what to
        do, where the hub cannot be asked, and CheckpointError where there is no model in what is named.

        >>> import biotilt, tempfile
        >>> folder = f"{tempfile.mkdtemp()}/utr"
        >>> model = biotilt.Experiment.for_task("utr").model
        >>> model.save_pretrained(folder)
        >>> biotilt.Model.pretrained(folder).sample(2) == model.sample(2)
        True
        """
        if isinstance(named, str) and named in MODELS:
            return cls.of_origin(SourceOrigin(named, anchored(MODELS.options_of(named), options, Path())))
        said = as_named(named)
        if is_pipeline(said) or (options and is_of_transformers(said)):
            return cls.pretrained(PIPELINES if is_pipeline(said) else MASKED, path=str(said), **options)
        return cls.load(said, factory=factory, trust=trust, **options)

    def save(self, path: Path, extra: dict[str, Any] | None = None, *, half: bool = False) -> None:
        """Write the model as one safetensors file, weights in float16 if `half`; `extra` is kept with it.

        Of a network that is not one of ours, or that has adapters, only the weights that can be trained are written,
        with the name of the function or the file that gives the rest. Raises ConfigError when a network that is not one
        of ours has no such function.
        """
        if self.told is not None:
            return self._bare().save(path, {"told": asdict(self.told)} | (extra or {}), half=half)
        name = self.policy.process.name
        about: dict[str, Any] = {"kind": GeneratorFile.kind, "process": {"name": name, **self.process_options}}
        if self.lora is not None:
            about |= {"lora": asdict(self.lora)}
        if self.origin is None or (isinstance(self.origin, FileOrigin) and self.lora is None):
            about |= {"network": describe_network(self.policy.net), "codec": self.space.spec()}
            about |= {} if self.conditions is None else {"conditions": self.conditions.labels}
            weights: dict[str, Tensor] = self.policy.net.state_dict()
        else:
            beside = self.origin.beside(Path(path)) if isinstance(self.origin, FileOrigin) else {}
            about |= {"origin": portable(asdict(self.origin)) | beside}
            about["origin"]["frozen"] = fingerprint(self.policy.net)
            weights = {name: self.policy.net.get_parameter(name) for name in own_names(self.policy.net)}
        save_tensors(path, halved(weights) if half else weights, about | (extra or {}))

    @classmethod
    def load(
        cls, path: Path | str, /, *, factory: Callable[..., Model] | None = None, trust: bool = False,
        **process_options: Any,
    ) -> Model:  # fmt: skip
        """Read what `save` wrote, ready to sample; `process_options` override the stored ones (`per_step=1`).

        `path`: of the file, of a folder that has one, or "hub:owner/name@revision". A network that is not one of ours
        is built by a function that the file names: give it as `factory`, or say `trust` to import it. Raises
        CheckpointError when the file is missing, damaged or not a generator, and UntrustedRun, which names the
        function, without either.
        """
        named, path = path, generator_file(path)
        tensors, about = load_tensors(path, GeneratorFile)
        process = about.process.model_dump()
        if about.origin is not None:
            given = _given_by(about.origin, path, factory, trust)._bare()
            with blamed_on(path):
                if about.lora is not None:
                    given = given.with_lora(**about.lora)
                put_trained(given.policy.net, tensors, about.origin)
                net = given.policy.net
                built = changed(PROCESSES.of_table(process), process_options, net)
                return _as_stored(replace(given, policy=Policy(built, net)), about)
        parts = whole_parts(path, tensors, about, process_options)
        with blamed_on(path):
            origin = FileOrigin(str(named) if is_hub(named) else str(path.absolute()))
            return _as_stored(cls(parts.policy, parts.space, origin, parts.lora, parts.conditions), about)


def _as_stored(model: Model, about: GeneratorFile) -> Model:
    """Return the model that holds, and tells its network, what its file says."""
    if about.held is not None:
        model = model.with_fixed(about.held.of(model.policy.process))
    if about.told is None:
        return model
    return model._telling(Told(about.told.given, about.told.weights, about.told.guidance))


def _given_by(stored: StoredOrigin, path: Path, factory: Callable[..., Model] | None, trust: bool) -> Model:
    """Return the model that a file's function builds; UntrustedRun where nobody said that it may be run."""
    if stored.path is not None and factory is None:
        return Model.load(stored.base_of(path))
    if stored.source is not None:
        origin: Origin = SourceOrigin(stored.source, stored.options)
    else:
        origin = FactoryOrigin(stored.factory or "the function given", stored.options)
    if factory is not None:
        given = factory(**stored.options)
        return given if stored.path is not None else replace(given, origin=origin)
    if not trust and not origin.is_ours:
        raise UntrustedRun(
            f"{path}: its network is built by {stored.shown}, which is not part of biotilt: hand over "
            "that function (load_model(path, factory=…)), or say --trust (in Python: trust=True) to have it imported"
        )
    return Model.of_origin(origin)
