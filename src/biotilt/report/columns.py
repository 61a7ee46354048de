"""The columns of the panel: how each is called, written and explained, for the page and the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

NOTHING = "–"
_ROW_TITLES = {"base": "Base", "best_of_n": "Best of N", "tuned": "Tuned"}


@dataclass(frozen=True)
class Column:
    """One number of a panel row: its key, a short header, what it means, and how it is written."""

    key: str
    header: str
    meaning: str
    write: Callable[[Any], str]

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the number of `row` as text, a dash where there is none."""
        value = row.get(self.key)
        return NOTHING if value is None else self.write(value)


def number(value: float | None, decimals: int = 2) -> str:
    """Return a number with a true minus sign and thousands separators, or a dash for None and NaN.

    >>> number(-1234.5, 1), number(None)
    ('−1,234.5', '–')
    """
    return NOTHING if value is None or math.isnan(value) else f"{value:,.{decimals}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them.

    >>> duration(7.25), duration(200), duration(7800)
    ('7.2 s', '3 min 20 s', '2 h 10 min')
    """
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def percent(part: float | None) -> str:
    """Return a fraction as a percentage that reads 0 or 100 only when it is exactly that.

    >>> percent(0.0), percent(0.0001), percent(0.9999), percent(0.25)
    ('0%', '<0.1%', '>99.9%', '25.0%')
    """
    if part is None:
        return NOTHING
    if part in (0, 1):
        return f"{part:.0%}"
    return "<0.1%" if part < 0.001 else ">99.9%" if part > 0.999 else f"{part:.1%}"


def measured(value: float | None) -> str:
    """Return a number of any size with three significant digits, or a dash.

    >>> measured(-0.01234), measured(1234.5), measured(None)
    ('−0.0123', '1234', '–')
    """
    if value is None or math.isnan(value):
        return NOTHING
    return (f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", "−")


def row_title(name: str) -> str:
    """Return the name of a row as people read it.

    >>> row_title("best_of_n"), row_title("alpha 0.1")
    ('Best of N', 'alpha 0.1')
    """
    return _ROW_TITLES.get(name, name)


def _scores(values: Mapping[str, float | None]) -> str:
    return f"{number(values['median'])} ({number(values['p5'])} to {number(values['p95'])})"


COLUMNS = (
    Column(
        "optimised",
        "Optimised",
        "Score by the oracle that tuning optimised: median, and the range that holds the middle 90% of the "
        "designs. A rise here alone proves nothing.",
        _scores,
    ),
    Column(
        "held_out",
        "Held-out",
        "Score by an oracle that shares no training data with the optimised one and that tuning never saw: "
        "median and middle 90%. This is the column to compare.",
        _scores,
    ),
    Column(
        "gap",
        "Gap",
        "Optimised median minus held-out median. If it grows much beyond the base's, part of the gain exists "
        "only in the eyes of the optimised oracle.",
        number,
    ),
    Column(
        "beyond_measured",
        "Beyond measured",
        "Share of designs that either oracle predicts above the largest value ever measured. No data "
        "supports a prediction there.",
        percent,
    ),
    Column("unique", "Unique", "Share of different designs in the set; repeats lower it.", percent),
    Column(
        "distance",
        "Distance",
        "Mean number of positions at which two designs of the set differ. A fall means less diverse designs.",
        lambda value: number(value, 1),
    ),
    Column(
        "kmer3",
        "3-mer\u00a0r",
        "Correlation between the frequencies of three-letter words in the designs and in real high-scoring "
        "sequences; 1 is identical.",
        number,
    ),
    Column(
        "loglik_base",
        "log p, base",
        "Mean log-likelihood of the designs under the untuned generator, in nats: a lower bound on it (the "
        "denoising loss). Much lower than the base's own: unlikely sequences. Much higher: designs that all "
        "follow the generator's favourite patterns.",
        lambda value: number(value, 1),
    ),
    Column(
        "kl_policy_base",
        "KL to base",
        "KL divergence of the set's law from the base, in nats: how unusual the designs are for the untuned generator.",
        number,
    ),
    Column(
        "kl_base_policy",
        "KL from base",
        "KL divergence of the base from the set's law, in nats. It grows when kinds of natural designs are "
        "no longer made, which the other direction does not see.",
        number,
    ),
    Column(
        "calls",
        "Calls",
        "How many designs the oracle scored to obtain this set.",
        lambda value: number(value, 0),
    ),
    Column("seconds", "Time", "Time to obtain this set, tuning included.", duration),
)
