"""Training generators and oracles from data: what `biotilt pretrain` and `biotilt fit-oracle` do."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.core import Policy
from biotilt.designs import Codec, as_codec
from biotilt.errors import DataError
from biotilt.files import write_json
from biotilt.model import Model, build_process
from biotilt.networks import build_network
from biotilt.record import command_line, versions
from biotilt.rewards.learned import LearnedReward, Regressor, RegressorConfig
from biotilt.training import FitConfig, PretrainConfig, fit_regressor, predict, pretrain
from biotilt.training.pretrain import validation_bound


@dataclass(frozen=True)
class Split:
    """Shares of the data for validation and test, in [0, 1); the rest trains."""

    validation: float = 0.07
    test: float = 0.1

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise DataError(f"validation and test shares must be ≥ 0 and sum below 1, got {self}")

    def rows(self, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return shuffled row numbers of the training, validation and test parts."""
        if count < 20:
            raise DataError(f"{count} rows are too few to split into training, validation and test; 20 at least")
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        validation, test = max(int(count * self.validation), 1), max(int(count * self.test), 1)
        return order[validation + test :], order[:validation], order[validation : validation + test]


def pretrain_model(
    sequences: list[str],
    codec: Codec | str,
    *,
    network: dict[str, Any] | None = None,
    process: dict[str, Any] | None = None,
    config: PretrainConfig | None = None,
    split: Split | None = None,
    seed: int = 0,
    report: Callable[[int, float, float], None] = lambda step, train, validation: None,
) -> tuple[Model, dict[str, float]]:
    """Train a generator on designs; return it and its metrics (nats a design, on the test part).

    `codec`: how designs are written as tokens; the name of an alphabet serves for designs of one length.
    `network` and `process` are names with options, as in a config; the defaults are a CNN (told the time where the
    process needs it) and `any_order` diffusion that reveals a tenth of the letters a step.
    """
    codec = as_codec(codec)
    tokens = codec.encode_many(sequences)
    length, size = tokens.shape[1], len(codec.symbols)
    process_options: dict[str, Any] = {"length": length, "letters": size} | (
        process or {"name": "any_order", "per_step": max(length // 10, 1)}
    )
    # where nothing is masked, the states do not tell how much noise there is in them
    time = process_options["name"] in ("uniform", "simplex")
    net_options: dict[str, Any] = {"name": "cnn", "letters": size, "length": length, "time": time} | (network or {})
    torch.manual_seed(seed)  # initial weights
    net = build_network(net_options.pop("name"), net_options)
    policy = Policy(build_process(process_options.pop("name"), process_options), net)
    train, validation, test = (split or Split()).rows(len(tokens), seed)
    generator = torch.Generator().manual_seed(seed)
    bound = pretrain(policy, tokens[train], tokens[validation], config or PretrainConfig(), generator, report)
    frequencies = torch.bincount(tokens[train].flatten().long(), minlength=size) / tokens[train].numel()
    metrics = {
        "train_designs": len(train),
        "validation_nats": bound,
        "test_nats": validation_bound(policy, tokens[test]),
        "test_nats_of_letter_frequencies": -frequencies.log()[tokens[test].long()].sum(-1).mean().item(),
        "nats_of_uniform_letters": length * math.log(size),
    }
    return Model(policy, codec), metrics


def fit_oracle(
    sequences: list[str],
    values: list[float],
    codec: Codec | str,
    *,
    name: str,
    units: str = "",
    members: int = 3,
    architecture: dict[str, Any] | None = None,
    config: FitConfig | None = None,
    split: Split | None = None,
    seed: int = 0,
    report: Callable[[int, int, float], None] = lambda member, epoch, error: None,
) -> tuple[LearnedReward, dict[str, float]]:
    """Fit an ensemble of `members` regressors to measurements; return it with Pearson and Spearman on its test part.

    Rows whose value is NaN are left out. Raises DataError when fewer than 20 rows have a value.
    """
    keep = [i for i, value in enumerate(values) if math.isfinite(value)]
    codec = as_codec(codec)
    if len(keep) < 20:
        raise DataError(f"{len(keep)} of {len(values)} rows have a number to learn from; 20 at least")
    if len({values[i] for i in keep}) == 1:
        raise DataError(f"every row has the same value, {values[keep[0]]:g}: there is nothing to learn")
    tokens = codec.encode_many([sequences[i] for i in keep])
    x = F.one_hot(tokens.long(), len(codec.symbols)).float()
    y = torch.tensor([values[i] for i in keep])
    train, validation, test = (split or Split()).rows(len(y), seed)
    options: dict[str, Any] = {"letters": len(codec.symbols), "length": tokens.shape[1]} | (architecture or {})
    models = []
    for member in range(members):
        torch.manual_seed(seed * 1000 + member)  # initial weights and dropout
        model = Regressor(RegressorConfig(**options))
        fit_regressor(
            model,
            (x[train], y[train]),
            (x[validation], y[validation]),
            config or FitConfig(),
            torch.Generator().manual_seed(seed * 1000 + member),
            lambda epoch, error, member=member: report(member, epoch, error),
        )
        models.append(model)
    reward = LearnedReward(models, codec, name, "unsaved", units)
    predicted = torch.stack([predict(model, x[test]) for model in models]).mean(0)
    return reward, {"train_designs": len(train), "test_designs": len(test)} | correlations(predicted, y[test])


def write_card(model: Path, data: Path, metrics: dict[str, float], **more: Any) -> dict[str, Any]:
    """Write beside a model, as JSON, what it was made of: data and its hash, command, versions, metrics.

    `more`: other keys of the card. Returns the card.
    """
    card = {
        "metrics": metrics,
        "data": {"file": data.name, "sha256": hashlib.sha256(data.read_bytes()).hexdigest()},
        "command": command_line(),
        "versions": versions(),
        **more,
    }
    write_json(model.with_suffix(".json"), card)
    return card


def correlations(predicted: Tensor, measured: Tensor) -> dict[str, float]:
    """Return Pearson and Spearman correlations and r² of predictions `(N,)` with measurements `(N,)`."""
    from scipy.stats import rankdata

    def pearson_of(a: Any, b: Any) -> float:
        return float(np.corrcoef(a, b)[0, 1])

    pearson = pearson_of(predicted.numpy(), measured.numpy())
    spearman = pearson_of(rankdata(predicted.numpy()), rankdata(measured.numpy()))
    return {"pearson": pearson, "spearman": spearman, "r2": pearson**2}
