"""Corruption laws, one a file, by name."""

from __future__ import annotations

from biotilt.processes.any_order import AnyOrder
from biotilt.processes.finite import Finite
from biotilt.processes.masked import Masked

PROCESSES: dict[str, type] = {p.name: p for p in (AnyOrder, Masked, Finite)}

__all__ = ["PROCESSES", "AnyOrder", "Finite", "Masked"]
