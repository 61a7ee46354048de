"""What the panel shows of redesigns: how likely they are on the backbone, and what else changed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, runtime_checkable

from biotilt.errors import ConfigError
from biotilt.evaluation.measure import Limit, Measure, Values
from biotilt.rewards.protein.exposure import BackboneSurface
from biotilt.rewards.protein.properties import Instability, IsoelectricPoint, NetCharge
from biotilt.rewards.protein.sequence import AvoidedMotifs, Identity, ResidueCount
from biotilt.rewards.registry import build

SAME = ("backbone", "chains", "fixed", "exclude", "symmetric", "tied")  # of the generator's options: which residues


@runtime_checkable
class OnBackbone(Protocol):
    """A reward of designs for a structure, which has letters of its own."""

    @property
    def native(self) -> str:
        """The structure's letters at the positions that are designed."""
        ...


def measures(config: Any) -> list[Measure]:
    """Return the measures that the task adds to the panel of an experiment; each is a mean over designs.

    Raises ConfigError when the generator is not ProteinMPNN, or the judge's weights are not installed.
    """
    if config.model.source != "proteinmpnn":
        raise ConfigError('the panel of redesign is for [model] source = "proteinmpnn"; name another panel')
    options = {key: value for key, value in config.model.options.items() if key in SAME}
    judge = build("backbone_likelihood", options)  # by name: models know tasks, so a task imports none
    assert isinstance(judge, OnBackbone)
    found = [
        _measure(
            "likelihood", "log p a residue, soluble",
            "Mean log-likelihood of a residue on the backbone, nats, under the soluble ProteinMPNN: what a redesign "
            f"should keep. The structure's own sequence: {judge([judge.native])[0]:.2f}.", judge,
            limit=Limit(fall=0.15),
        ),
        _measure(
            "native", "as in the structure", "Mean share of positions with the structure's own residue.",
            Identity(judge.native),
        ),
        _measure("cysteines", "cysteines", "Mean number of cysteines.", ResidueCount("C")),
        _measure("glycosylation", "N-sites", "Mean number of sites of N-glycosylation, N[^P][ST][^P].",
                 AvoidedMotifs(), sign=-1.0),
    ]  # fmt: skip
    if not (options.get("symmetric") or options.get("tied")):
        given = {key: options[key] for key in ("backbone", "chains", "exclude") if key in options}
        found.append(
            _measure(
                "greasy", "greasy surface", "Mean share of the backbone's surface given to F, I, L, M, V and W.",
                BackboneSurface(**given), sign=-1.0, limit=Limit(rise=0.1),
            )
        )  # fmt: skip
    with suppress(ConfigError):  # Biopython is not there
        found += [
            _measure("charge", "charge", "Mean net charge at pH 7.4.", NetCharge()),
            _measure("pi", "pI", "Mean isoelectric point.", IsoelectricPoint()),
            _measure("instability", "instability", "Mean instability index; below 40 counts as stable.", Instability(),
                     sign=-1.0, limit=Limit(rise=15.0)),
        ]  # fmt: skip
    return found


def _measure(
    key: str,
    header: str,
    meaning: str,
    reward: Callable[[list[str]], list[float]],
    sign: float = 1.0,
    limit: Limit | None = None,
) -> Measure:
    each = partial(_each, reward, sign)
    return Measure(key, header, meaning, _mean_of(each), each, limit)


def _each(reward: Callable[[list[str]], list[float]], sign: float, designs: list[str]) -> Values:
    return [None if math.isnan(score) else sign * score for score in reward(designs)]


def _mean_of(each: Callable[[list[str]], Values]) -> Callable[[list[str]], float | None]:
    def compute(designs: list[str]) -> float | None:
        values = [value for value in each(designs) if value is not None]
        return statistics.fmean(values) if values else None

    return compute
