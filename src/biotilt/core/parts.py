"""Whether an algorithm, a process, a value and a reward go together: asked before any compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from biotilt.core.protocols import Process
from biotilt.errors import ConfigError


@dataclass(frozen=True)
class Parts:
    """What an algorithm is to work with; `known`: the process classes that an error may recommend."""

    process: Process
    value: Any = None
    differentiable: bool = False
    known: tuple[type, ...] = ()


def check_parts(algorithm: Any, parts: Parts) -> None:
    """Raise ConfigError, which says what to use instead, when an objective or sampler cannot work with the parts.

    Read off the algorithm: `needs`, methods of the kernel or the process; `needs_gradient`, whether the reward must be
    differentiable; and what its own `check(parts)` refuses, if it has one.
    """
    needs = tuple(dict.fromkeys((*algorithm.needs, *getattr(parts.value, "needs", ()))))
    check_capabilities(parts.process, needs, algorithm.name, parts.known)
    if getattr(algorithm, "needs_gradient", False) and not parts.differentiable:
        raise ConfigError(
            f"{algorithm.name} differentiates the reward, and this one cannot be differentiated (one learned by "
            "`biotilt fit-oracle` can); every algorithm that only asks for scores will do, such as vidd, ppo or smc"
        )
    if hasattr(algorithm, "check"):
        algorithm.check(parts)


def check_capabilities(process: Process, needs: tuple[str, ...], who: str, known: tuple[type, ...]) -> None:
    """Raise ConfigError when neither the process nor its kernel has a method that `who` needs."""
    for name, remedy in getattr(process, "lacks", {}).items():
        if name in needs:
            raise ConfigError(f'{who} needs {name}, which "{process.name}" has not as it is configured: {remedy}')
    lacking = [name for name in needs if not _has(type(process), name)]
    if lacking:
        having = [p.name for p in known if all(_has(p, n) for n in needs)]  # type: ignore[attr-defined]
        raise ConfigError(
            f'{who} needs kernels with {", ".join(lacking)}, which the process "{process.name}" has not; '
            f"processes that have it: {', '.join(having) or 'none'}"
        )


def _has(process: type, name: str) -> bool:
    lacks = getattr(process, "lacks", {})  # a property, which says nothing of the class, where it depends on options
    if isinstance(lacks, dict) and name in lacks:
        return False
    return hasattr(process.kernel_type, name) or hasattr(process, name)  # type: ignore[attr-defined]
