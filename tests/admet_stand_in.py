"""A stand-in for the packages admet-ai and chemprop: the names and call signatures that biotilt uses, and no networks.

A probability is (heavy atoms modulo 10) / 10, shifted by the endpoint's place and averaged over two "networks" that
differ by ± 0.05; any other endpoint is minus the number of nitrogens, likewise. So every score can be told by hand.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas
import pytest
import torch
from torch import nn

from biotilt.rewards.molecule import admet
from biotilt.rewards.molecule.endpoints import ENDPOINTS

PROBABILITIES = [endpoint.name for endpoint in ENDPOINTS if endpoint.is_probability]
OTHERS = [endpoint.name for endpoint in ENDPOINTS if not endpoint.is_probability]


@dataclass
class MoleculeDatapoint:
    mol: Any


class MoleculeDataset(list[MoleculeDatapoint]):
    pass


class Graphs:
    def __init__(self, molecules: list[Any]) -> None:
        self.molecules = molecules

    def to(self, device: torch.device) -> None:
        self.device = device


def collate_batch(points: list[MoleculeDatapoint]) -> SimpleNamespace:
    return SimpleNamespace(bmg=Graphs([point.mol for point in points]))


class Network(nn.Module):
    """Says `of` of each molecule for each of `tasks`, shifted by `shift`; wrong unless it was set to evaluate."""

    def __init__(self, tasks: list[str], shift: float, asked: list[int]) -> None:
        super().__init__()
        self.tasks, self.shift, self.asked = tasks, shift, asked

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        molecules = batch.bmg.molecules
        self.asked.append(len(molecules))
        rows = [[self.says(molecule, place) for place in range(len(self.tasks))] for molecule in molecules]
        return torch.tensor(rows, dtype=torch.float32) + self.shift + (100.0 if self.training else 0.0)

    def says(self, molecule: Any, place: int) -> float:
        if self.tasks is PROBABILITIES:
            return (molecule.GetNumHeavyAtoms() % 10) / 10 + place / 1000
        return -float(sum(atom.GetSymbol() == "N" for atom in molecule.GetAtoms()))


def install(patch: pytest.MonkeyPatch) -> list[int]:
    """Put the stand-in in the packages' place; return the numbers of molecules that the first network was asked."""
    asked: list[int] = []

    class ADMETModel:
        def __init__(
            self, include_physchem: bool = True, drugbank_path: Any = "there", num_workers: int | None = None
        ) -> None:
            assert not include_physchem and num_workers == 0
            self.task_lists = [PROBABILITIES, OTHERS]
            self.model_lists = [
                [Network(PROBABILITIES, 0.05, asked), Network(PROBABILITIES, -0.05, [])],
                [Network(OTHERS, 0.05, []), Network(OTHERS, -0.05, [])],
            ]
            drugs = {name: [3.0, -2.0, 0.0, 0.0] for name in (*PROBABILITIES, *OTHERS)}
            self.drugbank = None if drugbank_path is None else pandas.DataFrame(drugs)

    modules = {name: ModuleType(name) for name in ("admet_ai", "chemprop", "chemprop.data")}
    modules["admet_ai"].ADMETModel = ADMETModel
    for part in (MoleculeDatapoint, MoleculeDataset, collate_batch):
        setattr(modules["chemprop.data"], part.__name__, part)
    for name, module in modules.items():
        patch.setitem(sys.modules, name, module)
    admet._networks.cache_clear()
    patch.setattr(admet, "_versions", lambda: ("2.0.1", "stand-in"))
    return asked
