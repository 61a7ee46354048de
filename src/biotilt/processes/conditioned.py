"""Chains that each have one of several conditions, drawn with x[0], written into every state, and never changed.

A process and its kernels are wrapped: states carry the number of their condition (`core.marks`), and all that the
inner ones can do, these can. So objectives, values and replay work as they are; networks read the number off the state
(`networks.conditional`). No policy chooses x[0], so conditions keep their shares, and the target is p*(x|c) for each c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import (
    Capability,
    Centred,
    Chance,
    Density,
    Divergence,
    Expecting,
    Factorised,
    Foreseeing,
    Guessing,
    Kernel,
    LetterEvidence,
    Limited,
    Mixable,
    Net,
    NoisedPath,
    PosteriorDensity,
    Relaxable,
    Reparametrised,
    Reveals,
    SeveralTargets,
    Tiltable,
    needed,
)
from biotilt.core.marks import Mark
from biotilt.core.protocols import NetInput, OfLetters, OfPoints, Process
from biotilt.errors import ConfigError

T = TypeVar("T")


class MarkedKernel(Kernel):
    """The kernel `inner` of the states without their marks, of the conditions `index` `(B,)`."""

    def __init__(self, inner: Kernel, mark: Mark, index: Tensor):
        self.inner, self.mark, self.index = inner, mark, index

    @property
    def x0(self) -> Tensor:
        return self.mark.blank(self.inner.x0)

    def sample(self, generator: Generator) -> Tensor:
        return self._marked(self.inner.sample(generator))

    def _as(self, kind: type[T]) -> T:
        return needed(self.inner, kind)

    def _like(self, inner: Kernel) -> Self:
        return type(self)(inner, self.mark, self.index)

    def _marked(self, x: Tensor) -> Tensor:
        return self.mark.write(x, self.index)

    def _where_kept(self, y: Tensor, log_prob: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the log-probability of states without their mark; −inf where the condition is another."""
        states, index = self.mark.read(y)
        found = log_prob(states)
        return torch.where(index == self.index, found, torch.full_like(found, -torch.inf))


class _Density(MarkedKernel, Density):
    def log_prob(self, y: Tensor) -> Tensor:
        return self._where_kept(y, self._as(Density).log_prob)


class _Factorised(_Density, Factorised):
    def terms(self, y: Tensor) -> Tensor:
        return self.mark.blank(self._as(Factorised).terms(self.mark.without(y)))


class _Divergence(_Density, Divergence):
    def kl(self, other: Self) -> Tensor:
        return self._as(Divergence).kl(needed(other.inner, Divergence))


class _Tiltable(_Density, Tiltable):
    def tilted(self, q: Tensor) -> Self:
        return self._like(self._as(Tiltable).tilted(self.mark.without(q)))


class _Mixable(_Density, Mixable):
    def mix(self, other: Self, weight: float) -> Self:
        return self._like(self._as(Mixable).mix(needed(other.inner, Mixable), weight))


class _Centred(_Density, Centred):
    def __init__(self, inner: Kernel, mark: Mark, index: Tensor):
        super().__init__(inner, mark, index)
        self.mean = self._marked(self._as(Centred).mean)


class _PosteriorDensity(MarkedKernel, PosteriorDensity):
    def posterior_log_prob(self, design: Tensor) -> Tensor:
        return self._where_kept(design, self._as(PosteriorDensity).posterior_log_prob)


class _Guessing(MarkedKernel, Guessing):
    def guess(self, generator: Generator | None = None) -> Tensor:
        return self._marked(self._as(Guessing).guess(generator))


class _Expecting(MarkedKernel, Expecting):
    def expected(self) -> Tensor:
        return self._marked(self._as(Expecting).expected())


class _Foreseeing(MarkedKernel, Foreseeing):
    def chance(self, generator: Generator) -> Chance:
        return self._as(Foreseeing).chance(generator)

    def follow(self, chance: Chance) -> Tensor:
        return self._marked(self._as(Foreseeing).follow(chance))


class _Reparametrised(MarkedKernel, Reparametrised):
    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        return self._marked(self._as(Reparametrised).rsample(generator, temperature))


_OF_KERNELS: dict[type[Capability], type[MarkedKernel]] = {
    Factorised: _Factorised,
    Divergence: _Divergence,
    Tiltable: _Tiltable,
    Mixable: _Mixable,
    Centred: _Centred,
    Density: _Density,
    PosteriorDensity: _PosteriorDensity,
    Guessing: _Guessing,
    Expecting: _Expecting,
    Reparametrised: _Reparametrised,
    Foreseeing: _Foreseeing,
}


@cache
def kernel_class(inner: type[Kernel]) -> type[MarkedKernel]:
    """Return the class of marked kernels that can do what kernels of the class `inner` can."""
    parts = tuple(part for capability, part in _OF_KERNELS.items() if issubclass(inner, capability))
    return type(f"Marked{inner.__name__}", (*parts, MarkedKernel), {})


@dataclass(frozen=True)
class Conditioned(SeveralTargets):
    """The process `inner`, whose chains have the condition c with probability `weights[c]`.

    Make one by `conditioned`, which gives it what the inner process can do.
    """

    inner: Process
    mark: Mark
    weights: tuple[float, ...]

    name: ClassVar[str] = "conditioned"
    kernel_type: ClassVar[type[Kernel]] = MarkedKernel

    @property
    def steps(self) -> int:
        return self.inner.steps

    @property
    def targets(self) -> int:
        return len(self.weights)

    def target_of(self, x: Tensor) -> Tensor:
        """Return the conditions `(B,)` of states, relaxed or not."""
        return self.mark.read(x)[1]

    def noise(self, batch: int, generator: Generator) -> Tensor:
        shares = torch.tensor(self.weights, device=generator.device)
        index = torch.multinomial(shares, batch, replacement=True, generator=generator)
        return self.mark.write(self.inner.noise(batch, generator), index)

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return what a network is shown of the states, with their marks."""
        states, index = self.mark.read(x)
        seen, t = self.inner.inputs(states, k)
        return NetInput(self.mark.write(seen, index), t)

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> MarkedKernel:
        states, index = self.mark.read(x)
        inner = self.inner.kernel_of(self.mark.without(output), states, k)
        return kernel_class(type(inner))(inner, self.mark, index)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        states, index = self.mark.read(design)
        return self.mark.write(self.inner.corrupt(states, k, generator), index)

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        states, index = self.mark.read(design)
        return self.inner.denoising_loss(self._marking(net, index), states, generator)

    def _as(self, kind: type[T]) -> T:
        return needed(self.inner, kind)

    def _marking(self, net: Net, index: Tensor) -> Net:
        """Return the network as a function of states without marks, a batch `(B,)` of them or several in a row."""

        def call(x: Tensor, t: Tensor) -> Tensor:
            return self.mark.without(net(self.mark.write(x, index.repeat(len(x) // len(index))), t))

        return call


class _OfLetters(Conditioned):
    @property
    def length(self) -> int:
        return self._as(OfLetters).length + self.mark.width

    @property
    def letters(self) -> int:
        return self._as(OfLetters).letters


class _OfPoints(Conditioned):
    @property
    def size(self) -> int:
        return self._as(OfPoints).size + self.mark.width


class _Relaxable(Conditioned, Relaxable):
    def relaxed(self, x: Tensor) -> Tensor:
        states, index = self.mark.read(x)
        return self.mark.write(self._as(Relaxable).relaxed(states), index)

    def relaxed_design(self, x: Tensor) -> Tensor:
        states, index = self.mark.read(x)
        return self.mark.write(self._as(Relaxable).relaxed_design(states), index)


class _Reveals(_OfLetters, Reveals):
    @property
    def free(self) -> int:
        return self._as(Reveals).free

    def hidden(self, x: Tensor) -> Tensor:
        return self.mark.blank(self._as(Reveals).hidden(self.mark.without(x)))

    def hide(self, design: Tensor, count: Tensor, generator: Generator) -> Tensor:
        states, index = self.mark.read(design)
        return self.mark.write(self._as(Reveals).hide(states, count, generator), index)

    def step_of(self, x: Tensor) -> Tensor:
        return self._as(Reveals).step_of(self.mark.without(x))


class _LetterEvidence(Conditioned, LetterEvidence):
    def letter_evidence(
        self, net: Net, design: Tensor, generator: Generator, draws: int, *, alike: bool = False
    ) -> tuple[Tensor, Tensor]:
        states, index = self.mark.read(design)
        inner, told = self._as(LetterEvidence), self._marking(net, index)
        found = inner.letter_evidence(told, states, generator, draws, alike=alike)
        log_prob, weight = (self.mark.blank(each.flatten(0, 1)).unflatten(0, (draws, -1)) for each in found)
        return log_prob, weight


class _NoisedPath(Conditioned, NoisedPath):
    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        states, index = self.mark.read(design)
        chain = self._as(NoisedPath).noised_path(states, generator)
        return self.mark.write(chain.flatten(0, 1), index.repeat(len(chain))).unflatten(0, chain.shape[:2])


class _Limited(Conditioned, Limited):
    def remedies(self) -> Mapping[type[Capability], str]:
        return self._as(Limited).remedies()


_OF_PROCESSES: dict[type, type[Conditioned]] = {
    Reveals: _Reveals,
    Relaxable: _Relaxable,
    LetterEvidence: _LetterEvidence,
    NoisedPath: _NoisedPath,
    Limited: _Limited,
}


def conditioned(inner: Process, weights: tuple[float, ...]) -> Conditioned:
    """Return the process whose chains have one of n conditions, with probabilities `weights` `(n,)` that sum to 1.

    Raises ConfigError where states have no axis to which a condition could be added.
    """
    example = inner.noise(1, Generator())
    if example.dim() < 2:
        raise ConfigError(f'the states of the process "{inner.name}" are single numbers: tune one condition at a time')
    letters = None if example.is_floating_point() else needed(inner, OfLetters).letters
    kind = _process_class(type(inner), isinstance(inner, OfLetters), isinstance(inner, OfPoints))
    return kind(inner, Mark(len(weights), letters), weights)


@cache
def _process_class(inner: type[Process], letters: bool, points: bool) -> type[Conditioned]:
    """Return the class of conditioned processes that can do what those of the class `inner` can."""
    parts = [part for capability, part in _OF_PROCESSES.items() if issubclass(inner, capability)]
    if letters and _Reveals not in parts:
        parts.append(_OfLetters)
    if points:
        parts.append(_OfPoints)
    about: dict[str, Any] = {"name": inner.name, "kernel_type": kernel_class(inner.kernel_type)}
    return type(f"Conditioned{inner.__name__}", (*parts, Conditioned), about)
