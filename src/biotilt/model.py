"""A generator on disk: network, process and space in one safetensors file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from biotilt.core import Policy, own_names, sample
from biotilt.core.fixed import Fixed, Holding
from biotilt.core.space import Constrained, Held, Space, Targeted
from biotilt.errors import CheckpointError, ConfigError, DataError, UntrustedRun
from biotilt.files import blamed_on, halved, load_tensors, save_tensors, with_weights
from biotilt.models.checks import check_network, check_rebuilding
from biotilt.models.lora import LoRA, adapted, merged
from biotilt.models.origin import FileOrigin, Origin, fingerprint
from biotilt.networks import NETWORKS, describe_network
from biotilt.networks.targets import Targetable
from biotilt.options import Count, Seed, Text, build_options, shown
from biotilt.processes import PROCESSES, Simplex
from biotilt.processes.letters import LetterProcess
from biotilt.schema import Name, Named, StoredTensors, checked
from biotilt.spaces import Text as TextSpace
from biotilt.spaces import stored_space


class StoredOrigin(BaseModel):
    """What builds a network of which only a part is stored: a function, or a file; and a hash of the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factory: Text | None = None
    options: dict[str, Any] = {}
    path: Text | None = None
    frozen: Name

    @property
    def shown(self) -> str:
        return f'"{self.factory or self.path}"'


class GeneratorFile(StoredTensors):
    """The metadata of a generator's file; the first files named an alphabet, and no space."""

    kind: ClassVar[str] = "generator"
    called: ClassVar[str] = "a generator"

    network: Named | None = None
    origin: StoredOrigin | None = None
    lora: dict[str, Any] | None = None
    process: Named
    codec: dict[str, Any] | None = None
    alphabet: Name | None = None


@dataclass
class Model:
    """A policy together with the space of what it designs.

    `origin`: where its network comes from: a function, if it is not one of ours (`biotilt.wrap`), or its file. `lora`:
    the adapters that it has.
    """

    policy: Policy
    space: Space[Any]
    origin: Origin | FileOrigin | None = None
    lora: LoRA | None = None

    def __post_init__(self) -> None:
        process = self.policy.process
        if isinstance(self.space, Constrained) and isinstance(process, Holding) and process.fixed is None:
            self.policy = Policy(process.holding(self.space.limits), self.policy.net)

    def sample(self, count: int, *, seed: int = 0) -> list[Any]:
        """Return `count` designs: text or arrays, as the space says."""
        seed, count = checked(seed, Seed, "seed", ConfigError), checked(count, Count, "count", ConfigError)
        device = next(self.policy.net.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        return self.decode(sample(self.policy, count, generator))

    def decode(self, states: Tensor) -> list[Any]:
        """Return the designs of states x[K]."""
        return self.space.decode(self.read(states).cpu())

    def read(self, states: Tensor) -> Tensor:
        """Return what the space reads of states x[K]: these, or their letters where they are points of a simplex."""
        process = self.policy.process
        return process.tokens(states) if isinstance(process, Simplex) else states

    def for_target(self, target: str) -> Model:
        """Return the model that designs for a target (of a structure, a protein); ConfigError when it takes none."""
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
        return Model(Policy(replace(process, length=space.length, fixed=None), net), space, origin)

    def fixed(self, given: str | Mapping[str, str], key: str = "fixed") -> Fixed:
        """Return what a pattern ("GCC..."), a table {"1-3" = "GCC"} or a scaffold holds of a design.

        Raises ConfigError where it does not fit, or the space is told by another `key` of `[design]`.
        """
        if not isinstance(self.space, Held) or not isinstance(self.policy.process, Holding):
            raise ConfigError(f"design.{key}: nothing can be held in designs of {self.space.name}; leave the key out")
        if self.space.held_by != key:
            raise ConfigError(f"design.{key}: designs of {self.space.name} are held by design.{self.space.held_by}")
        return self.space.fixed(given, self.policy.process.coordinates)

    def with_fixed(self, fixed: Fixed | None) -> Model:
        """Return the same model with this held, beside what its space always asks for."""
        process = self.policy.process
        if fixed is None:
            return self
        if not isinstance(process, Holding):
            raise ConfigError(f'the process "{process.name}" cannot hold positions fixed')
        if isinstance(self.space, Constrained):
            fixed = fixed.merged(self.space.limits)
        return replace(self, policy=Policy(process.holding(fixed), self.policy.net))

    @property
    def process_options(self) -> dict[str, Any]:
        """What the process is configured with, but for held positions, as JSON holds it."""
        return {key: value for key, value in _options_of(self.policy.process).items() if key != "fixed"}

    def with_process(self, **options: Any) -> Model:
        """Return the same model with other options of its process (`per_step=1`); ConfigError names a wrong one."""
        given = _options_of(self.policy.process) | options
        return replace(
            self,
            policy=Policy(
                PROCESSES.build(self.policy.process.name, given, f'process "{self.policy.process.name}"'),
                self.policy.net,
            ),
        )

    @classmethod
    def of_origin(cls, origin: Origin) -> Model:
        """Return the model that a function of the user's builds; ConfigError when it builds none."""
        given = origin.build()
        if not isinstance(given, Model):
            raise ConfigError(
                f'model "{origin.factory}" must return a model, such as biotilt.wrap makes, not {type(given).__name__}'
            )
        return replace(given, origin=origin)

    def with_lora(self, lora: LoRA | None = None, /, **options: Any) -> Model:
        """Return the model with low-rank adapters, which alone are trained: `with_lora(rank=8, targets=("query",))`.

        Its weights stay where they are. Raises ConfigError when no layer is called so, or peft is not installed.
        """
        lora = lora or build_options(LoRA, options, "model.lora")
        return replace(self, policy=Policy(self.policy.process, adapted(self.policy.net, lora)), lora=lora)

    def merged(self) -> Model:
        """Return the model with its adapters made part of its weights: its file then needs no other."""
        if self.lora is None:
            return self
        return replace(self, policy=Policy(self.policy.process, merged(self.policy.net)), lora=None)

    def check(self) -> None:
        """Try what every algorithm takes for granted, on a few states.

        Raises ConfigError, with what to do, when the network's output does not fit the process, the mask is no token
        that it knows, dropout or batch statistics act, or it cannot be stored and loaded again in another process.
        """
        check_network(self.policy)
        if not isinstance(self.origin, Origin):
            describe_network(self.policy.net)  # ours are what their description says
            return

        def save(policy: Policy, path: Path) -> None:
            replace(self, policy=policy).save(path)

        check_rebuilding(self.policy, save, self.origin.factory)

    def save(self, path: Path, extra: dict[str, Any] | None = None, *, half: bool = False) -> None:
        """Write the model as one safetensors file, weights in float16 if `half`; `extra` is kept with it.

        Of a network that is not one of ours, or that has adapters, only the weights that can be trained are written,
        with the name of the function or the file that gives the rest. Raises ConfigError when a network that is not one
        of ours has no such function.
        """
        name = self.policy.process.name
        about: dict[str, Any] = {"kind": GeneratorFile.kind, "process": {"name": name, **self.process_options}}
        if self.lora is not None:
            about |= {"lora": asdict(self.lora)}
        if self.origin is None or (isinstance(self.origin, FileOrigin) and self.lora is None):
            about |= {"network": describe_network(self.policy.net), "codec": self.space.spec()}
            weights = self.policy.net.state_dict()
        else:
            about |= {"origin": vars(self.origin) | {"frozen": fingerprint(self.policy.net)}}
            weights = {name: self.policy.net.get_parameter(name) for name in own_names(self.policy.net)}
        save_tensors(path, halved(weights) if half else weights, about | (extra or {}))

    @classmethod
    def load(
        cls, path: Path | str, /, *, factory: Callable[..., Model] | None = None, trust: bool = False,
        **process_options: Any,
    ) -> Model:  # fmt: skip
        """Read what `save` wrote, ready to sample; `process_options` override the stored ones (`per_step=1`).

        A network that is not one of ours is built by a function that the file names: give it as `factory`, or say
        `trust` to import it. Raises CheckpointError when the file is missing, damaged or not a generator, and
        UntrustedRun, which names the function, without either.
        """
        path = Path(path)
        tensors, about = load_tensors(path, GeneratorFile)
        process = about.process.model_dump()
        if about.origin is not None:
            given = _given_by(about.origin, path, factory, trust)
            with blamed_on(path):
                if about.lora is not None:
                    given = given.with_lora(**about.lora)
                _put(given.policy.net, tensors, about.origin)
                built = PROCESSES.of_table(process | process_options)
            return replace(given, policy=Policy(built, given.policy.net))
        if about.network is None:
            raise CheckpointError(f"{path} names neither a network nor a function that builds one")
        network = about.network.model_dump()
        with blamed_on(path):
            lora = None if about.lora is None else build_options(LoRA, about.lora, "model.lora")

            def make() -> nn.Module:
                plain = NETWORKS.of_table(network)
                return plain if lora is None else adapted(plain, lora)

            net = with_weights(path, make, tensors)
            policy = Policy(PROCESSES.of_table(process), net.eval())
            space = stored_space(about.model_dump(exclude_none=True))
            _check_sizes(policy, space)
        if process_options:
            policy = Policy(PROCESSES.of_table(process | process_options), net)
        return cls(policy, space, FileOrigin(str(path.absolute())), lora)


def _given_by(stored: StoredOrigin, path: Path, factory: Callable[..., Model] | None, trust: bool) -> Model:
    """Return the model that a file's function builds; UntrustedRun where nobody said that it may be run."""
    if stored.path is not None and factory is None:
        if not Path(stored.path).is_file():
            raise CheckpointError(
                f"{path} holds adapters of the model {stored.path}, which is not there: bring it back, or hand it over "
                "from where it is now, load_model(path, factory=lambda: biotilt.load_model(…))"
            )
        return Model.load(stored.path)
    if stored.factory is None:
        stored = stored.model_copy(update={"factory": "the function given"})
    if factory is None and not trust:
        raise UntrustedRun(
            f"{path}: its network is built by {stored.shown}, which is not part of biotilt: hand over "
            "that function (load_model(path, factory=…)), or say --trust (in Python: trust=True) to have it imported"
        )
    origin = Origin(stored.factory, stored.options)
    if factory is None:
        return Model.of_origin(origin)
    given = factory(**stored.options)
    return given if stored.path is not None else replace(given, origin=origin)


@torch.no_grad()
def _put(net: nn.Module, tensors: dict[str, Tensor], stored: StoredOrigin) -> None:
    """Put the stored weights in their places; ConfigError where they, or those that stay, are another network's."""
    names = own_names(net)
    if set(names) != tensors.keys():
        odd = sorted(set(names) ^ tensors.keys())[0]
        raise ConfigError(f'the network that {stored.shown} gives can be trained elsewhere than stored: "{odd}"')
    if fingerprint(net) != stored.frozen:
        raise ConfigError(
            f"the frozen weights that {stored.shown} gives are not those that this was tuned with: bring them back"
        )
    for name in names:
        place = net.get_parameter(name)
        if place.shape != tensors[name].shape:
            raise ConfigError(f'"{name}" has the shape {shown(list(tensors[name].shape))}, not {list(place.shape)}')
        if not bool(tensors[name].isfinite().all()):
            raise ConfigError(f'the weights "{name}" are not all finite, so the model is of no use')
        place.copy_(tensors[name])


def _options_of(process: Any) -> dict[str, Any]:
    """Return the options of a process, a dataclass, by name."""
    return {field.name: getattr(process, field.name) for field in fields(process)}


def _check_sizes(policy: Policy, space: Space[Any]) -> None:
    """Raise ConfigError when network, process and space are not for the same designs."""
    parts = {"network": policy.net.config, "process": policy.process, "space": space}
    for what in ("letters", "length", "size", "target"):
        found = {part: getattr(holder, what) for part, holder in parts.items() if hasattr(holder, what)}
        if what == "letters" and "process" in found and isinstance(space, TextSpace):
            found["space"] = len(space.symbols)
        if len(set(found.values())) > 1:
            said = ", ".join(f"{part} {shown(value)}" for part, value in found.items())
            raise ConfigError(f"its parts do not fit together: {what} of {said}")
