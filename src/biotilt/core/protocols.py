"""The vocabulary: a process and a network make a policy over a finite-horizon Markov decision process.

States run from `x[0]`, pure noise, to `x[K]`, a design. Step `k` maps `x[k]` to `x[k+1]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor

from biotilt.core.capabilities import Kernel, Net


class NetInput(NamedTuple):
    """What a network is shown of states `(B, ...)` at a step: `x` as networks read it, and times `t` `(B,)`."""

    x: Tensor
    t: Tensor


@runtime_checkable
class Process(Protocol):
    """A finite-horizon Markov decision process: x[0] noise, x[K] design.

    States are letters, `(B, L)` integers, or points, `(B, ...)` floats. What a process or its kernels can do beyond
    this, the classes of `core/capabilities.py` say that they derive from; `kernel_type` is the class of the kernels,
    as able as any configuration makes them.
    """

    name: ClassVar[str]
    kernel_type: ClassVar[type[Kernel]]

    @property
    def steps(self) -> int: ...

    def noise(self, batch: int, generator: Generator) -> Tensor: ...

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return what the network is shown at states `x` `(B, ...)` and step `k`, an int or `(B,)`, in [0, K]."""
        ...

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> Kernel:
        """Return the kernel that a network's output at `inputs(x, k)` stands for, `k` in [0, K)."""
        ...

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor: ...

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor: ...


@runtime_checkable
class OfLetters(Process, Protocol):
    """A process whose designs are `length` letters out of `letters`."""

    @property
    def length(self) -> int: ...

    @property
    def letters(self) -> int: ...


@runtime_checkable
class OfPoints(Process, Protocol):
    """A process whose designs are points of `size` coordinates."""

    @property
    def size(self) -> int: ...


@runtime_checkable
class HasLetters(Protocol):
    """Any part that is for so many kinds of letters."""

    @property
    def letters(self) -> int: ...


@runtime_checkable
class HasLength(Protocol):
    """Any part that is for designs of one length."""

    @property
    def length(self) -> int: ...


@runtime_checkable
class HasSize(Protocol):
    """Any part that is for points of so many coordinates."""

    @property
    def size(self) -> int: ...


@runtime_checkable
class HasTarget(Protocol):
    """Any part that is for designs of one target."""

    @property
    def target(self) -> str: ...


def sizes_of(part: object) -> dict[str, Any]:
    """Return what a network's options, a process or a space say of the designs that they are for."""
    found: dict[str, Any] = {}
    if isinstance(part, HasLetters):
        found["letters"] = part.letters
    if isinstance(part, HasLength):
        found["length"] = part.length
    if isinstance(part, HasSize):
        found["size"] = part.size
    if isinstance(part, HasTarget):
        found["target"] = part.target
    return found


class Reward(Protocol):
    """A named function of designs, higher is better: NaN = could not be scored, -inf = infeasible."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def differentiable(self) -> bool: ...

    def __call__(self, designs: list[Any]) -> list[float]: ...


class Scorer(Protocol):
    """What an algorithm sees of an oracle: rewards `(B,)`, float, of designs `(B, ...)`."""

    def __call__(self, designs: Tensor, /) -> Tensor: ...


class StatefulScorer(Scorer, Protocol):
    """A scorer whose accounts are part of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Return the accounts as plain JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /, *, behind: bool = False) -> None:
        """Go back to accounts that were saved; with `behind` even if they count more than is still known."""
        ...


class CountingScorer(StatefulScorer, Protocol):
    """What tuning asks of the oracle of its reward: accounts that tell the calls they cost."""

    @property
    def calls(self) -> int: ...


@runtime_checkable
class Demanding(Protocol):
    """A scorer that can tell at the end of a run that nothing was scored, and why."""

    def require_scores(self) -> None:
        """Raise NothingScored when no design got a finite score."""
        ...


@runtime_checkable
class Unhurried(Protocol):
    """A scorer that does other work, once, while it waits for its next scores."""

    meanwhile: Callable[[], None] | None


@runtime_checkable
class RelaxedScorer(Protocol):
    """The oracle of a differentiable reward, which also scores relaxed designs."""

    def relaxed(self, designs: Tensor, /) -> Tensor:
        """Return rewards `(B,)`, with gradients, of relaxed designs `(B, ...)`."""
        ...


@runtime_checkable
class ReadsTime(Protocol):
    """A network that says whether its outputs depend on the time it is told."""

    @property
    def reads_time(self) -> bool: ...


def reads_time(net: object) -> bool:
    """Return whether a network may give the same states other outputs at another time: unless it says no."""
    return not isinstance(net, ReadsTime) or net.reads_time


def kernel_at(process: Process, net: Net, x: Tensor, k: int | Tensor) -> Kernel:
    """Return the kernel of a process with a network at states `x` `(B, ...)` and step `k`: one network call."""
    return process.kernel_of(in_full(net(*process.inputs(x, k))), x, k)


def in_full(output: Tensor) -> Tensor:
    """Return what a network says in float32 at least: logarithms, summed over letters and steps, need the digits."""
    return output.float() if output.is_floating_point() and output.element_size() < 4 else output
