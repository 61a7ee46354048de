"""Ready-made experiments: starter files, recipes of their models, small checkpoints with model cards."""

from __future__ import annotations

from typing import Any

from biotilt.registry import Registry
from biotilt.tasks.base import Task
from biotilt.tasks.docking import Docking
from biotilt.tasks.enhancer import Enhancer
from biotilt.tasks.lead import Lead
from biotilt.tasks.molecule import Molecule
from biotilt.tasks.protein import Protein
from biotilt.tasks.redesign import Redesign
from biotilt.tasks.rna_fold import RNAFold
from biotilt.tasks.utr import UTR
from biotilt.tasks.utr_varying import VaryingUTR

TASKS: Registry[Task] = Registry(
    "tasks", "task", (Docking, Enhancer, Lead, Molecule, Protein, Redesign, RNAFold, UTR, VaryingUTR)
)


def find_task(name: str, key: str = "task") -> Task:
    """Return the task of this name; ConfigError, after the `key` that named it, with the nearest name if there is none.

    >>> find_task("utr").defaults()["alpha"]
    0.05
    """
    return TASKS.find(name, key)()


def has_reward_of_task(config: Any) -> bool:
    """Return whether an experiment optimises its task's own reward, of which the task knows what was measured."""
    if config.task is None:
        return False
    own = find_task(config.task).defaults()["reward"]
    return (config.reward.kind, config.reward.path) == (own["kind"], own.get("path"))


__all__ = ["TASKS", "Task", "find_task", "has_reward_of_task"]
