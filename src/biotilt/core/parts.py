"""Whether an algorithm, a process, a value and a reward go together: asked before any compute."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from biotilt.core.capabilities import Capability, Kernel, Limited, SeveralTargets
from biotilt.core.protocols import Process
from biotilt.errors import ConfigError

Network = Callable[[int, int], nn.Module]


class Value:
    """A value that an algorithm works with, by the `name` that experiments give as its `value`.

    `needs`: what it uses of kernels and of the process; `offers`: what values of its kind do, in messages.
    `screened`: whether it learns the same of a design whoever drew or chose it, so that a screen may.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[type[Capability], ...]] = ()
    offers: ClassVar[str] = "do anything"
    screened: ClassVar[bool] = False

    @classmethod
    def build(cls, options: Any, process: Process, network: Network) -> Value:
        """Return the value that its options (of its class `Options`, or of itself) stand for.

        `network(width, depth)` makes a network whose outputs start at zero, in which width and depth count where the
        generator lends none of its features. Raises ConfigError when the value does not go with the process.
        """
        return options


@dataclass(frozen=True)
class Parts:
    """What an algorithm is to work with; `known`, `known_values`: classes that an error may recommend.

    `relaxed_states`: whether the network reads relaxed states, so that gradients flow through it to them.
    """

    process: Process
    value: Value | None = None
    differentiable: bool = False
    known: Collection[type[Process]] = ()
    known_values: Collection[type[Value]] = ()
    relaxed_states: bool = True


class Algorithm:
    """What objectives and samplers declare of themselves: frozen dataclasses whose fields are their configuration.

    `needs`: the capabilities that it uses of kernels and of the process, beyond drawing; `needs_gradient`: whether the
    reward must be differentiable; `value`: the name of the value that it works with, or None, and `value_kind`: what
    that must be able to do. `one_target`: why it cannot work with chains of several targets (`SeveralTargets`), if it
    cannot.
    """

    name: ClassVar[str]
    one_target: ClassVar[str] = ""
    needs: ClassVar[tuple[type[Capability], ...]] = ()
    needs_gradient: ClassVar[bool] = False
    value_kind: ClassVar[type[Value]] = Value
    value: str | None = None

    @property
    def value_name(self) -> str | None:
        """The name of the value that it is to be given, or None."""
        return self.value

    def check(self, parts: Parts) -> None:
        """Raise ConfigError when its configuration does not go with the parts in a way that `needs` cannot say."""

    def unscreened(self, value: Value | None) -> str:
        """Return why a screen may not choose which of its designs are scored, with its value; "" where it may.

        It may where what is aimed at does not depend on the law of the designs that are scored: where the best are
        looked for, or where every term of a loss has its minimum at the same policy, whoever drew the design.
        """
        return "needs designs of the law that they are drawn from, and a choice among them changes it"


def check_parts(algorithm: Algorithm, parts: Parts) -> None:
    """Raise ConfigError, which says what to use instead, when an objective or sampler cannot work with the parts."""
    kind = algorithm.value_kind
    if parts.value is not None and not isinstance(parts.value, kind):
        fit = [value.name for value in parts.known_values if issubclass(value, kind)]
        raise ConfigError(
            f'{algorithm.name} works with values that {kind.offers}, and "{algorithm.value}" does not; '
            f"values that do: {', '.join(fit) or 'none'}"
        )
    needs = dict.fromkeys((*algorithm.needs, *(parts.value.needs if parts.value is not None else ())))
    check_capabilities(parts.process, tuple(needs), algorithm.name, parts.known)
    if algorithm.one_target and isinstance(parts.process, SeveralTargets):
        raise ConfigError(
            f"{algorithm.name} {algorithm.one_target}, and Z differs between conditions: name one condition"
        )
    if algorithm.needs_gradient and not parts.differentiable:
        raise ConfigError(
            f"{algorithm.name} differentiates the reward, and this one cannot be differentiated (one learned by "
            "`biotilt fit-oracle` can); every algorithm that only asks for scores will do, such as vidd, ppo or smc"
        )
    algorithm.check(parts)


def check_screened(algorithm: Algorithm, process: Process, value: Value | None) -> None:
    """Raise ConfigError when a screen may not choose which designs of an algorithm are scored."""
    if why := algorithm.unscreened(value):
        raise ConfigError(
            f"screen: {algorithm.name} {why}; leave [screen] out, or take what looks for the best or learns from "
            "designs of any law (docs/screening.md lists them)"
        )
    if isinstance(process, SeveralTargets):
        raise ConfigError("screen: designs are scored under several conditions, which it does not see: name one")


def require_relaxed_states(parts: Parts, who: str) -> None:
    """Raise ConfigError when the network does not read the relaxed states that `who` differentiates it in."""
    if not parts.relaxed_states:
        raise ConfigError(
            f"{who} differentiates the network in its states, and this one reads letters only: use what asks for "
            "scores, such as vidd, ppo or smc"
        )


def has(process: Process, capability: type[Capability]) -> bool:
    """Return whether the process, or its kernels as it is configured, have a capability."""
    return remedy_of(process, capability) is None and _may_have(type(process), capability)


def check_capabilities(
    process: Process, needs: tuple[type[Capability], ...], who: str, known: Collection[type[Process]]
) -> None:
    """Raise ConfigError when neither the process nor its kernels have a capability that `who` needs."""
    for need in needs:
        remedy = remedy_of(process, need)
        if remedy is not None:
            now = " as it is configured" if _may_have(type(process), need) else ""
            raise ConfigError(f'{who} needs {need.offers}, which "{process.name}" has not{now}: {remedy}')
    lacking = [need for need in needs if not _may_have(type(process), need)]
    if lacking:
        having = [kind.name for kind in known if all(_may_have(kind, need) for need in needs)]
        raise ConfigError(
            f'{who} needs {_in_words(lacking)}, which the process "{process.name}" has not; '
            f"processes that have it: {', '.join(having) or 'none'}"
        )


def remedy_of(process: Process, need: type[Capability]) -> str | None:
    """Return what the process says to do about a capability that it lacks; None where it says nothing."""
    remedies = process.remedies() if isinstance(process, Limited) else {}
    return next((remedy for lacked, remedy in remedies.items() if issubclass(need, lacked)), None)


def _may_have(kind: type[Process], need: type[Capability]) -> bool:
    """Return whether processes of a class have a capability in some configuration."""
    return issubclass(kind, need) or issubclass(kind.kernel_type, need)


def _in_words(needs: Iterable[type[Capability]]) -> str:
    of_kernels = [need.offers for need in needs if issubclass(need, Kernel)]
    of_processes = [need.offers for need in needs if not issubclass(need, Kernel)]
    parts = (("kernels with", of_kernels), ("a process with", of_processes))
    return " and ".join(f"{what} {', '.join(found)}" for what, found in parts if found)
