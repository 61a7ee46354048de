"""Corruption laws, one a file, by name."""

from __future__ import annotations

from biotilt.processes.any_order import AnyOrder
from biotilt.processes.finite import Finite
from biotilt.processes.flow import Flow
from biotilt.processes.gaussian import Gaussian
from biotilt.processes.masked import Masked
from biotilt.processes.simplex import Simplex
from biotilt.processes.uniform import Uniform

PROCESSES: dict[str, type] = {p.name: p for p in (AnyOrder, Masked, Uniform, Finite, Gaussian, Flow, Simplex)}

__all__ = ["PROCESSES", "AnyOrder", "Finite", "Flow", "Gaussian", "Masked", "Simplex", "Uniform"]
