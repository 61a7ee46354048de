"""Corruption laws, one a file, by name."""

from __future__ import annotations

from biotilt.core import Process
from biotilt.processes.any_order import AnyOrder
from biotilt.processes.confidence import Confidence
from biotilt.processes.ddpm import DDPM
from biotilt.processes.finite import Finite
from biotilt.processes.flow import Flow
from biotilt.processes.flow_euler import FlowEuler
from biotilt.processes.gaussian import Gaussian
from biotilt.processes.graph import Graph
from biotilt.processes.insertion import Insertion
from biotilt.processes.masked import Masked
from biotilt.processes.random_walk import RandomWalk
from biotilt.processes.remasking import Remasking
from biotilt.processes.simplex import Simplex
from biotilt.processes.uniform import Uniform
from biotilt.registry import Registry

PROCESSES: Registry[Process] = Registry(
    "processes",
    "process",
    (
        AnyOrder,
        Masked,
        Confidence,
        Remasking,
        Insertion,
        Uniform,
        Finite,
        Gaussian,
        Flow,
        DDPM,
        FlowEuler,
        Graph,
        RandomWalk,
        Simplex,
    ),
    own_files=True,
)

__all__ = [
    "DDPM",
    "PROCESSES",
    "AnyOrder",
    "Confidence",
    "Finite",
    "Flow",
    "FlowEuler",
    "Gaussian",
    "Graph",
    "Insertion",
    "Masked",
    "RandomWalk",
    "Remasking",
    "Simplex",
    "Uniform",
]
