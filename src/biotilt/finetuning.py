"""Training a pretrained generator further on sequences of one's own: what `biotilt pretrain --from` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.config import ModelSection
from biotilt.core import Policy, own_names, share
from biotilt.core.capabilities import SeveralTargets
from biotilt.core.fixed import Holding
from biotilt.core.protocols import sizes_of
from biotilt.errors import ConfigError, DataError
from biotilt.fitting import Split, plain_nats
from biotilt.keys import read_toml
from biotilt.labelled import Labelled, Telling, teaching
from biotilt.model import Model
from biotilt.model_given import load_base
from biotilt.models.conditions import Given
from biotilt.models.lora import LoRA
from biotilt.options import plain
from biotilt.run import load_model
from biotilt.schema import checked
from biotilt.training import PretrainConfig, StateFile, pretrain
from biotilt.training.pretrain import validation_bound

FULL, ADAPTERS = 3e-4, 1e-3  # learning rates where none is said


def finetune(
    model: Model,
    designs: list[Any],
    *,
    lora: LoRA | None = None,
    config: PretrainConfig | None = None,
    split: Split | None = None,
    labels: Sequence[Given] | None = None,
    label_dropout: float = 0.1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    report: Callable[[int, float, float], None] = lambda step, train, validation: None,
    tell: Callable[[int, float], None] = lambda step, train: None,
    state: StateFile | None = None,
) -> tuple[Model, dict[str, float]]:
    """Train a copy of any model on designs of its space; return it and its metrics (nats a design, on the test part).

    `lora`: adapters, which alone are trained; without, all that takes a gradient is, or the adapters that the model
    has. The data are split by clusters of related sequences (`Split`), so that what is validated on is no near-copy of
    what is learned, and training ends early by it (`config.patience`, by default after five looks that were no better);
    the model as it came is among those that are looked at.

    `labels`, one a design, of a model that takes conditions: each design is learned as one of its label or, a share
    `label_dropout` of the time where the model can be told none, of any. What the model was told before, it is told
    again afterwards. The nats are then those of designs with their labels. `device`, `report`, `tell`, `state` as in
    `pretrain_model`.

    Raises ConfigError where the model takes no adapters or no such labels, or has nothing to train, DataError for
    designs that it does not make.

    >>> import biotilt, random
    >>> model, draw = biotilt.Experiment.for_task("utr").model, random.Random(0)
    >>> designs = ["".join(draw.choices("ACGT", [5, 1, 1, 1], k=50)) for _ in range(100)]
    >>> few = biotilt.training.PretrainConfig(steps=4, batch=8, warmup=1, lr=1e-3)
    >>> tuned, metrics = finetune(model, designs, config=few)
    >>> metrics["test_nats"] < metrics["test_nats_before"], metrics["steps"]
    (True, 4)
    """
    config, split = config or PretrainConfig(steps=2000, lr=ADAPTERS if lora else FULL, patience=5), split or Split()
    told_before = model.told
    labelled = None if labels is None else _labelled(model, labels, len(designs), label_dropout)
    model = model if labelled is None else model.with_condition(None)
    model = _to_train(model, lora)
    states = _states(model, designs)
    clusters = split.clusters(designs, model.space)
    train, validation, test = split.parts(clusters, seed)
    telling = teaching(labelled, model.policy, states, train)
    if labelled is not None:
        state = state and state.with_({"label_dropout": label_dropout})
    torch.manual_seed(seed)  # dropout
    generator = torch.Generator(device).manual_seed(seed)
    learn = partial(pretrain, config=config, generator=generator, tell=tell, state=state)
    metrics = _trained(telling, (train, validation, test), learn, report)
    if told_before is not None and labelled is not None:
        model = model.with_condition(told_before.table, guidance=told_before.guidance)
    counts = {"train_designs": len(train), "clusters": len(set(clusters))}
    return model, counts | metrics | plain_nats(model.space, states[train], states[test])


def _trained(
    telling: Telling, parts: tuple[Tensor, Tensor, Tensor], learn: Callable[..., float],
    report: Callable[[int, float, float], None],
) -> dict[str, float]:  # fmt: skip
    """Train on the parts, rows for training, validation and test, and return how far it went."""
    policy, states, change = telling
    train, validation, test = parts
    steps = 0

    def reached(step: int, loss: float, bound: float) -> None:
        nonlocal steps
        steps = step
        report(step, loss, bound)

    before = validation_bound(policy, states[test])
    bound = learn(policy, states[train], states[validation], report=reached, change=change)
    after = validation_bound(policy, states[test])
    return {"steps": steps, "validation_nats": bound, "test_nats": after, "test_nats_before": before}


def start_of(named: str, *, trust: bool = False) -> Model:
    """Return the model to begin with: what `load_model` reads, or what `[model]` of an experiment's file names."""
    if Path(named).suffix != ".toml":
        return load_model(named, trust=trust)
    data, _ = read_toml(Path(named))
    if "model" not in data:
        raise ConfigError(f"{named} has no [model], which would say what to begin with")
    section = checked(plain(data["model"], "model"), ModelSection, f"{named}: model", ConfigError)
    model = load_base(section, Path(named).absolute().parent)
    if section.lora is not None:
        raise ConfigError(f"{named}: model.lora: adapters are asked for by --lora here")
    return model if section.condition is None else model.with_condition(section.condition, guidance=section.guidance)


def _labelled(model: Model, labels: Sequence[Given], count: int, dropout: float) -> Labelled:
    """Return the labels of designs as a model is told them; ConfigError where it takes none, or knows others."""
    if model.conditions is None:
        raise ConfigError(
            "labels: this model takes no conditions, so it cannot be told any: leave the labels out, or pretrain a new "
            "generator of labelled designs (biotilt pretrain --labels without --from, biotilt.pretrain_model)"
        )
    try:
        return Labelled.of(labels, count, dropout, model.conditions)
    except ConfigError as error:
        raise ConfigError(f"labels: {error}") from error


def _to_train(model: Model, lora: LoRA | None) -> Model:
    """Return a copy of a model whose weights can be changed, those that take no gradient shared."""
    if isinstance(model.policy.process, SeveralTargets):
        raise ConfigError("the model is told several conditions: name the one that these designs have, or their labels")
    if lora is not None and model.lora is not None:
        raise ConfigError("the model has adapters already, which are trained further: leave out --lora, or merge them")
    made = replace(model, policy=Policy(model.policy.process, share(model.policy.net)))
    if lora is not None:
        return made.with_lora(lora)
    if not own_names(made.policy.net):
        raise ConfigError("nothing of this network takes a gradient: train adapters, --lora RANK")
    return made


def _states(model: Model, designs: list[Any]) -> Tensor:
    """Return the states of designs; DataError for those that the model does not make."""
    states, process = model.space.encode(designs), model.policy.process
    size = sizes_of(process).get("length", sizes_of(process).get("size"))
    if size is not None and states.shape[1] != size:
        raise DataError(f"the model makes designs of {size} positions, and these have {states.shape[1]}")
    fixed = process.fixed if isinstance(process, Holding) else None
    if fixed is not None:
        other = (states[:, fixed.mask] != fixed.letters[fixed.mask].to(states)).any(-1).nonzero().flatten().tolist()
        if other:
            more = f", and so have {len(other) - 1} more" if len(other) > 1 else ""
            raise DataError(f"design {other[0] + 1} has other letters than the model holds{more}")
    return states
