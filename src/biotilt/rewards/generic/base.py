"""What rewards share: a name and a version for the cache, and scores that say why they are NaN."""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
import numbers
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, Literal, Protocol, Self, runtime_checkable

from torch import Tensor

from biotilt.declared import Declaration
from biotilt.errors import ConfigError

Direction = Literal["maximise", "minimise"]


@runtime_checkable
class Named(Protocol):
    """A function with the two names by which a cache knows a reward; a plain one has none."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def __call__(self, designs: Any, /) -> Any: ...


@runtime_checkable
class NamedReward(Protocol):
    """A named function of designs, higher is better: NaN = could not be scored, -inf = infeasible."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def differentiable(self) -> bool: ...

    def __call__(self, designs: list[Any]) -> list[float]: ...


class DifferentiableReward(NamedReward, Protocol):
    """A reward that also scores relaxed designs `(B, L, V)`, with gradients: `differentiable` is true."""

    def score_one_hot(self, x: Tensor, /) -> Tensor: ...


class Compound(ABC):
    """A reward made of others, which can be put together again with others in their place; name and version stay.

    `times`: how often it has to be asked itself, whatever its parts say.
    """

    times: int = 1

    @abstractmethod
    def children(self) -> tuple[NamedReward, ...]:
        """Return the rewards that it is made of."""

    @abstractmethod
    def with_children(self, children: Sequence[NamedReward]) -> Self:
        """Return a copy made of these, as many."""

    def _with(self, **attributes: Any) -> Self:
        made = copy.copy(self)
        for name, value in attributes.items():
            object.__setattr__(made, name, value)  # some are frozen
        return made


class OfOne(Compound):
    """A reward made of one other, its `part`."""

    part: NamedReward

    def children(self) -> tuple[NamedReward, ...]:
        return (self.part,)

    def with_children(self, children: Sequence[NamedReward]) -> Self:
        return self._with(part=children[0])


class NotScored(float):
    """A NaN that says why: a reward may put it in place of any score, and the ledger shows the reason.

    >>> score = NotScored("the program timed out")
    >>> score, score.reason
    (nan, 'the program timed out')
    """

    reason: str

    def __new__(cls, reason: str) -> NotScored:
        score = super().__new__(cls, "nan")
        score.reason = reason
        return score


class Infeasible(float):
    """A −inf that says why: a reward may put it in place of any score.

    >>> score = Infeasible("a stop codon")
    >>> score, score.reason
    (-inf, 'a stop codon')
    """

    reason: str

    def __new__(cls, reason: str) -> Infeasible:
        score = super().__new__(cls, "-inf")
        score.reason = reason
        return score


def take_after(whole: Any, parts: Sequence[NamedReward]) -> None:
    """Declare a reward made of others as the oracle has to treat it: by design, or often, as soon as one part is."""
    said = [Declaration.by(part) for part in parts]
    whole.batched = all(part.batched for part in said)
    whole.deterministic = all(part.deterministic for part in said)
    whole.repeats = max(part.repeats for part in said)
    whole.conditional = any(part.conditional for part in said)
    whole.reads = read_by(whole.name, parts)
    whole.imports = tuple(name for part in said for name in part.imports)


def read_by(name: str, parts: Sequence[NamedReward]) -> str:
    """Return what designs all parts read; ConfigError when they read different ones."""
    said = {Declaration.by(part).reads for part in parts} - {"anything"}
    if len(said) > 1:
        raise ConfigError(f'reward "{name}": its parts read different designs: {", ".join(sorted(said))}')
    return said.pop() if said else "anything"


def source_version(function: Callable[..., Any]) -> str:
    """Return a short hash of a function's source text, or "1" where there is none to read."""
    try:
        return digest(inspect.getsource(function))
    except (OSError, TypeError):
        return "1"


def digest(text: str) -> str:
    """Return the first 12 hexadecimal digits of the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_score(value: Any) -> float:
    """Return one output of a reward as a float; what is no number, or too large for one, becomes a NaN that names it.

    >>> as_score(2), as_score(None).reason
    (2.0, 'the reward returned None, not a number')
    >>> as_score(Decimal("-1e400")).reason
    "the reward returned Decimal('-1E+400'), which float32 cannot hold"
    """
    if isinstance(value, float):
        return value
    if hasattr(value, "item"):  # a NumPy scalar, or an array or tensor of one element
        with suppress(ValueError, RuntimeError):
            value = value.item()
    if isinstance(value, numbers.Real | Decimal):
        try:
            score = float(value)
        except OverflowError:  # of an integer; other numbers become infinite
            score = math.inf
        if math.isinf(score) and score != value:
            text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else repr(value)
            return NotScored(f"the reward returned {text}, which float32 cannot hold")
        return score
    return NotScored(f"the reward returned {reprlib.repr(value)}, not a number")
