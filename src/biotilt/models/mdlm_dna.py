"""Masked diffusion of DNA (MDLM) as DRAKES, SVDD, VIDD and TR2-D2 have it: enhancers of 200 letters (Gosai et al.)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import Field
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import ConfigError, DataError, one_line
from biotilt.model import Model
from biotilt.models.conditions import Conditions
from biotilt.models.hub import weights_file
from biotilt.models.sources import Whole
from biotilt.networks.dilated_cnn import DilatedCNN, DilatedCNNConfig, Schedule
from biotilt.options import Flag, Inside, Length, PathText, Steps, Text, check_options
from biotilt.processes import Masked
from biotilt.schema import StoredTensors
from biotilt.spaces import DNA, Letters
from biotilt.tensors import load_described, with_weights

LENGTH, STEPS = 200, 128  # of the published model, for files that do not say
V = len(DNA.letters)
# what the configurations of MDLM call a schedule
_SCHEDULES: dict[str, Schedule] = {
    "loglinear": "loglinear", "cosine": "mdlm_cosine", "cosinesqr": "mdlm_cosine_squared",
}  # fmt: skip
_STACK = 5  # layers of different dilation
_OUTSIDE = {
    "linear": "embed", "time_embedder.1": "time", "final_conv.0": "head.0", "final_conv.2": "head.2",
}  # fmt: skip
_INSIDE = {"convs.{}": "convs.{}", "time_layers.{}.dense": "times.{}", "norms.{}": "norms.{}"}


class WeightsFile(StoredTensors):
    """The metadata of weights that `biotilt convert` wrote."""

    kind: ClassVar[str] = "weights of mdlm_dna"
    called: ClassVar[str] = 'weights of MDLM on DNA, such as "biotilt convert mdlm_dna" writes'

    length: Length | None = None
    time: bool | None = None
    noise: Text | None = None
    steps: Steps | None = None


@dataclass(frozen=True)
class MDLM(Whole):
    """Masked diffusion of DNA by the dilated CNN of DRAKES, with its own weights.

    Args:
        weights: a .safetensors file of `biotilt convert mdlm_dna`, a folder with one, or a repository of the hub
            ("hub:owner/name"); weights of others in that format too, under the names of the original
            ("backbone.linear.weight").
        length: letters of a design; what the file says, else 200.
        labels: what the classes are called, of a network that is told classes; "0", "1", … otherwise.
        ema: the moving averages of the weights, where the file has them; the original samples by the weights as they
            were trained.
        time: whether the network is told the noise level; what the file says, else not.
        schedule: "loglinear", "mdlm_cosine" or "mdlm_cosine_squared": what the file says, else loglinear.
        eps: the chance that a letter is clean when all is noise, by which time is told; 1e-3 in the original.
    """

    weights: PathText
    length: Length | None = None
    labels: Annotated[tuple[Text, ...], Field(max_length=10_000)] = ()
    ema: Flag = False
    time: Flag | None = None
    schedule: Schedule | None = None
    eps: Inside = 1e-3

    name: ClassVar[str] = "mdlm_dna"

    def __post_init__(self) -> None:
        check_options(self, "model.options")

    def build(self) -> Model:
        """Return the model, whose file will hold all weights; ConfigError, DataError or CheckpointError say why not."""
        path = weights_file(self.weights, self.name)
        tensors, said = load_described(path, WeightsFile)
        about = WeightsFile() if said is None else said
        net = self._network(path, self._chosen(path, tensors), about)
        count = net.config.conditions
        labels = list(self.labels or map(str, range(count)))
        if len(labels) != count:
            raise ConfigError(
                f"model.options.labels: {len(labels)} labels, and the network in {path} knows {count} classes"
            )
        config = net.config
        process = Masked(config.length, V, num_steps=about.steps or STEPS, schedule=config.schedule)
        conditions = Conditions.of(labels, unconditional=count) if count else None
        return Model(Policy(process, net.eval()), Letters(DNA), conditions=conditions)

    def _chosen(self, path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that are asked for, by their names in the original."""
        averages = {name.removeprefix("ema."): value for name, value in tensors.items() if name.startswith("ema.")}
        rest = {name: value for name, value in tensors.items() if not name.startswith("ema.")}
        chosen = {name.removeprefix("backbone."): value for name, value in rest.items()}
        if self.ema and not averages:
            raise ConfigError(f"model.options.ema: {path} has no moving averages of its weights; leave the key out")
        return chosen | averages if self.ema else chosen

    def _network(self, path: Path, tensors: dict[str, Tensor], about: WeightsFile) -> DilatedCNN:
        names = ours(path, tensors)
        count, width, kinds, kernel = _sizes(path, tensors)
        config = DilatedCNNConfig(
            V, self.length or about.length or LENGTH, width, count // _STACK, kernel,
            time=bool(about.time if self.time is None else self.time), schedule=self._schedule(path, about),
            eps=self.eps, conditions=max(kinds - 1, 0),
        )  # fmt: skip
        found = {names[name]: tensor for name, tensor in tensors.items()}
        for kind in ("weight", "bias"):  # the mask is never what is under a mask: its logit is −∞ in the original
            found[f"head.2.{kind}"] = found[f"head.2.{kind}"][:V]
        return with_weights(path, lambda: DilatedCNN(config), found)

    def _schedule(self, path: Path, about: WeightsFile) -> Schedule:
        if self.schedule is not None:
            return self.schedule
        noise = about.noise or "loglinear"
        if noise not in _SCHEDULES:
            raise ConfigError(
                f'{path} was trained with the noise "{noise}", which is not known here; [model.options] schedule = '
                f"one of {', '.join(get_args(Schedule))} says how to sample"
            )
        return _SCHEDULES[noise]


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, int, int, int]:
    """Return the numbers of layers, channels and classes with "none" (0 without classes), and the width of kernels."""
    first, last = tensors["linear.weight"], tensors["final_conv.2.weight"]
    if first.dim() != 3 or first.shape[1] != V + 1 or last.shape[0] != V + 1:
        raise DataError(
            f"{path}: its network reads {first.shape[1] if first.dim() == 3 else 'no'} kinds of letters and says "
            f"{last.shape[0]}; DNA has {V} and a mask"
        )
    classes = tensors.get("cls_embedder.weight")
    return _layers(tensors), first.shape[0], 0 if classes is None else len(classes), first.shape[2]


def _layers(tensors: Mapping[str, Any]) -> int:
    numbers = [name.split(".")[1] for name in tensors if name.startswith("convs.")]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)


def ours(path: Path, tensors: Mapping[str, Any]) -> dict[str, str]:
    """Return the name here of each tensor of the original; DataError for another layout, which names what is amiss."""
    count = _layers(tensors)
    layers, told = dict(_OUTSIDE), "cls_embedder.weight" in tensors
    inside = _INSIDE | ({"cls_layers.{}.dense": "conditions.{}"} if told else {})
    for number in range(count):
        layers |= {theirs.format(number): here.format(number) for theirs, here in inside.items()}
    names = {f"{a}.{kind}": f"{b}.{kind}" for a, b in layers.items() for kind in ("weight", "bias")}
    names |= {"time_embedder.0.W": "frequencies"} | ({"cls_embedder.weight": "condition.weight"} if told else {})
    if missing := [name for name in names if name not in tensors]:
        raise DataError(
            f'{path}: these are no weights of MDLM on DNA: "backbone.{missing[0]}" is missing'
            + (f", and {len(missing) - 1} more" if missing[1:] else "")
        )
    if odd := sorted(set(tensors) - set(names)):
        raise DataError(f'{path}: MDLM on DNA has no weights "backbone.{one_line(odd[0])}": is it another model?')
    if not count or count % _STACK:
        raise DataError(f"{path}: {count} layers, which are not stacks of {_STACK}: is it another model?")
    return names
