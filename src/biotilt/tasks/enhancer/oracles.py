"""The shipped oracles of `enhancer`: activity in HepG2 and WTC11, learned from few elements by starting from motifs.

A network that starts from random filters learns little from 3,300 elements (Pearson below 0.3 in trials). So the first
filters start as JASPAR matrices, and each network first learns both cell types together, then one of them.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.errors import needs_extra
from biotilt.files import write_json
from biotilt.fitting import Split, correlations
from biotilt.rewards.dna.motifs import RELEASE, log_odds
from biotilt.rewards.generic.learned import LearnedReward, Regressor, RegressorConfig
from biotilt.spaces import DNA
from biotilt.tasks.enhancer.corpus import HEPG2, WTC11, Elements
from biotilt.training import FitConfig, fit_regressor

LENGTH, WIDTH = 200, 15
MEMBERS, TOGETHER, APART = 2, 6, 6  # networks in an ensemble; epochs on both cell types, then on one
FAMILY = 4  # matrices of one family of factors that become filters
Data = tuple[Tensor, Tensor]

UNITS = "log2 RNA/DNA"
ORACLES: dict[str, dict[str, Any]] = {
    "optimised": {"layers": 0, "pool": LENGTH, "dropout": 0.3},
    "held_out": {"layers": 1, "channels": 64, "kernel": 5, "pool": 20, "dropout": 0.4},
}
FILES = {
    HEPG2: "{part}.safetensors",
    WTC11: "wtc11_{part}.safetensors",
}


def motif_filters(part: str) -> tuple[Tensor, Tensor]:
    """Return filters `(F, 4, 15)` and biases `(F,)` that pass words near a motif: up to four matrices of each family.

    The optimised oracle starts from the first of each family by id, the held-out one from the last.
    """
    pyjaspar = needs_extra("pyjaspar", "dna")
    families = defaultdict(list)
    found = pyjaspar.jaspardb(release=RELEASE).fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    for motif in sorted(found, key=lambda motif: motif.matrix_id):
        if motif.length <= WIDTH:
            families[str(motif.tf_family)].append(motif)
    of_family = slice(FAMILY) if part == "optimised" else slice(-FAMILY, None)
    motifs = [motif for _, family in sorted(families.items()) for motif in family[of_family]]
    weight, bias = torch.zeros(len(motifs), 4, WIDTH), torch.zeros(len(motifs))
    for row, motif in enumerate(motifs):
        odds = log_odds(torch.tensor([motif.counts[letter] for letter in "ACGT"]).T).float()
        start = (WIDTH - len(odds)) // 2
        weight[row, :, start : start + len(odds)] = odds.T
        bias[row] = -0.6 * odds.amax(1).sum()  # words that reach 60 % of the best score pass
    return weight / 4, bias / 4


def make_oracles(
    part: str, own: dict[str, Elements], tests: dict[str, Elements], out: Path, device: str = "cpu"
) -> None:
    """Fit the oracles of one part for both cell types on a device; test each on elements that neither part saw."""
    seed = list(ORACLES).index(part) + 1
    weight, bias = motif_filters(part)
    config = RegressorConfig(
        letters=4, length=LENGTH, hidden=32, motifs=len(bias), motif_width=WIDTH, both_strands=True, **ORACLES[part]
    )
    data = {cell: _halves(own[cell], seed) for cell in own}
    members: dict[str, list[Regressor]] = {cell: [] for cell in own}
    for member in range(MEMBERS):
        for cell, model in fit_member(config, (weight, bias), data, seed * 100 + member, device).items():
            members[cell].append(model)
            print(f"{part} {cell} member {member} done", flush=True)
    for cell, models in members.items():
        name = FILES[cell].format(part=part)
        reward = LearnedReward(models, DNA, f"enhancer_{cell.lower()}_{part}", "unsaved", UNITS)
        metrics = {"train_regions": len(data[cell][0][1]), "unseen_regions": len(tests[cell])}
        predicted = torch.tensor(reward([element.sequence for element in tests[cell]]))
        measured = torch.tensor([element.activity for element in tests[cell]])
        metrics |= {f"unseen_{key}": value for key, value in correlations(predicted, measured).items()}
        reward.save(out / name)
        highest = max(element.activity for element in own[cell])
        card = {"metrics": metrics, "measured_max": highest, "architecture": asdict(config)}
        write_json((out / name).with_suffix(".json"), card)


def fit_member(
    config: RegressorConfig, filters: Data, data: dict[str, tuple[Data, Data]], seed: int, device: str = "cpu"
) -> dict[str, Regressor]:
    """Return one network for each cell type: fitted to both together, on one scale, and then to its own."""
    torch.manual_seed(seed)  # initial weights and dropout
    generator = torch.Generator(device).manual_seed(seed)
    shared = Regressor(config)
    assert shared.motifs is not None and shared.motifs.bias is not None
    with torch.no_grad():
        shared.motifs.weight.copy_(filters[0])
        shared.motifs.bias.copy_(filters[1])
    standard = {cell: tuple(_standardised(half, train) for half in (train, val)) for cell, (train, val) in data.items()}
    both = [_joined(halves) for halves in zip(*standard.values())]
    fit_regressor(shared, both[0], both[1], FitConfig(epochs=TOGETHER, bfloat16=True), generator)
    models = {}
    for cell, (train, validation) in data.items():
        models[cell] = copy.deepcopy(shared)
        fit_regressor(models[cell], train, validation, FitConfig(epochs=APART, lr=7e-4, bfloat16=True), generator)
    return models


def _joined(parts: tuple[Data, ...]) -> Data:
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def _halves(elements: Elements, seed: int) -> tuple[Data, Data]:
    """Return training and validation data: one-hots `(N, L, 4)` and activities `(N,)`."""
    x = F.one_hot(DNA.encode_many([element.sequence for element in elements]).long(), 4).float()
    y = torch.tensor([element.activity for element in elements])
    train, validation, test = Split(0.1, 0.0).rows(len(y), seed)
    train = torch.cat([train, test])  # the test is elsewhere, and larger
    return (x[train], y[train]), (x[validation], y[validation])


def _standardised(data: Data, train: Data) -> Data:
    return data[0], (data[1] - train[1].mean()) / train[1].std()
