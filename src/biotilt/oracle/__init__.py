"""Between algorithms and rewards: each design is scored once, counted, and kept through a kill."""

from biotilt.oracle.ledger import Ledger
from biotilt.oracle.oracle import Oracle
from biotilt.oracle.stats import finite_mean, infeasible_fraction, unscored_fraction
from biotilt.oracle.store import Row, Score, Store

__all__ = [
    "Ledger",
    "Oracle",
    "Row",
    "Score",
    "Store",
    "finite_mean",
    "infeasible_fraction",
    "unscored_fraction",
]
