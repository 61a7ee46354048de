"""What rewards share: a name and a version for the cache, and scores that say why they are NaN."""

from __future__ import annotations

import hashlib
import inspect
import numbers
import reprlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, overload

from torch import Tensor

from biotilt.errors import RewardError


class NamedReward(Protocol):
    """A named function of designs, higher is better: NaN = could not be scored, -inf = infeasible."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def differentiable(self) -> bool: ...

    def __call__(self, designs: list[str]) -> list[float]: ...


class DifferentiableReward(NamedReward, Protocol):
    """A reward that also scores relaxed designs `(B, L, V)`, with gradients: `differentiable` is true."""

    def score_one_hot(self, x: Tensor, /) -> Tensor: ...


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


@dataclass(frozen=True)
class FunctionReward:
    """Make a reward of a plain Python function.

    `function` takes a list of designs and returns as many numbers in a list, tuple, NumPy array, tensor or
    pandas Series; with `batched=False` it takes one design and returns one number. `name` and `version` are
    the key of the cache: change the version when the same design would get another score. `units` is shown
    in reports. What is not a number (`None`, text) becomes a NaN that names it.

    Raises `RewardError` when the output is no list at all.

    >>> FunctionReward(lambda designs: [len(d) for d in designs], "length")(["A", "ACG"])
    [1.0, 3.0]
    """

    function: Callable[..., Any]
    name: str
    version: str = "1"
    batched: bool = True
    differentiable: bool = False
    units: str = ""

    def __call__(self, designs: list[str]) -> list[float]:
        if not self.batched:
            return [as_score(self.function(design)) for design in designs]
        output = self.function(designs)
        scores = output.tolist() if hasattr(output, "tolist") else output
        if not isinstance(scores, list | tuple):
            raise RewardError(
                f'reward "{self.name}" returned {type(output).__name__} for {len(designs)} designs: return a '
                "list with one number a design, or declare it with @reward(per_design=True)"
            )
        return [as_score(score) for score in scores]


@overload
def reward(function: Callable[..., Any], /) -> FunctionReward: ...
@overload
def reward(
    *, name: str = "", version: str = "", units: str = "", per_design: bool = False
) -> Callable[[Callable[..., Any]], FunctionReward]: ...
def reward(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    version: str = "",
    units: str = "",
    per_design: bool = False,
) -> Any:
    """Turn a function of designs into a reward; use it as `@reward` or `@reward(name=..., version=...)`.

    `name` defaults to the function's own. `version` defaults to a hash of its source text, so that cached
    scores are dropped when the code changes ("1" where no source can be read). The hash cannot see the
    helpers, files and global values that the function uses: give a version of your own when these may change.
    `per_design=True` is for functions of one design that return one number.

    >>> @reward(version="2", per_design=True)
    ... def adenines(design):
    ...     return design.count("A")
    >>> adenines(["AAC", "G"]), adenines.name, adenines.version
    ([2.0, 0.0], 'adenines', '2')
    """

    def wrap(function: Callable[..., Any]) -> FunctionReward:
        return FunctionReward(
            function,
            name or getattr(function, "__name__", type(function).__name__),
            version or source_version(function),
            batched=not per_design,
            units=units,
        )

    return wrap if function is None else wrap(function)


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
    """Return one output of a reward as a float; what is not a number becomes a NaN that names it.

    >>> as_score(2), as_score(None).reason
    (2.0, 'the reward returned None, not a number')
    """
    if isinstance(value, float):
        return value
    if hasattr(value, "item"):  # a NumPy scalar, or an array or tensor of one element
        with suppress(ValueError, RuntimeError):
            value = value.item()
    if isinstance(value, numbers.Real | Decimal):
        return float(value)
    return NotScored(f"the reward returned {reprlib.repr(value)}, not a number")
