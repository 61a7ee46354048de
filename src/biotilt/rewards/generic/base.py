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
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol, Self, cast, overload, runtime_checkable

import torch
from torch import Tensor

from biotilt.declared import Declaration
from biotilt.errors import ConfigError, RewardError
from biotilt.options import Count, End, check_option, check_options
from biotilt.spaces.told import condition_of

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


@dataclass(frozen=True)
class FunctionReward:
    """Make a reward of a plain Python function.

    `function` takes a list of designs and returns as many numbers in a list, tuple, NumPy array, tensor or
    pandas Series; with `batched=False` it takes one design and returns one number. `name` and `version` are
    the key of the cache: change the version when the same design would get another score. `units` is shown
    in reports. What is not a number (`None`, text) becomes a NaN that names it. A function with a second argument
    `conditions` (`condition` with `batched=False`) is also told the labels of the designs' conditions.

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
    reads: str = "anything"

    @property
    def conditional(self) -> bool:
        """Whether it reads the condition under which a design was drawn."""
        try:
            arguments = list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):  # of some functions written in C
            return False
        return arguments[1:2] == ["conditions" if self.batched else "condition"]

    def __call__(self, designs: list[Any]) -> list[float]:
        told = [[condition_of(design) for design in designs]] if self.conditional else []
        if not self.batched:
            return [as_score(self.function(*each)) for each in zip(designs, *told)]
        output = self.function(designs, *told)
        scores = output.tolist() if hasattr(output, "tolist") else output
        if not isinstance(scores, list | tuple):
            raise RewardError(
                f'reward "{self.name}" returned {type(output).__name__} for {len(designs)} designs: return a '
                "list with one number a design, or declare it with @reward(per_design=True)"
            )
        return [as_score(score) for score in scores]


@dataclass(frozen=True)
class TensorReward:
    """Make a differentiable reward of points or images of a function of tensors.

    `function` takes points `(B, D)` or images `(B, H, W, C)`, in the units of the designs, and returns `(B,)`, through
    which gradients flow. Other fields are those of `FunctionReward`; `reads` is "points" or "images".

    >>> import numpy as np
    >>> TensorReward(lambda x: -x.square().sum(-1), "centre", reads="points")([np.array([1.0, 2.0])])
    [-5.0]
    """

    function: Callable[[Tensor], Tensor]
    name: str
    version: str = "1"
    units: str = ""
    reads: str = "points"

    differentiable: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.reads not in ("points", "images"):
            raise ConfigError(
                f'reward "{self.name}": a differentiable function reads "points" or "images", not "{self.reads}"; of '
                "text, one learned by `biotilt fit-oracle` can be differentiated"
            )

    @torch.no_grad()
    def __call__(self, designs: list[Any]) -> list[float]:
        return self.score_one_hot(torch.stack([torch.as_tensor(design) for design in designs])).tolist()

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of designs, with gradients; RewardError for another shape."""
        scores = self.function(x)
        if not isinstance(scores, Tensor) or scores.shape != x.shape[:1]:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RewardError(f'reward "{self.name}" must return a tensor ({len(x)},), one score a design, not {got}')
        return scores


@dataclass(frozen=True)
class Declared(OfOne):
    """A reward with what its owner says about it: which way is good, what scores are possible, whether they repeat.

    * `direction="minimise"`: the scores of `part` are negated, so that higher is better here as everywhere; `units`
      "kcal/mol" are then shown as "−kcal/mol". −inf stays −inf, the mark of an infeasible design, and so becomes +inf.
    * `limits` = (low, high), the range in the part's own units and direction: a score outside is an error of the part
      and counts as not scored. Infinite ends are allowed.
    * `times` > 1: the oracle asks for every design so many times and averages the scores; attempts that failed enter no
      mean. `deterministic` (default: the part's own word, else whether `times` is 1) says whether a second call would
      give the same scores.

    `range` and `repeats` are what the oracle is told: the range of the scores given here, and how often it has to ask.
    `units` default to the part's. What changes a score is in the version. Other attributes are the part's.
    Raises ConfigError for a range that is empty, repeats below 1, or repeats of a deterministic reward.

    >>> energy = FunctionReward(lambda designs: [-1.5, 2.0, 99.0], "energy", units="kcal/mol")
    >>> stability = Declared(energy, direction="minimise", limits=(-50, 50))
    >>> scores = stability(["A", "C", "G"])
    >>> scores, scores[2].reason, stability.units
    ([1.5, -2.0, nan], 'the score 99 is outside the declared range [-50, 50]', '−kcal/mol')
    """

    part: NamedReward
    direction: Direction = "maximise"
    limits: tuple[End, End] | None = None
    deterministic: bool | None = None
    times: int = 1
    own_units: str | None = None

    def __post_init__(self) -> None:
        where = f'reward "{self.part.name}"'
        check_options(self, where)
        if self.limits is not None:
            low, high = (float(end) for end in self.limits)
            if not low < high:
                raise ConfigError(f"{where}: range = [{low:g}, {high:g}] must have its low end first")
            object.__setattr__(self, "limits", (low, high))
        check_option(Count, self.times, where, "repeats")
        if self.deterministic is None:
            said = Declaration.by(self.part).deterministic and self.times == 1
            object.__setattr__(self, "deterministic", said)
        elif self.deterministic and self.times > 1:
            raise ConfigError(f"{where}: repeats = {self.times} of a deterministic reward would all be the same")

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def version(self) -> str:
        """That of the part alone where nothing that is declared can change a score."""
        said = (self.direction, self.limits, self.times)
        return self.part.version if said == ("maximise", None, 1) else f"{self.part.version}-{digest(repr(said))}"

    @property
    def differentiable(self) -> bool:
        return self.part.differentiable

    @property
    def units(self) -> str:
        units = Declaration.by(self.part).units if self.own_units is None else self.own_units
        return f"−{units}" if units and self.direction == "minimise" else units

    @property
    def negated(self) -> bool:
        """Whether people of the field write minus this score."""
        return Declaration.by(self.part).negated != (self.direction == "minimise")

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest score of this reward, in its direction; None when not known."""
        known = self.limits or Declaration.by(self.part).range
        return (-known[1], -known[0]) if known is not None and self.direction == "minimise" else known

    @property
    def repeats(self) -> int:
        """How often the oracle asks for a design."""
        return self.times if self.times > 1 else Declaration.by(self.part).repeats

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "part":  # being copied or unpickled: there is no part yet
            raise AttributeError(name)
        return getattr(self.part, name)

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._read(score) for score in self.part(designs)]

    def _read(self, score: float) -> float:
        if math.isnan(score) or score == -math.inf:
            return score
        if self.limits is not None and not self.limits[0] <= score <= self.limits[1]:
            low, high = self.limits
            return NotScored(f"the score {score:g} is outside the declared range [{low:g}, {high:g}]")
        return 0.0 - score if self.direction == "minimise" else score

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of relaxed designs `(B, L, V)`, with gradients; NaN outside the range."""
        score = cast(DifferentiableReward, self.part).score_one_hot(x)
        if self.limits is not None:
            score = torch.where((score < self.limits[0]) | (score > self.limits[1]), torch.nan, score)
        return -score if self.direction == "minimise" else score


def declare(
    reward: NamedReward,
    *,
    direction: Direction = "maximise",
    range: Sequence[float] | None = None,
    deterministic: bool | None = None,
    repeats: int = 1,
    units: str | None = None,
) -> NamedReward:
    """Return the reward with what is declared about it; itself where nothing is.

    `direction` "maximise" or "minimise"; `range` = (low, high) of possible scores, in the reward's own units and
    direction; `repeats` ≥ 1 times that a noisy reward is asked, for the mean; `deterministic`; `units`: see `Declared`.

    >>> reward = FunctionReward(lambda designs: [1.0], "r")
    >>> declare(reward) is reward, declare(reward, direction="minimise")(["A"])
    (True, [-1.0])
    """
    if range is not None and len(range) != 2:
        raise ConfigError(f'reward "{reward.name}": range = {list(range)} must be two numbers, [low, high]')
    ends = None if range is None else (range[0], range[1])
    if (direction, ends, deterministic, repeats, units) == ("maximise", None, None, 1, None):
        return reward
    return Declared(reward, direction, ends, deterministic, repeats, units)


@overload
def reward(function: Callable[..., Any], /) -> FunctionReward: ...
@overload
def reward(
    *,
    name: str = "",
    version: str = "",
    units: str = "",
    per_design: bool = False,
    direction: Direction = "maximise",
    range: Sequence[float] | None = None,
    deterministic: bool | None = None,
    repeats: int = 1,
    reads: str = "anything",
    differentiable: bool = False,
) -> Callable[[Callable[..., Any]], Any]: ...
def reward(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    version: str = "",
    units: str = "",
    per_design: bool = False,
    direction: Direction = "maximise",
    range: Sequence[float] | None = None,
    deterministic: bool | None = None,
    repeats: int = 1,
    reads: str = "anything",
    differentiable: bool = False,
) -> Any:
    """Turn a function of designs into a reward; use it as `@reward` or `@reward(name=..., version=...)`.

    `name` defaults to the function's own. `version` defaults to a hash of its source text, so that cached
    scores are dropped when the code changes ("1" where no source can be read). The hash cannot see the
    helpers, files and global values that the function uses: give a version of your own when these may change.
    `per_design=True` is for functions of one design that return one number. `direction`, `range`, `deterministic`
    and `repeats` declare more about it, in the function's own `units`: see `declare`. `reads` says what designs it is
    for: "text", "points" or "images". `differentiable=True` is for functions of tensors of points or images: see
    `TensorReward`.

    >>> @reward(version="2", per_design=True)
    ... def adenines(design):
    ...     return design.count("A")
    >>> adenines(["AAC", "G"]), adenines.name, adenines.version
    ([2.0, 0.0], 'adenines', '2')
    """

    def wrap(function: Callable[..., Any]) -> NamedReward:
        known = name or getattr(function, "__name__", type(function).__name__), version or source_version(function)
        plain: NamedReward = FunctionReward(function, *known, batched=not per_design, units=units, reads=reads)
        if differentiable:
            plain = TensorReward(function, *known, units=units, reads=reads)
        return declare(plain, direction=direction, range=range, deterministic=deterministic, repeats=repeats)

    return wrap if function is None else wrap(function)


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
