"""What `models.py` measures of GDSS: files of random weights, and their networks by the equations of the tests."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from biotilt import Model
from biotilt.core import needed
from biotilt.models.convert import convert
from biotilt.processes import Graph


def equations() -> ModuleType:
    """Return the module of the tests that has them."""
    if (folder := str(Path(__file__).parents[1] / "tests/models")) not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("gdss_scores")


def of_qm9() -> dict[str, Any]:
    return equations().content(equations().QM9)


def of_zinc() -> dict[str, Any]:
    return equations().content(equations().ZINC, data="ZINC250k")


def prepare(folder: Path, held: Callable[[], dict[str, Any]]) -> None:
    torch.save(held(), folder / "gdss.pth")
    convert("gdss", folder / "gdss.pth", folder / "gdss.safetensors")


def original(folder: Path, model: Model, held: Callable[[], dict[str, Any]]) -> Callable[[Tensor], Tensor]:
    """Return the function of states `(B, D)` that gives the scores `(B, D)`."""
    layout, found = needed(model.policy.process, Graph).layout, held()

    def asked(x: Tensor) -> Tensor:
        nodes, adjacency, _ = layout.parts(x)
        rows = [equations().scores(found, *row) for row in zip(nodes, adjacency, x[:, -1].tolist())]
        return layout.join(torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows]), x[:, -1])

    return asked


def said(model: Model) -> tuple[Tensor, Tensor, Tensor]:
    """Return states, which of their coordinates are there, and what the networks say of them."""
    process = needed(model.policy.process, Graph)
    x = process.noise(3, torch.Generator().manual_seed(0))
    return x, process.layout.free(process.layout.counts(x)), model.policy.net(*process.inputs(x, 0))


WHAT = 'source = "gdss"\noptions = { weights = "gdss.safetensors" }'
FEW = {"num_steps": 4, "snr": 0.0}
FAMILIES = [
    (name, "random", WHAT, FEW, "qed", partial(prepare, held=held), "equations", partial(original, held=held))
    for name, held in (("gdss (QM9)", of_qm9), ("gdss (ZINC250k)", of_zinc))
]
