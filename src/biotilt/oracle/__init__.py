"""Between algorithms and rewards: each design is scored once, counted, and kept through a kill.

The public names are loaded when first used, since a worker process needs few of them and none that imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "BACKENDS": "workers.backend",
    "Place": "workers.backend",
    "Backend": "workers.backend",
    "Inline": "workers.inline",
    "Ledger": "ledger",
    "Limits": "workers.limits",
    "Oracle": "oracle",
    "Row": "store",
    "Score": "store",
    "Shared": "answers",
    "Store": "store",
    "build_backend": "workers.backend",
    "place": "workers.backend",
    "finite_mean": "stats",
    "infeasible_fraction": "stats",
    "unscored_fraction": "stats",
}

if TYPE_CHECKING:
    from biotilt.oracle.answers import Shared
    from biotilt.oracle.ledger import Ledger
    from biotilt.oracle.oracle import Oracle
    from biotilt.oracle.stats import finite_mean, infeasible_fraction, unscored_fraction
    from biotilt.oracle.store import Row, Score, Store
    from biotilt.oracle.workers.backend import BACKENDS, Backend, Place, build_backend, place
    from biotilt.oracle.workers.inline import Inline
    from biotilt.oracle.workers.limits import Limits

__all__ = [
    "BACKENDS",
    "Backend",
    "Inline",
    "Ledger",
    "Limits",
    "Oracle",
    "Place",
    "Row",
    "Score",
    "Shared",
    "Store",
    "build_backend",
    "finite_mean",
    "infeasible_fraction",
    "place",
    "unscored_fraction",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'biotilt.oracle' has no attribute {name!r}")
    return getattr(importlib.import_module(f"biotilt.oracle.{_PUBLIC[name]}"), name)
