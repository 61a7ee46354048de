"""Algorithms that leave the weights alone, one a file."""

from biotilt.samplers.ancestral import ancestral
from biotilt.samplers.best_of_n import best_of_n

__all__ = ["ancestral", "best_of_n"]
