"""A property that should lie in a range: options `low` and `high`, and the distance to them."""

from __future__ import annotations

import math
from typing import Any

from biotilt.errors import ConfigError


def check_range(reward: Any) -> None:
    """Raise ConfigError when the range of the options `low` and `high` is empty; None is no bound."""
    if reward.low is not None and reward.high is not None and reward.low > reward.high:
        raise ConfigError(f'reward "{reward.name}": low = {reward.low} is above high = {reward.high}')


def within(value: float, low: float | None, high: float | None) -> float | None:
    """Return minus the distance of a value to the range [low, high], 0 inside; None when there is no bound.

    >>> within(5.0, 1.0, 3.0), within(2.0, 1.0, None), within(2.0, None, None)
    (-2.0, 0.0, None)
    """
    if low is None and high is None:
        return None
    below = -math.inf if low is None else low - value
    above = -math.inf if high is None else value - high
    return 0.0 - max(0.0, below, above)


def label_of(reward: Any) -> str:
    """Return what the score of a reward with a range is; "" where it has none, and is the property itself."""
    low, high = reward.low, reward.high
    if low is None and high is None:
        return ""
    span = f"at most {high:g}" if low is None else f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
    sign = "" if getattr(reward, "negated", False) else "minus the "
    return f"{sign}distance of {reward.name.replace('_', ' ')} from {span}"
