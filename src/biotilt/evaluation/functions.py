"""Measures that are plain functions of yours, with what is said about them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, overload

from biotilt.errors import ConfigError
from biotilt.evaluation.measure import Limit, Measure, Written
from biotilt.options import shown


@overload
def measure(function: Callable[..., Any], /) -> Measure: ...
@overload
def measure(
    *,
    name: str = "",
    header: str = "",
    meaning: str = "",
    per_design: bool = False,
    written: Written = "number",
    natural: bool = False,
    at_least: float | None = None,
    at_most: float | None = None,
    fall: float | None = None,
    rise: float | None = None,
    kept: float | None = None,
    grown: float | None = None,
) -> Callable[[Callable[..., Any]], Measure]: ...
def measure(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    header: str = "",
    meaning: str = "",
    per_design: bool = False,
    written: Written = "number",
    natural: bool = False,
    **limits: float | None,
) -> Any:
    """Turn a function of a list of designs that returns a number into a measure: a line of the table of results.

    Use it as `@measure` or `@measure(header=..., at_most=...)`. `name` is its key in files, by default the function's
    own; `header` what the table calls it; `meaning` what the page says of it, by default the function's docstring.
    `per_design=True` is for functions of one design: the table has their mean, and every table of designs a column.
    None and NaN mean that there is no number. `written` is "number", "percent" (of a share), "count" or "duration".
    `natural`: it tells how natural designs are, so the verdict names it. Limits, whose breach is a warning: `at_least`,
    `at_most`, and against the base's value `fall`, `rise`, `kept` and `grown`: see `Limit`.

    Raises ConfigError for a function without a name, and for a limit that is unknown.

    >>> @measure(per_design=True, at_most=2)
    ... def adenines(design):
    ...     "Letters A in a design."
    ...     return design.count("A")
    >>> adenines(["AAC", "G"]), adenines.meaning, adenines.check.says
    (1.0, 'Letters A in a design.', 'adenines at most 2')
    """
    try:
        limit = Limit(**limits) if any(bound is not None for bound in limits.values()) else None
    except TypeError:
        raise ConfigError(f"measure: unknown option among {', '.join(limits)}") from None

    def wrap(function: Callable[..., Any]) -> Measure:
        key = name or getattr(function, "__name__", type(function).__name__)
        if key.startswith("<"):
            raise ConfigError('measures: a lambda has no name; give it one, biotilt.measure(name="…")(…)')
        said = (function.__doc__ or "").partition("\n\n")[0]
        return Measure(
            key, header or key.replace("_", " "), meaning or " ".join(said.split()),
            (lambda designs: _mean(function, designs)) if per_design else function,
            (lambda designs: [function(design) for design in designs]) if per_design else None,
            limit, natural, written,
        )  # fmt: skip

    return wrap if function is None else wrap(function)


def as_measure(given: Any, where: str = "measures", **said: Any) -> Measure:
    """Return a measure as it is, or a plain function made one with what is `said`; ConfigError for anything else."""
    if isinstance(given, Measure):
        return given
    if not callable(given) or isinstance(given, type):
        raise ConfigError(f"{where}: {shown(given)} is no measure and no function of a list of designs")
    return measure(**said)(given)


def _mean(function: Callable[[Any], Any], designs: list[Any]) -> float | None:
    """Return the mean over the designs that have a number."""
    values = [value for value in map(function, designs) if value is not None]
    known = [float(value) for value in values if value == value]  # NaN is not
    return statistics.fmean(known) if known else None
