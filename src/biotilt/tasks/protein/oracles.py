"""Fitting and testing the two predictors of secondary structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.rewards.protein.secondary import CLASSES, SecondaryConfig, SecondaryNet, SecondaryPredictor, encode_letters
from biotilt.tasks.protein.corpus import Labelled

_NONE = -100  # the label of a place without a residue, which F.cross_entropy leaves out
VALIDATION = 0.08
MEMBERS = 2

ORACLES: dict[str, dict[str, Any]] = {
    "optimised": {"seed": 1, "config": SecondaryConfig(channels=64, kernel=9, dilations=(1, 1, 1))},
    "held_out": {"seed": 2, "config": SecondaryConfig(channels=48, kernel=5, dilations=(1, 2, 4, 8, 1))},
}


def as_tensors(rows: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
    """Return one-hots `(B, L, 20)` and classes `(B, L)` of labelled sequences, filled up behind their ends."""
    letters = encode_letters([row.sequence for row in rows])
    classes = torch.full(letters.shape[:2], _NONE)
    for i, row in enumerate(rows):
        classes[i, : len(row.classes)] = torch.tensor([CLASSES.index(c) for c in row.classes])
    return letters, classes


def fit_member(
    config: SecondaryConfig,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    seed: int,
    epochs: int,
    batch: int = 32,
    lr: float = 3e-3,
    device: str = "cpu",
    report: Callable[[int, float], None] = lambda epoch, accuracy: None,
) -> SecondaryNet:
    """Return a network fitted by cross-entropy, with the weights of the epoch that is best on validation.

    It learns on the device, and comes back.
    """
    torch.manual_seed(seed)  # initial weights and dropout
    generator = torch.Generator(device).manual_seed(seed)
    net = SecondaryNet(config).to(device)
    train, validation = ((letters.to(device), classes.to(device)) for letters, classes in (train, validation))
    optimiser = torch.optim.AdamW(net.parameters(), lr, weight_decay=0.02)
    total = epochs * -(-len(train[0]) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=total, pct_start=0.15)
    best, weights = float("inf"), net.state_dict()
    for epoch in range(epochs):
        net.train()
        for rows in torch.randperm(len(train[0]), generator=generator, device=device).split(batch):
            with torch.autocast(generator.device.type, torch.bfloat16):
                logits = net(train[0][rows])
            loss = F.cross_entropy(logits.float().flatten(0, 1), train[1][rows].flatten(), ignore_index=_NONE)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            logits = net(validation[0])
        error = F.cross_entropy(logits.flatten(0, 1), validation[1].flatten(), ignore_index=_NONE).item()
        report(epoch, error)
        if error < best:
            best, weights = error, {key: value.clone() for key, value in net.state_dict().items()}
    net.load_state_dict(weights)
    return net.cpu()


def fit_predictor(name: str, rows: Sequence[Labelled], *, epochs: int, device: str = "cpu") -> SecondaryPredictor:
    """Return the ensemble called `name`, fitted to its own rows."""
    options = ORACLES[name]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(options["seed"])).tolist()
    cut = int(len(rows) * VALIDATION)
    validation, train = (as_tensors([rows[i] for i in part]) for part in (order[:cut], order[cut:]))
    members = [
        fit_member(
            options["config"], train, validation, seed=1000 * options["seed"] + member, epochs=epochs, device=device,
            report=lambda e, error, m=member: print(f"{name} {m} epoch {e}: cross-entropy {error:.4f}", flush=True),
        )
        for member in range(MEMBERS)
    ]  # fmt: skip
    return SecondaryPredictor(members, name, "unsaved")


def quality(predictor: SecondaryPredictor, rows: Sequence[Labelled]) -> dict[str, float]:
    """Return Q3, the share of residues whose class is right, recall of each class, and r of contents a sequence.

    `q3_of_coil`: Q3 of calling every residue coil. `pearson_E`: of the predicted and the true share of strands of a
    sequence, over sequences; it is what the reward is trusted with.
    """
    sequences = [row.sequence for row in rows]
    truth = "".join(row.classes for row in rows)
    predicted = "".join(predictor.predict(sequences))
    shares = torch.stack([p.mean(0) for p in predictor.of_designs(sequences)])
    right = [a == b for a, b in zip(predicted, truth)]
    found = {"q3": float(np.mean(right)), "q3_of_coil": truth.count("C") / len(truth)}
    for column, name in enumerate(CLASSES):
        found[f"recall_{name}"] = sum(r for r, c in zip(right, truth) if c == name) / truth.count(name)
        content = [row.classes.count(name) / len(row.classes) for row in rows]
        found[f"pearson_{name}"] = float(np.corrcoef(shares[:, column].numpy(), content)[0, 1])
    return found
