"""One oracle for several processes of a run: the first one asks and counts, and tells the others the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from biotilt.core.team import from_first
from biotilt.oracle.oracle import Oracle


class SharedOracle(Oracle):
    """An oracle with one ledger and one budget, those of the first process; errors there are errors everywhere."""

    def score(self, designs: Sequence[Any], meanwhile: Callable[[], None] | None = None) -> Tensor:
        def asked() -> dict[str, Any]:
            scores = super(SharedOracle, self).score(designs)
            return {"scores": scores.tolist(), "calls": self._calls}

        found = from_first(asked)
        self._calls = found["calls"]
        return torch.tensor(found["scores"], dtype=torch.float64)

    @property
    def nothing_scored(self) -> str:
        return from_first(lambda: super(SharedOracle, self).nothing_scored)

    def load_state_dict(self, state: Mapping[str, int], *, behind: bool = False) -> None:
        def loaded() -> int:
            super(SharedOracle, self).load_state_dict(state, behind=behind)
            return self._calls

        self._calls = from_first(loaded)
