"""What pretraining is at, as an object and as a file from which it goes on bit for bit."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from biotilt.core import share
from biotilt.errors import CheckpointError, ConfigError
from biotilt.options import CountFrom0
from biotilt.schema import StoredTensors
from biotilt.tensors import load_tensors, save_tensors
from biotilt.training.optimisers import OptimiserOptions, optimisers_of

SECONDS_BETWEEN = 60.0  # two writings of a state
NOT_SAID = {("patience", 0), ("optimiser", "adamw")}


class PretrainingFile(StoredTensors):
    """The metadata of a state; `of` tells the training that it belongs to."""

    kind: ClassVar[str] = "pretraining_state"
    called: ClassVar[str] = "the state of a pretraining"

    of: dict[str, int | float | str | bool]
    step: CountFrom0
    running: float
    best: float | None
    waited: CountFrom0 = 0


@dataclass(frozen=True)
class StateFile:
    """Where pretraining keeps what it has reached; `resumed(step)` is called when it goes on from there.

    `also`: what else the training depends on. A file of other values is refused.
    """

    path: Path
    resumed: Callable[[int], None] = lambda step: None
    also: dict[str, int | float | str | bool] = field(default_factory=dict)

    def with_(self, also: Mapping[str, int | float | str | bool]) -> StateFile:
        """Return the same file of a training that depends on more."""
        return replace(self, also={**self.also, **also})


def _say(step: int) -> None:
    print(f"going on after step {step}", flush=True)


@contextmanager
def resumable(path: Path, resumed: Callable[[int], None] = _say) -> Iterator[StateFile]:
    """Yield the file of a training; it is deleted when the block, which saves the network, is done.

    An interrupt says that the same command goes on, where there is something to go on from.
    """
    try:
        yield StateFile(path, resumed)
    except KeyboardInterrupt as interrupt:
        if not path.exists():
            raise
        told = str(interrupt) or "interrupted"
        raise KeyboardInterrupt(f"{told}; the same command goes on from {path}") from interrupt
    path.unlink(missing_ok=True)


def hash_of(*tensors: Tensor) -> str:
    """Return sixteen digits of the SHA-256 of tensors, with their types and shapes."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        content: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        found.update(content)
    return found.hexdigest()[:16]


@dataclass
class Pretraining:
    """Weights, their average, the best averages so far with their bound, the optimisers, and how far it is.

    `of` tells what decides how it goes: options, seed, a hash of the first weights. `running` is the sum of the losses
    since the last check, on the device, which need not be waited for; `waited`: checks since the best. What takes no
    gradient, a backbone under adapters, is in memory once and in no file: its names are `frozen`.
    """

    of: dict[str, int | float | str | bool]

    net: nn.Module
    average: nn.Module
    best_weights: dict[str, Tensor]
    optimisers: Mapping[str, torch.optim.Optimizer]
    generator: Generator
    running: Tensor
    frozen: frozenset[str] = frozenset()
    step: int = 0
    best: float = math.inf
    waited: int = 0
    written: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, net: nn.Module, config: OptimiserOptions, generator: Generator) -> Pretraining:
        device = generator.device
        optimisers = optimisers_of(net, config, device)
        everything = net.named_parameters(remove_duplicate=False)
        frozen = frozenset(name for name, parameter in everything if not parameter.requires_grad)
        average = share(net).requires_grad_(False)
        first = hash_of(*net.state_dict().values())
        # states of before there was patience, or another optimiser, say nothing of it
        said = {key: value for key, value in vars(config).items() if (key, value) not in NOT_SAID}
        of = {**said, "seed": generator.initial_seed(), "the network's first weights": first}
        running = torch.zeros((), dtype=torch.float64, device=device)
        best = copy.deepcopy(_own(net, frozen))
        return cls(of, net, average, best, optimisers, generator, running, frozen)

    def checked(self, bound: float) -> None:
        """Take note of the bound of the averaged weights."""
        self.running.zero_()
        self.waited += 1
        if bound < self.best:
            self.best, self.best_weights, self.waited = bound, copy.deepcopy(_own(self.average, self.frozen)), 0

    def keep_best(self) -> None:
        """Give the network the averaged weights that were best."""
        _put(self.net, self.best_weights, self.frozen)

    def write(self, file: StateFile, *, at_once: bool) -> None:
        """Write all of it, whole or not at all, `at_once` or when the last time is long ago."""
        if not at_once and time.monotonic() - self.written < SECONDS_BETWEEN:
            return
        tensors = {"generator": self.generator.get_state(), "dropout": _dropout_state(self.generator.device)}
        for name, weights in self._weights().items():
            tensors |= {f"{name}/{key}": value for key, value in weights.items()}
        for name, optimiser in self.optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
        about = {"of": self.of | file.also, "step": self.step, "running": self.running.item()}
        best = self.best if math.isfinite(self.best) else None
        save_tensors(file.path, tensors, {"kind": PretrainingFile.kind, **about, "best": best, "waited": self.waited})
        self.written = time.monotonic()

    def read(self, file: StateFile) -> None:
        """Go on from what `write` wrote of the same training.

        Raises CheckpointError where the file is damaged, ConfigError where it is of another training.
        """
        tensors, about = load_tensors(file.path, PretrainingFile)
        _require_same(about.of, self.of | file.also, file.path)
        groups: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = value
        try:
            _put(self.net, groups["net"], self.frozen)
            _put(self.average, groups["average"], self.frozen)
            self.best_weights = {
                key: groups["best"][key].to(value, copy=True) for key, value in self.best_weights.items()
            }
            for name, optimiser in self.optimisers.items():
                moments: dict[int, dict[str, Tensor]] = {}
                for place, value in groups[name].items():
                    index, _, key = place.partition("/")
                    moments.setdefault(int(index), {})[key] = value
                optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
            self.generator.set_state(groups["generator"][""])
            _set_dropout_state(self.generator.device, groups["dropout"][""])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:  # what torch says of tensors that do not fit
            raise CheckpointError(
                f"{file.path} does not fit this training: {error}; delete it to start anew"
            ) from error
        self.step = about.step
        self.running.fill_(about.running)
        self.best, self.waited = math.inf if about.best is None else about.best, about.waited
        file.resumed(self.step)

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        net, average = (_own(each, self.frozen) for each in (self.net, self.average))
        return {"net": net, "average": average, "best": self.best_weights}


def _own(net: nn.Module, frozen: frozenset[str]) -> dict[str, Tensor]:
    """Return what training changes of a network: all that it stores but for the `frozen` weights."""
    return {name: tensor for name, tensor in net.state_dict().items() if name not in frozen}


def _put(net: nn.Module, weights: Mapping[str, Tensor], frozen: frozenset[str]) -> None:
    """Put into a network what `_own` returned; KeyError where it is of another one."""
    if odd := _own(net, frozen).keys() ^ weights.keys():
        raise KeyError(min(odd))
    net.load_state_dict(weights, strict=False)


def _dropout_state(device: torch.device) -> Tensor:
    """Return the state of the generator of a device that dropout draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_dropout_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _require_same(stored: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Raise ConfigError, naming what differs, where a state is of another training."""
    other = [key for key in sorted(stored.keys() | now.keys()) if stored.get(key) != now.get(key)]
    if other:
        told = ", ".join(f"{key} ({stored.get(key)}, now {now.get(key)})" for key in other)
        raise ConfigError(
            f"{path} is the state of an unfinished training that differs in {told}: repeat the command that began it, "
            "or delete that file to start anew"
        )


def best_weights(path: Path) -> tuple[dict[str, Tensor], int]:
    """Return the averaged weights of a training that are best on validation so far, and the step it has reached.

    Raises CheckpointError where there is no state, or validation was never looked at.
    """
    tensors, about = load_tensors(path, PretrainingFile)
    if about.best is None:
        raise CheckpointError(f"{path}: this training has not come to its first look at validation; let it go on")
    return {
        name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")
    }, about.step
