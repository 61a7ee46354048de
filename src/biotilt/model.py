"""A generator on disk: network, process and codec in one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.core import Policy, sample
from biotilt.core.fixed import Fixed
from biotilt.designs import Alphabet, Codec, fixed_from_positions, parse_fixed, stored_codec
from biotilt.errors import CheckpointError, ConfigError, DataError, suggest
from biotilt.files import load_tensors, save_tensors
from biotilt.networks import build_network, describe_network
from biotilt.plugins import registry


@dataclass
class Model:
    """A policy together with the codec of what it designs: an alphabet, where all designs have one length."""

    policy: Policy
    codec: Codec

    @property
    def alphabet(self) -> Alphabet | None:
        """The alphabet of the designs; None where they are not made of single letters."""
        return self.codec.alphabet

    def sample(self, count: int, *, seed: int = 0) -> list[str]:
        """Return `count` designs as strings."""
        device = next(self.policy.net.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        return self.decode(sample(self.policy, count, generator))

    def decode(self, states: Tensor) -> list[str]:
        """Return designs x[K] as strings."""
        process = self.policy.process
        tokens = process.tokens(states) if states.is_floating_point() else states  # type: ignore[attr-defined]
        return self.codec.decode_many(tokens.cpu())

    def for_target(self, target: str) -> Model:
        """Return the model that designs for a target (rna_fold: a structure); ConfigError when it takes none."""
        codec, net, process = self.codec, self.policy.net, self.policy.process
        if not (hasattr(codec, "for_target") and hasattr(net, "for_target")):
            raise ConfigError("design.target: this generator takes no target; leave the key out")
        try:
            codec = codec.for_target(target)  # type: ignore[attr-defined]
        except DataError as error:
            raise ConfigError(f"design.target: {error}") from error
        dataclass: Any = process
        return Model(Policy(replace(dataclass, length=codec.length), net.for_target(target)), codec)  # type: ignore[operator]

    def fixed_letters(self, given: str | dict[str, str]) -> Fixed:
        """Return what a pattern ("GCC...") or a table {"1-3" = "GCC"} holds; ConfigError where it does not fit."""
        length = getattr(self.policy.process, "length", 0)
        if self.codec.alphabet is None or hasattr(self.codec, "fixed_tokens"):
            raise ConfigError("design.fixed: the states of this generator are not letters: use design.scaffold")
        parse = parse_fixed if isinstance(given, str) else fixed_from_positions
        return Fixed(*parse(given, self.codec.alphabet, length))  # type: ignore[arg-type]

    def with_fixed(self, fixed: Fixed | None) -> Model:
        """Return the same model with some positions held at given letters."""
        process = self.policy.process
        if fixed is None:
            return self
        if not hasattr(process, "length"):  # its designs are no letters
            raise ConfigError(f'the process "{process.name}" cannot hold positions fixed')
        dataclass: Any = process
        return Model(Policy(replace(dataclass, fixed=fixed), self.policy.net), self.codec)

    def save(self, path: Path, extra: dict[str, Any] | None = None, *, half: bool = False) -> None:
        """Write the model as one safetensors file, weights in float16 if `half`; `extra` is kept with it."""
        process = self.policy.process
        options = {f.name: getattr(process, f.name) for f in fields(process) if f.name != "fixed"}  # type: ignore[arg-type]
        about = {
            "kind": "generator",
            "network": describe_network(self.policy.net),
            "process": {"name": process.name, **options},
            "codec": self.codec.spec(),
        }
        weights = {k: v.half() if half else v for k, v in self.policy.net.state_dict().items()}
        save_tensors(path, weights, about | (extra or {}))

    @classmethod
    def load(cls, path: Path | str, **process_options: Any) -> Model:
        """Read what `save` wrote, ready to sample; `process_options` override the stored ones (`per_step=1`).

        Raises CheckpointError when the file is missing, damaged or not a generator.
        """
        tensors, about = load_tensors(Path(path))
        if about.get("kind") != "generator":
            raise CheckpointError(f'{path} holds a "{about.get("kind")}", not a generator')
        network, process = dict(about["network"]), dict(about["process"]) | process_options
        net = build_network(network.pop("name"), network)
        try:
            net.load_state_dict({k: v.float() for k, v in tensors.items()})
        except RuntimeError as error:
            raise CheckpointError(f"{path}: the weights do not fit the network it describes: {error}") from error
        return cls(Policy(build_process(process.pop("name"), process), net.eval()), stored_codec(about))


def build_process(name: str, options: dict[str, Any]) -> Any:
    """Build a process from its name and options; ConfigError names an unknown name or option."""
    processes = registry("processes")
    if str(name) not in processes:
        raise ConfigError(f'unknown process "{name}"{suggest(str(name), processes)}')
    known = {field.name for field in fields(processes[name])}
    for key in options:
        if key not in known:
            raise ConfigError(f'process "{name}" has no option "{key}"{suggest(key, known)}')
    try:
        return processes[name](**options)
    except TypeError as error:
        raise ConfigError(f'process "{name}": an option has the wrong type: {options}: {error}') from error
