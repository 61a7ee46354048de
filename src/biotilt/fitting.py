"""Training generators and oracles from data: what `biotilt pretrain` and `biotilt fit-oracle` do."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.atomic import check_output
from biotilt.core import OfLetters, Policy, Process
from biotilt.core.capabilities import Dated
from biotilt.core.space import Modelled, Space
from biotilt.errors import ConfigError, DataError
from biotilt.files import write_json
from biotilt.labelled import Labelled, teaching
from biotilt.model import Model
from biotilt.models.conditions import Given
from biotilt.networks import NETWORKS
from biotilt.options import Below1, Rate, build_options, check_options, shown
from biotilt.processes import PROCESSES
from biotilt.provenance import command_line, versions
from biotilt.rewards.generic.learned import LearnedReward, Regressor, RegressorConfig
from biotilt.spaces import Text, as_space, as_text
from biotilt.spaces.identity import related
from biotilt.training import FitConfig, PretrainConfig, StateFile, fit_regressor, predict, pretrain
from biotilt.training.pretrain import validation_bound

FEWEST_CLUSTERS = 10


@dataclass(frozen=True)
class Split:
    """Shares of the data for validation and test, in [0, 1); the rest trains.

    Sequences of which `identity` in (0, 1] is the same (`spaces.identity`) are never on two sides, nor are repeats
    and, of nucleic acids, reverse complements; 1 keeps only those together. None splits rows as if none were related,
    which is right only where relatives are kept apart otherwise.
    """

    validation: Below1 = 0.07
    test: Below1 = 0.1
    identity: Rate | None = 0.8

    def __post_init__(self) -> None:
        check_options(self, "split")
        if self.validation + self.test >= 1:
            raise ConfigError(
                f"split: the shares of validation and test must sum below 1, got {self.validation} and {self.test}"
            )

    def rows(self, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return shuffled row numbers of the training, validation and test parts."""
        return self.parts(list(range(count)), seed)

    def parts(self, clusters: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return shuffled row numbers of the training, validation and test parts, which share no cluster.

        `clusters`: of each row, numbered from 0. Clusters that validation and test have no room for train. Raises
        DataError when there are fewer than 20 rows, or clusters are too few or too large to fill the parts.
        """
        count, number = len(clusters), len(set(clusters))
        if count < 20:
            raise DataError(f"{count} rows are too few to split into training, validation and test; 20 at least")
        members: list[list[int]] = [[] for _ in range(number)]
        for row, cluster in enumerate(clusters):
            members[cluster].append(row)
        wanted = [max(int(count * share), 1) for share in (self.validation, self.test)]
        parts: list[list[int]] = [[], [], []]
        for cluster in torch.randperm(number, generator=torch.Generator().manual_seed(seed)).tolist():
            rows = members[cluster]
            fits = (i for i, most in enumerate(wanted) if len(parts[i]) + len(rows) <= most)
            parts[next(fits, 2)] += rows
        if number < FEWEST_CLUSTERS or any(2 * len(part) < most for part, most in zip(parts, wanted)):
            raise DataError(
                f"{count} rows are {number} clusters of related sequences, the largest of {max(map(len, members))}: "
                "or too uneven to keep training, validation and test apart. A higher identity makes more (1 keeps only "
                "copies together); more diverse data would be better"
            )
        return torch.tensor(parts[2]), torch.tensor(parts[0]), torch.tensor(parts[1])

    def clusters(self, designs: list[Any], space: Space[Any]) -> list[int]:
        """Return the cluster of each design, from 0; arrays are related only where they are equal."""
        if self.identity is None:
            return list(range(len(designs)))
        if isinstance(space, Text):
            return related(designs, space.written_in, self.identity)
        numbers: dict[str, int] = {}
        return [numbers.setdefault(space.key(design), len(numbers)) for design in designs]


NETWORK = {"text": "cnn", "points": "vector_mlp", "images": "unet"}
"""The network that is trained where none is named, by what designs are."""


def pretrain_model(
    designs: list[Any],
    space: Space[Any] | str,
    *,
    network: dict[str, Any] | None = None,
    process: dict[str, Any] | None = None,
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
    """Train a generator on designs of a space; return it and its metrics (nats a design, on the test part).

    `space`: the name of an alphabet serves for designs of one length. `network` and `process` are names with options,
    as in a config. Of text the defaults are a CNN (told the time where the process needs it) and `any_order` diffusion
    that reveals a tenth of the letters a step; of points, images and graphs `vector_mlp`, `unet`, `vector_mlp` (which
    learns the order of atoms), and `gaussian` diffusion, of graphs `graph`.

    `labels`, one a design, make a generator that is told one of them or, a share `label_dropout` of the time, none:
    `model.with_condition(label, guidance=…)`. The nats are then those of designs with their labels.

    `device`: where it computes; the model comes back. Another device draws other noise, and makes another model.
    `report`, `tell`, `state`: of `training.pretrain`; with a `state`, what is interrupted goes on when called again.
    Raises ConfigError where the process does not make such designs, or the network takes no labels.

    >>> import random
    >>> random.seed(0)
    >>> designs = ["".join(random.choices("ACGT", [5, 1, 1, 1], k=8)) for _ in range(200)]
    >>> few = PretrainConfig(steps=20, warmup=5)
    >>> model, metrics = pretrain_model(designs, "dna", network={"channels": 8, "blocks": 1}, config=few)
    >>> len(model.sample(1)[0]), metrics["train_designs"] > 100
    (8, True)
    """
    space = as_space(space)
    states = space.encode(designs)
    labelled = None if labels is None else Labelled.of(labels, len(designs), label_dropout)
    policy = _untrained(network or {}, process, space, space.sizes(states), labelled, seed)
    split = split or Split()
    clusters = split.clusters(designs, space)
    train, validation, test = split.parts(clusters, seed)
    plain = plain_nats(space, states[train], states[test])
    learned, states, change = teaching(labelled, policy, states, train)
    if state is not None and labelled is not None:
        state = state.with_({"label_dropout": label_dropout})
    bound = pretrain(
        learned, states[train], states[validation], config or PretrainConfig(),
        torch.Generator(device).manual_seed(seed), report=report, tell=tell, state=state, change=change,
    )  # fmt: skip
    counts = {"train_designs": len(train), "clusters": len(set(clusters))}
    nats = {"validation_nats": bound, "test_nats": validation_bound(learned, states[test])}
    return Model(policy, space, conditions=labelled and labelled.conditions), counts | nats | plain


def _untrained(
    network: dict[str, Any], process: dict[str, Any] | None, space: Space[Any], sizes: dict[str, Any],
    labelled: Labelled | None, seed: int,
) -> Policy:  # fmt: skip
    """Return a policy for designs of these `sizes`, its weights drawn by `seed`."""
    made = _process(process, space, sizes)
    # where nothing is masked or open, states do not tell how much noise there is in them; and where all is, not which
    # place is which
    known = sizes | {"time": not isinstance(made, Dated), "positions": True}
    torch.manual_seed(seed)
    return Policy(made, _network(network, space, known, labelled))


def _process(said: dict[str, Any] | None, space: Space[Any], sizes: dict[str, Any]) -> Process:
    """Return a process by its name and options, with the `sizes` of designs; ConfigError where it makes other ones."""
    if said is None:
        said = space.usual_process if isinstance(space, Modelled) else {"name": "gaussian"}
        if isinstance(space, Text):
            said = {"name": "any_order", "per_step": max(sizes["length"] // 10, 1)}
    made = PROCESSES.of_table(_known(PROCESSES.options_of(said["name"]), sizes) | said)
    if isinstance(space, Text) != isinstance(made, OfLetters):
        raise ConfigError(f'process: "{made.name}" does not make designs that are {space.medium}')
    return made


def _network(said: dict[str, Any], space: Space[Any], known: dict[str, Any], labelled: Labelled | None) -> nn.Module:
    """Return a new network by its name and options, with what is `known` of designs and of their labels."""
    said = {"name": space.usual_network if isinstance(space, Modelled) else NETWORK[space.medium]} | said
    options = NETWORKS.options_of(said["name"], "network.name")
    if labelled is not None:
        known = known | {"conditions": len(labelled.names)}
        if "conditions" not in _known(options, known):
            raise ConfigError(f'network: "{said["name"]}" takes no labels; leave them out, or take another network')
        if "conditions" in said:
            raise ConfigError("network.conditions: the labels say how many classes there are; leave this option out")
    return NETWORKS.of_table(_known(options, known) | said)


def _known(part: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return those of the options that a class of options, a dataclass, has."""
    names = {field.name for field in fields(part)} if is_dataclass(part) else set()
    return {key: value for key, value in options.items() if key in names}


def plain_nats(space: Space[Any], train: Tensor, test: Tensor) -> dict[str, float]:
    """Return what a model without any structure needs, in nats a design of the test part."""
    if isinstance(space, Text):
        size = len(space.symbols)
        frequencies = torch.bincount(train.flatten().long(), minlength=size) / train.numel()
        return {
            "test_nats_of_letter_frequencies": -frequencies.log()[test.long()].sum(-1).mean().item(),
            "nats_of_uniform_letters": test.shape[1] * math.log(size),
        }
    mean, std = train.mean(0), train.std(0, correction=0).clamp(min=1e-3)
    each = ((test - mean) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2
    return {"test_nats_of_a_gaussian": each.sum(-1).mean().item()}


def fit_oracle(
    sequences: list[str],
    values: list[float],
    space: Text | str,
    *,
    name: str,
    units: str = "",
    members: int = 3,
    architecture: dict[str, Any] | None = None,
    config: FitConfig | None = None,
    split: Split | None = None,
    replicates: Literal["mean", "keep"] = "mean",
    seed: int = 0,
    device: torch.device | str = "cpu",
    report: Callable[[int, int, float], None] = lambda member, epoch, error: None,
) -> tuple[LearnedReward, dict[str, float]]:
    """Fit an ensemble of `members` regressors to measurements; return it with Pearson and Spearman on its test part.

    Rows whose value is NaN are left out. `replicates`: "mean" makes one row of the rows of one sequence, with their
    mean; "keep" leaves them as they are. Values are learned standardised, whatever their units; predictions are in the
    units given. `device`: where networks are fitted; they come back. Raises DataError when fewer than 20 rows have a
    value, or values are infinite, all the same, or such that a score, a float of 32 bits, cannot hold or tell apart.

    >>> import random
    >>> random.seed(0)
    >>> designs = ["".join(random.choices("ACGT", k=8)) for _ in range(200)]
    >>> measured = [design.count("G") - design.count("C") for design in designs]
    >>> oracle, metrics = fit_oracle(designs, measured, "dna", name="load", members=1, config=FitConfig(epochs=2))
    >>> len(oracle(["ACGTACGT", "GGGGGGGG"])), -1 <= metrics["pearson"] <= 1
    (2, True)
    """
    space, split = as_text(space), split or Split()
    if replicates not in ("mean", "keep"):
        raise DataError(f'replicates must be "mean" or "keep", got {shown(replicates)}')
    sequences, values = _measured(sequences, values, space)
    measured = len(values)
    if replicates == "mean":
        sequences, values = _mean_of_replicates(sequences, values)
    tokens = space.encode(sequences)
    x = F.one_hot(tokens.long(), len(space.symbols)).float()
    y = _targets(values)
    clusters = split.clusters(sequences, space)
    train, validation, test = split.parts(clusters, seed)
    if len(set(y[train].tolist())) == 1:
        raise DataError(f"every row of the training part has the same value, {y[train][0]:g}: nothing to learn")
    options: dict[str, Any] = {"letters": len(space.symbols), "length": tokens.shape[1]} | (architecture or {})
    regressor = build_options(RegressorConfig, options, "architecture")
    known, chosen_by = (x[train], y[train]), (x[validation], y[validation])
    fit = partial(_member, regressor, known, chosen_by, config or FitConfig(), device)
    models = [fit(seed * 1000 + member, partial(report, member)) for member in range(members)]
    reward = LearnedReward(models, space, name, "unsaved", units)
    predicted = torch.stack([predict(model, x[test]) for model in models]).mean(0)
    counts = {
        "measured": measured, "different_sequences": len(set(sequences)), "clusters": len(set(clusters)),
        "train_designs": len(train), "test_designs": len(test),
        "test_sequences": len({sequences[i] for i in test.tolist()}),
    }  # fmt: skip
    return reward, counts | correlations(predicted, y[test])


def _member(
    architecture: RegressorConfig, known: tuple[Tensor, Tensor], chosen_by: tuple[Tensor, Tensor], config: FitConfig,
    device: torch.device | str, seed: int, report: Callable[[int, float], None],
) -> Regressor:  # fmt: skip
    """Return one network of an ensemble, fitted to designs and targets that are `known`, at its best epoch."""
    torch.manual_seed(seed)  # initial weights and dropout
    model = Regressor(architecture)
    fit_regressor(model, known, chosen_by, config, torch.Generator(device).manual_seed(seed), report)
    return model


def _measured(sequences: list[str], values: list[float], space: Text) -> tuple[list[str], list[float]]:
    """Return the sequences that have a value, in upper case where they are letters, and their values."""
    if infinite := [row for row, value in enumerate(values, 1) if math.isinf(value)]:
        raise DataError(f"sequence {infinite[0]}: its value is infinite; leave it empty if it was not measured")
    keep = [i for i, value in enumerate(values) if not math.isnan(value)]
    if len(keep) < 20:
        raise DataError(f"{len(keep)} of {len(values)} rows have a number to learn from; 20 at least")
    if len({values[i] for i in keep}) == 1:
        raise DataError(f"every row has the same value, {values[keep[0]]:g}: there is nothing to learn")
    normalise = space.written_in.normalise if space.written_in is not None else str
    return [normalise(sequences[i]) for i in keep], [values[i] for i in keep]


def _mean_of_replicates(sequences: list[str], values: list[float]) -> tuple[list[str], list[float]]:
    found: dict[str, list[float]] = {}
    for sequence, value in zip(sequences, values):
        found.setdefault(sequence, []).append(value)
    # divided first: the sum of huge values may be none
    return list(found), [sum(value / len(some) for value in some) for some in found.values()]


def _targets(values: list[float]) -> Tensor:
    """Return measurements as float32, in which rewards score; DataError when it cannot hold or tell them apart."""
    exact = np.array(values, dtype=np.float64)
    largest = float(np.abs(exact).max())
    spread = float((exact / largest).std()) * largest  # squares of huge or tiny values would be infinite or 0
    limits = torch.finfo(torch.float32)
    if largest > limits.max / 1000 or spread < limits.tiny * 1000:
        raise DataError(
            f"the values, up to {largest:.3g} and spread by {spread:.3g}, are too large or too small for the scores of "
            "an oracle (floats of 32 bits, 1e-35 to 1e35); give them in other units"
        )
    if spread < 100 * largest * limits.eps:
        raise DataError(
            f"the values, about {largest:.6g}, differ by {spread:.3g} only, which scores (floats of 32 bits) cannot "
            "tell apart; subtract what they have in common"
        )
    return torch.from_numpy(exact).float()


def check_outputs(model: Path) -> None:
    """Raise an error when a model or its card cannot be written: known before, not after, the time of training."""
    for path in (card_of(model), model):
        check_output(path)


def card_of(model: Path) -> Path:
    """Return the path of a model's card, beside it; DataError when that is the model itself."""
    if not Path(model).name:
        raise DataError(f'"{model}" is a folder: name the file to write, such as model.safetensors')
    card = Path(model).with_suffix(".json")
    if card == Path(model):
        raise DataError(
            f"{model}: a card in JSON is written beside the model, under that name; call the model "
            f"{card.with_suffix('.safetensors').name}"
        )
    return card


def state_of(model: Path) -> Path:
    """Return where the training of a model keeps its state, beside it, until it is done."""
    return card_of(model).with_suffix(".state.safetensors")


def write_card(model: Path, data: Path, metrics: dict[str, float], **more: Any) -> dict[str, Any]:
    """Write beside a model, as JSON, what it was made of: data and its hash, command, versions, metrics.

    `more`: other keys of the card. Returns the card.
    """
    card = {
        "metrics": metrics,
        "data": {"file": data.name, "sha256": _sha256(data)},
        "command": command_line(),
        "versions": versions(),
        **more,
    }
    write_json(card_of(model), card)
    return card


def _sha256(data: Path) -> str:
    """Return the hash of a file, or of the names and contents of a folder's files."""
    if data.is_file():
        return hashlib.sha256(data.read_bytes()).hexdigest()
    found = hashlib.sha256()
    for file in sorted(path for path in data.iterdir() if path.is_file()):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()


def correlations(predicted: Tensor, measured: Tensor) -> dict[str, float]:
    """Return Pearson, Spearman and r² of predictions `(N,)` with measurements `(N,)`; NaN if one is constant."""
    from scipy.stats import rankdata

    def pearson_of(a: Any, b: Any) -> float:
        a, b = (np.asarray(x, dtype=np.float64) for x in (a, b))
        if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
            return float("nan")  # of a constant there is no correlation
        scaled = [(x - x.mean()) / np.abs(x - x.mean()).max() for x in (a, b)]  # tiny values have no squares
        return float(np.corrcoef(*scaled)[0, 1])

    pearson = pearson_of(predicted.numpy(), measured.numpy())
    spearman = pearson_of(rankdata(predicted.numpy()), rankdata(measured.numpy()))
    return {"pearson": pearson, "spearman": spearman, "r2": pearson**2}
