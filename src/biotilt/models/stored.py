"""What the file of a generator holds, and the parts that come out of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from biotilt.core import Policy, own_names
from biotilt.core.fixed import Fixed, Holding
from biotilt.core.protocols import OfLetters, Process, sizes_of
from biotilt.core.space import Space, token_type
from biotilt.errors import CheckpointError, ConfigError
from biotilt.files import blamed_on
from biotilt.models.changed import changed
from biotilt.models.conditions import Conditions
from biotilt.models.hub import is_hub
from biotilt.models.lora import LoRA, adapted
from biotilt.models.origin import fingerprint
from biotilt.networks import NETWORKS
from biotilt.options import CountFrom0, Text, build_options, shown
from biotilt.portable import here
from biotilt.processes import PROCESSES
from biotilt.schema import Name, Named, StoredTensors
from biotilt.spaces import Text as TextSpace
from biotilt.spaces import stored_space
from biotilt.tensors import with_weights


class StoredOrigin(BaseModel):
    """What builds a network of which a part is stored: a function, a name or a file; and a hash of the rest.

    `beside`: the file's path from the folder of this one, for folders that are moved together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factory: Text | None = None
    source: Text | None = None
    options: dict[str, Any] = {}
    path: Text | None = None
    beside: Text | None = None
    frozen: Name

    @property
    def shown(self) -> str:
        return f'"{self.factory or self.source or self.path}"'

    def base_of(self, path: Path) -> str | Path:
        """Return what holds the model whose adapters are in the file `path`; CheckpointError where it is gone."""
        assert self.path is not None
        if is_hub(self.path):
            return self.path
        known = [Path(here(self.path)), *([path.absolute().parent / self.beside] if self.beside else [])]
        there = next((place for place in known if place.is_file()), None)
        if there is None:
            raise CheckpointError(
                f"{path} holds adapters of the model {self.path}, which is not there: bring it back, or hand it over "
                "from where it is now, load_model(path, factory=lambda: biotilt.load_model(…))"
            )
        return there


class StoredHeld(BaseModel):
    """What is held of every design: `positions` from 0 with their `values`; of each position the letters it may have.

    `allowed`: "0110" for the second and the third of four letters; None where all positions may have all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    positions: list[CountFrom0]
    values: list[float]
    allowed: list[Text] | None = None

    @classmethod
    def by(cls, process: Process) -> dict[str, Any] | None:
        """Return what a process holds, as JSON; None where it holds nothing."""
        fixed = process.fixed if isinstance(process, Holding) else None
        if fixed is None:
            return None
        rows = None if fixed.allowed is None else [[str(int(can)) for can in row] for row in fixed.allowed.tolist()]
        return {
            "positions": fixed.mask.nonzero().flatten().tolist(), "values": fixed.letters[fixed.mask].tolist(),
            "allowed": None if rows is None else ["".join(row) for row in rows],
        }  # fmt: skip

    def of(self, process: Process) -> Fixed:
        """Return it for a process; ConfigError where it does not fit."""
        if not isinstance(process, Holding) or len(self.positions) != len(self.values):
            raise ConfigError(f'held: the process "{process.name}" cannot hold it')
        size = process.coordinates
        if any(place >= size for place in self.positions):
            raise ConfigError(f"held: position {max(self.positions) + 1} of designs of {size}")
        of_letters = isinstance(process, OfLetters)
        letters = torch.zeros(size, dtype=token_type(process.letters) if of_letters else torch.float32)
        places = torch.tensor(self.positions, dtype=torch.long)
        letters[places] = torch.tensor(self.values).to(letters)
        mask = torch.zeros(size, dtype=torch.bool).index_fill(0, places, value=True)
        if self.allowed is None:
            return Fixed(mask, letters)
        if not of_letters or {len(row) for row in self.allowed} != {process.letters}:
            raise ConfigError("held: allowed must have a digit for each letter, at every position")
        return Fixed(mask, letters, torch.tensor([[letter == "1" for letter in row] for row in self.allowed]))


class StoredTold(BaseModel):
    """The conditions that the generator tells its network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    given: tuple[Text | float, ...]
    weights: tuple[float, ...]
    guidance: float = 0.0


class GeneratorFile(StoredTensors):
    """The metadata of a generator's file; the first files named an alphabet, and no space.

    `conditions`: the labels of the classes that the network can be told; `told`: those that it is told; `held`: what is
    held of its designs, in the files of shared folders alone: a run's record says it itself.
    """

    kind: ClassVar[str] = "generator"
    called: ClassVar[str] = "a generator"

    network: Named | None = None
    origin: StoredOrigin | None = None
    lora: dict[str, Any] | None = None
    process: Named
    codec: dict[str, Any] | None = None
    alphabet: Name | None = None
    conditions: list[Text] | None = None
    told: StoredTold | None = None
    held: StoredHeld | None = None


class Parts(NamedTuple):
    """What a file that holds all weights gives."""

    policy: Policy
    space: Space[Any]
    lora: LoRA | None
    conditions: Conditions | None


def whole_parts(path: Path, tensors: dict[str, Tensor], about: GeneratorFile, process_options: dict[str, Any]) -> Parts:
    """Return the parts of a file that holds all weights; `process_options` override those of its process.

    Raises CheckpointError, which names the file, where they do not fit together or it does not say what they are.
    """
    if about.network is None:
        raise CheckpointError(f"{path} names neither a network nor a function that builds one")
    network, process = about.network.model_dump(), about.process.model_dump()
    with blamed_on(path):
        lora = None if about.lora is None else build_options(LoRA, about.lora, "model.lora")

        def make() -> nn.Module:
            plain = NETWORKS.of_table(network)
            return plain if lora is None else adapted(plain, lora)

        net = with_weights(path, make, tensors)
        policy = Policy(PROCESSES.of_table(process), net.eval())
        space = stored_space(about.model_dump(exclude_none=True))
        _check_sizes(policy, space)
        conditions = _classes(net, about.conditions)
    if process_options:
        policy = Policy(changed(policy.process, process_options, net), net)
    return Parts(policy, space, lora, conditions)


@torch.no_grad()
def put_trained(net: nn.Module, tensors: dict[str, Tensor], stored: StoredOrigin) -> None:
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


def _classes(net: Any, labels: list[str] | None) -> Conditions | None:
    """Return what a network of ours can be told: its classes by their labels, or else by their numbers from 0; or any
    number, where it takes one.
    """
    if asdict(net.config).get("number"):
        return Conditions.of("numbers")
    count = asdict(net.config).get("conditions", 0)
    if not count:
        return None
    labels = [str(place) for place in range(count)] if labels is None else labels
    if len(labels) != count:
        raise ConfigError(f"its parts do not fit together: {count} classes of the network, {len(labels)} labels")
    return Conditions.of(labels, unconditional=count)


def _check_sizes(policy: Policy, space: Space[Any]) -> None:
    """Raise ConfigError when network, process and space are not for the same designs."""
    parts = {"network": sizes_of(policy.net.config), "process": sizes_of(policy.process), "space": sizes_of(space)}
    if "letters" in parts["process"] and isinstance(space, TextSpace):
        parts["space"]["letters"] = len(space.symbols)
    for what in ("letters", "length", "size", "target"):
        found = {part: sizes[what] for part, sizes in parts.items() if what in sizes}
        if len(set(found.values())) > 1:
            said = ", ".join(f"{part} {shown(value)}" for part, value in found.items())
            raise ConfigError(f"its parts do not fit together: {what} of {said}")
