"""D3 (Sarkar et al. 2024): discrete diffusion of regulatory DNA by score ratios, off the public files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import ConfigError, DataError, one_line
from biotilt.model import Model
from biotilt.models.conditions import Conditions
from biotilt.models.hub import weights_file
from biotilt.models.sources import Whole
from biotilt.networks.score_ratios import ScoreRatios, ScoreRatiosConfig
from biotilt.options import Flag, Length, PathText, Positive, Text, check_options
from biotilt.processes import Uniform
from biotilt.processes.schedules import GEOMETRIC
from biotilt.schema import StoredTensors
from biotilt.spaces import DNA, Letters
from biotilt.tensors import load_described, with_weights

LENGTH, STEPS = 230, 128  # of K562 and HepG2; of the file where it says so
V = len(DNA.letters)
_STACK = 5  # layers of different dilation
_UNUSED = ("scale", "embed.")  # the original has them, and computes nothing with them
_OUTSIDE = {"linear": "embed", "sigma_map.mlp.0": "time.0", "sigma_map.mlp.2": "time.2", "final.0": "head.0"} | {
    "final.2": "head.2"
}
_INSIDE = {"conv_blocks.{}": "convs.{}", "denses.{}.dense": "times.{}", "norms.{}": "norms.{}"}


class WeightsFile(StoredTensors):
    """The metadata of weights that `biotilt convert` wrote."""

    kind: ClassVar[str] = "weights of d3"
    called: ClassVar[str] = 'weights of D3, such as "biotilt convert d3" writes'

    length: Length | None = None
    low: Positive = GEOMETRIC.low
    high: Positive = GEOMETRIC.high
    graph: Text = "uniform"


@dataclass(frozen=True)
class D3(Whole):
    """Discrete diffusion of DNA by the convolutional network of D3, with its own weights; it may be told an activity.

    `condition = 3.0` under `[model]` is the activity, in the units that the network was trained with; without, it is
    told 0, as in the original.

    Args:
        weights: a .safetensors file of `biotilt convert d3`, or a folder with one.
        length: letters of a design; what the file says, else 230.
        ema: the moving averages of the weights, by which the original samples, where the file has them.
    """

    weights: PathText
    length: Length | None = None
    ema: Flag = True

    name: ClassVar[str] = "d3"

    def __post_init__(self) -> None:
        check_options(self, "model.options")

    def build(self) -> Model:
        """Return the model, whose file will hold all weights; ConfigError, DataError or CheckpointError say why not."""
        path = weights_file(self.weights, self.name)
        tensors, said = load_described(path, WeightsFile)
        about = WeightsFile() if said is None else said
        if (about.low, about.high, about.graph) != (GEOMETRIC.low, GEOMETRIC.high, "uniform"):
            raise ConfigError(
                f'{path} was trained with noise from {about.low:g} to {about.high:g} on the graph "{about.graph}"; '
                f"only {GEOMETRIC.low:g} to {GEOMETRIC.high:g} on the uniform one is known here"
            )
        length = self.length or about.length or LENGTH
        net = self._network(path, self._chosen(tensors), length)
        process = Uniform(length, V, num_steps=STEPS, schedule="geometric")
        told = Conditions.of("numbers") if net.config.number else None
        return Model(Policy(process, net.eval()), Letters(DNA), conditions=told)

    def _chosen(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        averages = {name.removeprefix("ema."): value for name, value in tensors.items() if name.startswith("ema.")}
        rest = {name: value for name, value in tensors.items() if not name.startswith("ema.")}
        chosen = {name.removeprefix("score_model."): value for name, value in rest.items()}
        return chosen | averages if self.ema else chosen

    def _network(self, path: Path, tensors: dict[str, Tensor], length: int) -> ScoreRatios:
        names = ours(path, tensors)
        first, told = tensors["linear.weight"], tensors["denses.0.dense.weight"]
        if first.dim() != 3 or first.shape[1] not in (V, V + 1) or told.dim() != 2:
            raise DataError(f"{path}: its first layer is {list(first.shape)}; DNA has {V} letters, and one number")
        config = ScoreRatiosConfig(
            V, length, len(first), told.shape[1], _layers(tensors) // _STACK, first.shape[2],
            number=first.shape[1] == V + 1,
        )  # fmt: skip
        return with_weights(path, lambda: ScoreRatios(config), {names[name]: tensors[name] for name in names})


def _layers(tensors: Mapping[str, Any]) -> int:
    numbers = [name.split(".")[1] for name in tensors if name.startswith("conv_blocks.")]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)


def ours(path: Path, tensors: Mapping[str, Any]) -> dict[str, str]:
    """Return the name here of each tensor of the original; DataError for another layout, which names what is amiss."""
    if any(name.startswith("blocks.") for name in tensors):
        raise DataError(f"{path}: a transformer of D3; only its convolutional network is read")
    layers = dict(_OUTSIDE)
    for number in range(_layers(tensors)):
        layers |= {theirs.format(number): here.format(number) for theirs, here in _INSIDE.items()}
    names = {f"{a}.{kind}": f"{b}.{kind}" for a, b in layers.items() for kind in ("weight", "bias")}
    if missing := [name for name in [*names, "denses.0.dense.weight"] if name not in tensors]:
        raise DataError(f'{path}: these are no weights of D3: "score_model.{missing[0]}" is missing')
    if odd := sorted(name for name in tensors.keys() - names.keys() if not name.startswith(_UNUSED)):
        raise DataError(f'{path}: D3 has no weights "score_model.{one_line(odd[0])}": is it another model?')
    if not _layers(tensors) or _layers(tensors) % _STACK:
        raise DataError(f"{path}: {_layers(tensors)} layers, which are not stacks of {_STACK}: is it another model?")
    return names
