"""Rewards made of Python functions: of designs, or of tensors through which gradients flow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor

from biotilt.errors import ConfigError, RewardError
from biotilt.rewards.generic.base import Direction, NamedReward, as_score, source_version
from biotilt.rewards.generic.declare import declare
from biotilt.spaces.told import condition_of


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
