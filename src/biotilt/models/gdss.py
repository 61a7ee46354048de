"""GDSS's own score networks of molecules, QM9 and ZINC250k (Jo et al. 2022, arXiv 2202.02514)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import CheckpointError, ConfigError, one_line
from biotilt.model import Model
from biotilt.models.sources import Whole
from biotilt.networks.graph import GraphScores, GraphScoresConfig
from biotilt.options import Few, Flag, Layers, NotNegative, PathText, Positive, Steps, Text, Width, check_options
from biotilt.processes import Graph
from biotilt.schema import StoredTensors
from biotilt.spaces.graphs import Graphs
from biotilt.tensors import load_tensors, with_weights

SNR = 0.2


@dataclass(frozen=True)
class Published:
    """What their code says of a set of molecules: atoms in the order of the features, and the loudness of correctors.

    `counts`: how many molecules have 1, 2, … heavy atoms: theirs are drawn among the training molecules.
    """

    atoms: tuple[str, ...]
    loudness: float
    counts: tuple[int, ...]


# of the 133,885 molecules of QM9 but one that RDKit does not read, and of 29,445 of ZINC250k
QM9 = Published(("C", "N", "O", "F"), 0.7, (3, 5, 9, 31, 130, 618, 3197, 18298, 111594))
ZINC = Published(
    ("C", "N", "O", "F", "P", "S", "Cl", "Br", "I"), 0.9,
    (0, 0, 0, 0, 0, 1, 0, 4, 12, 22, 88, 142, 231, 360, 483, 746, 1054, 1366, 1786, 1993, 2372, 2228, 2535, 2703, 2679,
     2251, 1875, 1184, 931, 755, 539, 414, 302, 192, 123, 54, 19, 1),
)  # fmt: skip
PUBLISHED = {"QM9": QM9, "ZINC250k": ZINC}


class WeightsFile(StoredTensors):
    """The metadata of weights that `biotilt convert` wrote."""

    kind: ClassVar[str] = "weights of gdss"
    called: ClassVar[str] = 'weights of GDSS, such as "biotilt convert gdss" writes'

    data: Text
    nodes: Few
    features: Few
    node_law: Literal["ve", "vp"]
    node_range: tuple[Positive, Positive]
    edge_law: Literal["ve", "vp"]
    edge_range: tuple[Positive, Positive]
    steps: Steps
    by: Literal["gcn", "attention"]
    width: Width
    depth: Layers
    attention: Width
    heads: Layers
    layers: Layers
    linears: Layers
    powers: Layers
    channels: Width
    last: Width

    def network(self) -> GraphScoresConfig:
        return GraphScoresConfig(
            self.nodes, self.features, self.width, self.depth, self.by, self.attention, self.heads, self.layers,
            self.linears, self.powers, self.channels, self.last,
        )  # fmt: skip


@dataclass(frozen=True)
class GDSS(Whole):
    """Molecules as graphs by the two score networks of GDSS, with their own weights and their own sampler.

    Args:
        weights: a .safetensors file of `biotilt convert gdss`.
        atoms: which atom each feature of a node stands for; those of QM9 and ZINC250k are known.
        counts: weights of 1, 2, … heavy atoms; of QM9 and ZINC250k those of their molecules.
        steps: levels of noise; as many as the networks were trained with, 1,000 of the published ones.
        snr: of the Langevin correctors; 0 for none, which halves the calls of the networks.
        loudness: of the noise of correctors, `scale_eps` in the original: 0.7 of QM9, else 0.9.
        ema: the moving averages of the weights, where the file has them; the original samples without.
    """

    weights: PathText
    atoms: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    counts: Annotated[tuple[NotNegative, ...], Field(max_length=1_000)] = ()
    steps: Steps | None = None
    snr: NotNegative = SNR
    loudness: Positive | None = None
    ema: Flag = False

    name: ClassVar[str] = "gdss"

    def __post_init__(self) -> None:
        check_options(self, "model.options")

    def build(self) -> Model:
        """Return the model, whose file will hold all weights; ConfigError or CheckpointError say why not."""
        path = Path(self.weights)
        if path.suffix != ".safetensors":
            raise ConfigError(
                f'model.options.weights: "{one_line(path)}" is no .safetensors; of a checkpoint of the original, which '
                f"is a pickle, biotilt convert gdss {one_line(path.name)} {one_line(path.stem)}.safetensors makes one"
            )
        tensors, about = load_tensors(path, WeightsFile)
        space = self._space(path, about)
        known = PUBLISHED.get(about.data)
        if self.loudness is not None:
            loudness = self.loudness
        else:
            loudness = ZINC.loudness if known is None else known.loudness
        counts = self.counts or (() if known is None else known.counts)
        process = Graph(
            about.nodes, about.features, tuple(map(float, counts)), num_steps=self.steps or about.steps,
            node_law=about.node_law, node_range=about.node_range, edge_law=about.edge_law, edge_range=about.edge_range,
            predictor="reverse", snr=self.snr, loudness=loudness, memoryless=False, prediction="gdss",
        )  # fmt: skip
        return Model(Policy(process, network(path, self._chosen(path, tensors), about).eval()), space)

    def _space(self, path: Path, about: WeightsFile) -> Graphs:
        known = PUBLISHED.get(about.data)
        atoms = self.atoms or (() if known is None else known.atoms)
        if len(atoms) != about.features:
            raise ConfigError(
                f"model.options.atoms: {path} was trained on {one_line(about.data)}, with {about.features} features a "
                f"node, each of which stands for an atom: name as many, not {len(atoms)}"
            )
        return Graphs(tuple(atoms), about.nodes)

    def _chosen(self, path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that are asked for, by their names in the original after "x." and "adj."."""
        averages = {name.removeprefix("ema."): value for name, value in tensors.items() if name.startswith("ema.")}
        if self.ema and not averages:
            raise ConfigError(f"model.options.ema: {path} has no moving averages of its weights; leave the key out")
        trained = {name: value for name, value in tensors.items() if not name.startswith("ema.")}
        return trained | averages if self.ema else trained


def network(path: Path, tensors: Mapping[str, Tensor], about: WeightsFile) -> GraphScores:
    """Return the network with weights by their names in the original; CheckpointError where one is missing or odd."""
    config, rest = about.network(), dict(tensors)

    def take(name: str) -> Tensor:
        if name not in rest:
            raise CheckpointError(f'{path}: the weights lack "{name}": is it another model?')
        return rest.pop(name)

    found = {ours: take(theirs) for ours, theirs in plain_names(config).items()}
    for ours, channels in stacked_names(config).items():
        try:
            found[ours] = torch.stack([torch.cat([take(name) for name in part], -1) for part in channels])
        except RuntimeError as error:
            raise CheckpointError(f'{path}: "{channels[0][0]}" and its like do not fit: {one_line(error)}') from error
    if rest:
        raise CheckpointError(f'{path}: there are weights "{one_line(min(rest))}", which GDSS does not have')
    return with_weights(path, lambda: GraphScores(config), found)


def plain_names(config: GraphScoresConfig) -> dict[str, str]:
    """Return for each tensor that the original has too, by its name here, what it is called there."""
    names = _dense("of_nodes", "x.final", 3) | _dense("of_edges", "adj.final", 3)
    if config.by == "gcn":
        for i, kind in product(range(config.depth), ("weight", "bias")):
            names[f"node_layers.{i}.{kind}"] = f"x.layers.{i}.{kind}"
    for ours, theirs, _ in _attending(config):
        names |= _dense(f"{ours}.pairs", f"{theirs}.mlp", config.linears)
        names |= _dense(f"{ours}.values", f"{theirs}.multi_channel", 2)
    return names


def stacked_names(config: GraphScoresConfig) -> dict[str, list[list[str]]]:
    """Return for each tensor of all adjacencies of a layer those of the original: queries, keys and values of each."""
    return {
        f"{ours}.{kind}": [[f"{theirs}.attn.{c}.gnn_{part}.{kind}" for part in "qkv"] for c in range(channels)]
        for ours, theirs, channels in _attending(config)
        for kind in ("weight", "bias")
    }


def _attending(config: GraphScoresConfig) -> Iterator[tuple[str, str, int]]:
    """Yield the layers with attention: their names here and there, and how many adjacencies they read."""
    stacks = [("edge_layers", "adj.layers", config.layers)]
    stacks += [("node_layers", "x.layers", config.depth)] if config.by == "attention" else []
    for ours, theirs, count in stacks:
        for i in range(count):
            yield f"{ours}.{i}", f"{theirs}.{i}", config.channels if i else config.powers


def _dense(ours: str, theirs: str, count: int) -> dict[str, str]:
    """Return the names of so many linear layers, which have none in between in the original."""
    inside = [f"{theirs}.linears.{j}" for j in range(count)] if count > 1 else [f"{theirs}.linear"]
    return {f"{ours}.{2 * j}.{kind}": f"{name}.{kind}" for j, name in enumerate(inside) for kind in ("weight", "bias")}
