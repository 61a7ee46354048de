"""The columns of the panel: how each is called, written and explained, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from biotilt.digits import NOTHING, count, pretty

_ROW_TITLES = {
    "base": "Base", "best_of_n": "Best of N", "tuned": "Tuned", "harvest": "Harvest", "steered": "Steered",
}  # fmt: skip


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


def row_title(name: str) -> str:
    """Return the name of a row as people read it.

    >>> row_title("best_of_n"), row_title("alpha 0.1")
    ('Best of N', 'alpha 0.1')
    """
    return _ROW_TITLES.get(name, name)


def _scores(values: Mapping[str, float | None]) -> str:
    return f"{pretty(values['median'])} ({pretty(values['p5'])} to {pretty(values['p95'])})"


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
        pretty,
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
        pretty,
    ),
    Column(
        "closest",
        "Closest pair",
        "Positions at which the two most alike designs of the set differ; 0 for a repeat.",
        count,
    ),
    Column(
        "kmer3",
        "3-mer\u00a0r",
        "Correlation between the frequencies of three-letter words in the designs and in real high-scoring "
        "sequences; 1 is identical.",
        pretty,
    ),
    Column(
        "loglik_base",
        "log p, base",
        "Mean log-likelihood of the designs under the untuned generator, in nats: a lower bound on it (the "
        "denoising loss). Much lower than the base's own: unlikely sequences. Much higher: designs that all "
        "follow the generator's favourite patterns.",
        pretty,
    ),
    Column(
        "kl_policy_base",
        "KL to base",
        "KL divergence of the set's law from the base, in nats: how unusual the designs are for the untuned generator.",
        pretty,
    ),
    Column(
        "kl_base_policy",
        "KL from base",
        "KL divergence of the base from the set's law, in nats. It grows when kinds of natural designs are "
        "no longer made, which the other direction does not see.",
        pretty,
    ),
    Column(
        "calls",
        "Calls",
        "How many designs the oracle scored to obtain this set.",
        count,
    ),
    Column("seconds", "Time", "Time to obtain this set, tuning included.", duration),
)
