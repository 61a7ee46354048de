"""What a score is called, in which unit, and which way is better: as people of the field read it."""

from __future__ import annotations

import re
from typing import Any

from biotilt.declared import Declaration


def quantity(reward: Any) -> dict[str, Any]:
    """Return name, units, label, `sign` and `better` of a reward, and whether it `guards`, as JSON.

    Scores are the higher the better everywhere in biotilt. `sign` × score is the number as the field writes it: −1 for
    a reward that negates what it measures, such as an energy of binding; `better` is then "lower". `label` is the words
    for an axis or a sentence, the unit included.

    >>> from biotilt.rewards.generic.functions import FunctionReward
    >>> from biotilt.rewards.generic.declare import declare
    >>> affinity = declare(FunctionReward(lambda d: [0.0], "binding_energy", units="kcal/mol"), direction="minimise")
    >>> quantity(affinity)["label"], quantity(affinity)["sign"], quantity(affinity)["better"]
    ('binding energy, kcal/mol', -1, 'lower')
    """
    said = Declaration.by(reward)
    units = said.units.removeprefix("−") if said.negated else said.units
    return {
        "name": reward.name,
        "units": units,
        "label": _label(said, units),
        "sign": -1 if said.negated else 1,
        "better": "lower" if said.negated else "higher",
        "guards": said.guards,
    }


def _label(said: Declaration, units: str) -> str:
    words = said.label or said.name.replace("_", " ")
    return f"{words}, {units}" if units and units not in words else words


def column_of(label: str) -> str:
    """Return a label as the name of a column.

    >>> column_of("docking score, kcal/mol")
    'docking_score_kcal_mol'
    """
    return re.sub(r"\W+", "_", label).strip("_").lower()
