"""Pipelines of the library diffusers off a local folder: a UNet or a DiT with its scheduler, latents and conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from biotilt.core import Policy
from biotilt.errors import ConfigError, one_line
from biotilt.model import Model
from biotilt.models.conditions import Conditions
from biotilt.models.foreign import Foreign, tensor_of
from biotilt.models.hub import HUB, INDEX, place_of
from biotilt.models.origin import SourceOrigin
from biotilt.models.pipelines import autoencoder_of, config_of, index_of, part
from biotilt.models.prompts import embeddings_of, encoded
from biotilt.models.schedulers import Variance, process_of
from biotilt.options import CountFrom0, PathText, Text, check_options
from biotilt.spaces import Images, Space
from biotilt.spaces.latents import Latents

Prompts = Annotated[tuple[Text, ...], Field(max_length=10_000)]
# the networks that are known: in which folder a pipeline has one, and how it is told a condition
_CLASSES, _TEXTS = "class_labels", "encoder_hidden_states"
NETWORKS = {
    "UNet2DModel": ("unet", _CLASSES),
    "UNet2DConditionModel": ("unet", _TEXTS),
    "DiTTransformer2DModel": ("transformer", _CLASSES),
    "Transformer2DModel": ("transformer", _CLASSES),  # what a DiT was called before
}


@dataclass(frozen=True)
class Pipeline:
    """Images by the pipeline in `path`: its network, its scheduler's chain and, where it has one, its autoencoder.

    Classes are conditions by number, or by the labels that the pipeline gives them; texts by `prompts`, which its own
    CLIP encodes, or by `embeddings`.

    Args:
        path: the folder, as diffusers' `save_pretrained` writes it, or "hub:owner/name".
        prompts: texts that the network can be told (`condition`).
        negative: the text of no condition, for guidance.
        embeddings: a safetensors file with a tensor `(tokens, width)` for each text; that of no condition is "".
        null_class: the class that stands for none; a DiT's own by default.
        variance: "fixed_small" or "fixed_large", in place of widths that the network learned.
    """

    path: PathText
    prompts: Prompts = ()
    negative: str = ""
    embeddings: PathText | None = None
    null_class: CountFrom0 | None = None
    variance: Variance | None = None

    name: ClassVar[str] = "diffusers"

    def __post_init__(self) -> None:
        check_options(self, "model.options")
        if self.prompts and self.embeddings is not None:
            raise ConfigError("model.options.embeddings: these are of texts, so leave out prompts")

    def build(self) -> Model:
        """Return the model; ConfigError or CheckpointError say what is missing in the folder, or is not known."""
        folder = opened(self.path)
        index = index_of(folder)
        where, told = _network(folder, index)
        height, width = _sides(config_of(folder, where), folder)
        net = part(folder, where, index[where])
        channels = int(net.config["in_channels"])
        space = _space(folder, index, (height, width), channels)
        process = process_of(folder, height * width * channels, self.variance)
        conditions = self._conditions(folder, net, index, told)
        call = Call(height, width, channels, process.num_train_timesteps, process.name == "ddpm", told)
        shown = Foreign(net, call, conditions=conditions).eval()
        origin = SourceOrigin(self.name, dict(vars(self)))
        return Model(Policy(process, shown), space, origin, conditions=conditions)

    def _conditions(self, folder: Path, net: Any, index: Mapping[str, Any], told: str) -> Conditions | None:
        if told == _CLASSES:
            if self.prompts or self.embeddings is not None:
                raise ConfigError(f"model.options: {folder} is told classes and no texts: leave prompts out")
            return _classes(net, index, self.null_class)
        if self.null_class is not None:
            raise ConfigError(f"model.options.null_class: {folder} is told texts, and no classes: leave it out")
        if self.embeddings is not None:
            values = embeddings_of(Path(self.embeddings), int(net.config["cross_attention_dim"]))
        else:
            values = encoded(folder, index, (*self.prompts, self.negative))
        nothing = values.pop(self.negative if self.embeddings is None else "", None)
        if nothing is not None and self.negative in self.prompts:
            values[self.negative] = nothing
        if not values and nothing is None:
            raise ConfigError(f'{folder} is told texts: give prompts = ["…"] or embeddings under [model] options')
        return Conditions(values, nothing)


@dataclass(frozen=True)
class Call:
    """How a network is called with states `(B, H·W·C)`, times in [0, 1], and what it is told; so many states come back.

    Channels are last in states and first for the network. What it says beside those of the image, the widths of its
    steps, is left out.
    """

    height: int
    width: int
    channels: int
    times: int
    whole: bool
    told: str

    def __call__(self, net: nn.Module, x: Tensor, t: Tensor, *condition: Tensor) -> Tensor:
        image = x.unflatten(1, (self.height, self.width, self.channels)).permute(0, 3, 1, 2)
        time = (t * self.times).round() if self.whole else t * self.times
        output = tensor_of(net(image, time, **dict(zip((self.told,), condition))))
        return output[:, : self.channels].permute(0, 2, 3, 1).flatten(1)


def opened(path: str) -> Path:
    """Return the folder of a pipeline, of the hub if it is called so; ConfigError where it is none."""
    folder = place_of(path)
    if not (folder / INDEX).is_file():
        what = f"has no {INDEX}: is it one part of a pipeline?" if folder.is_dir() else "is not a folder"
        raise ConfigError(
            f'model.options.path: "{one_line(path)}" {what}; give the folder that save_pretrained of a pipeline of '
            f"diffusers wrote, or {HUB}owner/name"
        )
    return folder


def _network(folder: Path, index: Mapping[str, Any]) -> tuple[str, str]:
    """Return the part that is the network, and by which argument it is told a condition."""
    for where in ("unet", "transformer"):
        if where in index:
            name = index[where]
            if name not in NETWORKS:
                known = ", ".join(NETWORKS)
                raise ConfigError(f"{folder}: its network is a {one_line(name)}, and those known here are {known}")
            return where, NETWORKS[name][1]
    raise ConfigError(f"{folder}: {INDEX} names no unet and no transformer")


def _sides(config: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """Return height and width of the states; ConfigError where the network takes more than this family does."""
    for key in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type"):
        if config.get(key) is not None:
            raise ConfigError(
                f"{folder}: its network wants more than states, time and one condition ({key} = "
                f'"{one_line(config[key])}"): wrap it with a function that calls it (docs/bring_your_own_model.md)'
            )
    size = config.get("sample_size")
    sides = [size, size] if isinstance(size, int) else list(size or ())
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ConfigError(f"{folder}: the configuration of its network does not say how large images are (sample_size)")
    return sides[0], sides[1]


def _space(folder: Path, index: Mapping[str, Any], sides: tuple[int, int], channels: int) -> Space[Any]:
    height, width = sides
    if "vae" not in index:
        if channels not in (1, 3, 4):
            raise ConfigError(f"{folder}: images have 1, 3 or 4 colours, and its network reads {channels}")
        return Images(height, width, channels)
    autoencoder = autoencoder_of(folder, index["vae"], (height, width, channels))
    shape = autoencoder.shape
    return Latents(*shape, latents=math.prod((*sides, channels)), autoencoder=autoencoder)


def _classes(net: Any, index: Mapping[str, Any], null: int | None) -> Conditions | None:
    """Return the classes that a network is told, by number and by label."""
    config = net.config
    own = config.get("num_embeds_ada_norm")  # of a DiT, which has one more for none
    count = config.get("num_class_embeds") if own is None else own
    if not isinstance(count, int) or count < 1:
        if null is not None:
            raise ConfigError("model.options.null_class: its network is told no classes: leave it out")
        return None
    null = own if null is None else null
    if null is not None and null > (count if own is not None else count - 1):
        raise ConfigError(f"model.options.null_class: {null} of {count} classes, which are counted from 0")
    values = {str(number): torch.tensor(number) for number in range(count) if number != null}
    for number, text in dict(index.get("id2label") or {}).items():
        for label in str(text).split(","):
            if str(number) in values and label.strip():
                values.setdefault(label.strip(), values[str(number)])
    return Conditions(values, None if null is None else torch.tensor(null))
