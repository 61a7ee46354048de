"""A generator on disk: network, process and space in one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from biotilt.core import Policy, sample
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError, DataError
from biotilt.files import blamed_on, halved, load_tensors, save_tensors, with_weights
from biotilt.networks import build_network, describe_network
from biotilt.options import Count, Seed, shown
from biotilt.processes import PROCESSES
from biotilt.schema import Name, Named, StoredTensors, checked
from biotilt.spaces import Alphabet, Space, fixed_from_positions, parse_fixed, stored_space


class GeneratorFile(StoredTensors):
    """The metadata of a generator's file; the first files named an alphabet, and no space."""

    kind: ClassVar[str] = "generator"
    called: ClassVar[str] = "a generator"

    network: Named
    process: Named
    codec: dict[str, Any] | None = None
    alphabet: Name | None = None


@dataclass
class Model:
    """A policy together with the space of what it designs: an alphabet, where all designs have one length."""

    policy: Policy
    space: Space

    @property
    def alphabet(self) -> Alphabet | None:
        """The alphabet of the designs; None where they are not made of single letters."""
        return self.space.alphabet

    def sample(self, count: int, *, seed: int = 0) -> list[str]:
        """Return `count` designs as strings."""
        seed, count = checked(seed, Seed, "seed", ConfigError), checked(count, Count, "count", ConfigError)
        device = next(self.policy.net.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        return self.decode(sample(self.policy, count, generator))

    def decode(self, states: Tensor) -> list[str]:
        """Return designs x[K] as strings."""
        process = self.policy.process
        tokens = process.tokens(states) if states.is_floating_point() else states  # type: ignore[attr-defined]
        return self.space.decode_many(tokens.cpu())

    def for_target(self, target: str) -> Model:
        """Return the model that designs for a target (rna_fold: a structure); ConfigError when it takes none."""
        space, net, process = self.space, self.policy.net, self.policy.process
        if not (hasattr(space, "for_target") and hasattr(net, "for_target")):
            raise ConfigError("design.target: this generator takes no target; leave the key out")
        try:
            space = space.for_target(target)  # type: ignore[attr-defined]
        except DataError as error:
            raise ConfigError(f"design.target: {error}") from error
        dataclass: Any = process
        return Model(Policy(replace(dataclass, length=space.length), net.for_target(target)), space)  # type: ignore[operator]

    def fixed_letters(self, given: str | dict[str, str]) -> Fixed:
        """Return what a pattern ("GCC...") or a table {"1-3" = "GCC"} holds; ConfigError where it does not fit."""
        length = getattr(self.policy.process, "length", 0)
        if self.space.alphabet is None or hasattr(self.space, "fixed_tokens"):
            raise ConfigError("design.fixed: the states of this generator are not letters: use design.scaffold")
        parse = parse_fixed if isinstance(given, str) else fixed_from_positions
        return Fixed(*parse(given, self.space.alphabet, length))  # type: ignore[arg-type]

    def with_fixed(self, fixed: Fixed | None) -> Model:
        """Return the same model with some positions held at given letters."""
        process = self.policy.process
        if fixed is None:
            return self
        if not hasattr(process, "length"):  # its designs are no letters
            raise ConfigError(f'the process "{process.name}" cannot hold positions fixed')
        dataclass: Any = process
        return Model(Policy(replace(dataclass, fixed=fixed), self.policy.net), self.space)

    def save(self, path: Path, extra: dict[str, Any] | None = None, *, half: bool = False) -> None:
        """Write the model as one safetensors file, weights in float16 if `half`; `extra` is kept with it."""
        process = self.policy.process
        options = {f.name: getattr(process, f.name) for f in fields(process) if f.name != "fixed"}  # type: ignore[arg-type]
        about = {
            "kind": GeneratorFile.kind,
            "network": describe_network(self.policy.net),
            "process": {"name": process.name, **options},
            "codec": self.space.spec(),
        }
        weights = self.policy.net.state_dict()
        save_tensors(path, halved(weights) if half else weights, about | (extra or {}))

    @classmethod
    def load(cls, path: Path | str, /, **process_options: Any) -> Model:
        """Read what `save` wrote, ready to sample; `process_options` override the stored ones (`per_step=1`).

        Raises CheckpointError when the file is missing, damaged or not a generator.
        """
        path = Path(path)
        tensors, about = load_tensors(path, GeneratorFile)
        network, process = about.network.model_dump(), about.process.model_dump()
        with blamed_on(path):
            net = with_weights(path, lambda: build_network(**_named(network)), tensors)
            policy = Policy(PROCESSES.of_table(process), net.eval())
            space = stored_space(about.model_dump(exclude_none=True))
            _check_sizes(policy, space)
        if process_options:
            policy = Policy(PROCESSES.of_table(process | process_options), net)
        return cls(policy, space)


def _named(table: dict[str, Any]) -> dict[str, Any]:
    """Return the name and the options of a part, from the table that holds both."""
    return {"name": table["name"], "options": {key: value for key, value in table.items() if key != "name"}}


def _check_sizes(policy: Policy, space: Space) -> None:
    """Raise ConfigError when network, process and space are not for the same designs."""
    parts = {"network": policy.net.config, "process": policy.process, "space": space}
    for what in ("letters", "length", "size", "target"):
        found = {part: getattr(holder, what) for part, holder in parts.items() if hasattr(holder, what)}
        if what == "letters" and "process" in found:
            found["space"] = len(space.symbols)
        if len(set(found.values())) > 1:
            said = ", ".join(f"{part} {shown(value)}" for part, value in found.items())
            raise ConfigError(f"its parts do not fit together: {what} of {said}")
