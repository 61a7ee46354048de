"""What a network can be told besides states and time, and which of it a model tells its network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from biotilt.errors import ConfigError, suggest
from biotilt.options import NotNegative, Positive, check_option, shown

Given = str | float
"""A condition by its label, or as a number."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """`values`: what the network is given for each label, tensors of one shape; None where it takes any number.

    `unconditional`: what it is given for no condition, of the same shape; None where it always needs one.
    """

    values: Mapping[str, Tensor] | None
    unconditional: Tensor | None = None

    @classmethod
    def of(cls, given: Sequence[str] | Mapping[str, Any] | Literal["numbers"], unconditional: Any = None) -> Conditions:
        """Return the conditions of labels (told by their place in the list), of a table, or any numbers.

        Raises ConfigError when a label appears twice, or what belongs to one is no tensor, or of another shape.
        """
        values: dict[str, Tensor] | None = None
        if isinstance(given, Mapping):
            values = {_label(name): _tensor(value, f'of "{name}"') for name, value in given.items()}
        elif given != "numbers":
            if isinstance(given, str) or len(set(given)) < len(given) or not given:
                raise ConfigError(f'conditions: give different labels, a table, or "numbers", not {shown(given)}')
            values = {_label(name): torch.tensor(place) for place, name in enumerate(given)}
        nothing = None if unconditional is None else _tensor(unconditional, "unconditional")
        example = torch.tensor(0.0) if values is None else next(iter(values.values()), None)
        for name, value in {**(values or {}), "unconditional": nothing}.items():
            if value is not None and example is not None and value.shape != example.shape:
                raise ConfigError(
                    f'conditions: "{name}" has the shape {tuple(value.shape)}, not {tuple(example.shape)}'
                )
        if nothing is not None and example is not None:
            nothing = nothing.to(example.dtype)
        return cls(values, nothing)

    @property
    def labels(self) -> list[str]:
        """What the network knows by name."""
        return list(self.values or {})

    def table(self, given: Sequence[Given]) -> Tensor:
        """Return what the network is told for each condition, `(n, ...)`; ConfigError for one that it does not know."""
        return torch.stack([self._value(one) for one in given])

    def _value(self, given: Given) -> Tensor:
        if self.values is None:
            try:
                number = float(given)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise ConfigError(f'the network is told numbers, and "{label(given)}" is none')
            return torch.tensor(number)
        if label(given) not in self.values:
            known = suggest(label(given), self.labels)
            raise ConfigError(f'the network knows no condition "{label(given)}"{known}')
        return self.values[label(given)]


@dataclass(frozen=True)
class Told:
    """The conditions that a model tells its network, each with its share of the chains, and the guidance."""

    given: tuple[Given, ...]
    weights: tuple[float, ...] = field(default=())
    guidance: float = 0.0

    @classmethod
    def of(cls, condition: Given | Sequence[Given] | Mapping[str, float], guidance: float = 0.0) -> Told:
        """Return one condition, several in equal shares, or a table with their shares; ConfigError says what is wrong.

        >>> Told.of({"liver": 3, "k562": 1}).weights
        (0.75, 0.25)
        """
        if isinstance(condition, Mapping):
            given, weights = tuple(condition), [float(weight) for weight in condition.values()]
        else:
            given = (condition,) if isinstance(condition, str | int | float) else tuple(condition)
            weights = [1.0] * len(given)
        if not given:
            raise ConfigError("name at least one condition")
        if len({label(one) for one in given}) < len(given):
            raise ConfigError(f"a condition is named twice: {shown(list(given))}; a table gives their shares")
        for one, weight in zip(given, weights):
            check_option(Positive, weight, "the shares of conditions", label(one))
        check_option(NotNegative, guidance, "", "guidance")
        total = math.fsum(weights)
        shares = weights if abs(total - 1) < 1e-9 else [weight / total for weight in weights]
        return cls(given, tuple(shares), guidance)

    @property
    def labels(self) -> tuple[str, ...]:
        """The conditions as text."""
        return tuple(label(one) for one in self.given)

    @property
    def table(self) -> str | dict[str, float]:
        """The one condition, or several with their shares, as a configuration says it."""
        return self.labels[0] if len(self.given) == 1 else dict(zip(self.labels, self.weights))


def label(given: Given) -> str:
    """Return a condition as text: numbers as people write them.

    >>> label("liver"), label(3), label(0.5)
    ('liver', '3', '0.5')
    """
    return given if isinstance(given, str) else f"{given:.12g}"


def _label(name: object) -> str:
    if not isinstance(name, str | int | float) or any(sign in str(name) for sign in "\t\n\r"):
        raise ConfigError(f"conditions: a label is text in one line, not {shown(name)}")
    return label(name)


def _tensor(value: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"conditions: what is given {what} is no tensor: {error}") from error
