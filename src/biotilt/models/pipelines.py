"""The parts of a pipeline of diffusers in its folder: networks and autoencoders, in float32, from safetensors alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.errors import CheckpointError, ConfigError, needs_extra, one_line
from biotilt.files import read_json
from biotilt.models.hub import CONFIG, INDEX


def index_of(folder: Path) -> dict[str, Any]:
    """Return the class of each part that a pipeline has, by its folder, and `id2label` where it says that."""
    said = read_json(folder / INDEX)
    if not isinstance(said, Mapping):
        raise CheckpointError(f"{folder / INDEX} must be a table of the parts of a pipeline")
    parts = {
        name: kind[1]
        for name, kind in said.items()
        if isinstance(kind, list) and len(kind) == 2 and isinstance(kind[1], str)
    }
    labels = said.get("id2label")
    return parts | ({"id2label": labels} if isinstance(labels, Mapping) else {})


def config_of(folder: Path, where: str) -> dict[str, Any]:
    """Return the configuration of a part; CheckpointError where it has none."""
    said = read_json(folder / where / CONFIG)
    if not isinstance(said, dict):
        raise CheckpointError(f"{folder / where / CONFIG} must be a table of settings")
    return said


def part(folder: Path, where: str, name: str) -> Any:
    """Return a network of a pipeline by the name of its class, in evaluation mode; no code in the folder is run.

    Raises CheckpointError where its files are missing, damaged, or those of another network.
    """
    kind: Any = getattr(needs_extra("diffusers", "diffusers"), name)
    try:
        with torch.random.fork_rng(devices=[]):  # weights that are drawn before those of the file take their place
            net, about = kind.from_pretrained(
                folder / where, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False,
                output_loading_info=True, torch_dtype=torch.float32,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{folder / where}: diffusers cannot build a {name} of it: {one_line(error)}") from error
    missing = sorted(map(str, about["missing_keys"]))
    if missing:
        raise CheckpointError(f'{folder / where}: the weights lack "{missing[0]}": is it another network?')
    return net.eval()


@dataclass(frozen=True, eq=False)
class KLAutoencoder:
    """An `AutoencoderKL` between latents of `sides` (H, W, C) and images of `shape` (H, W, C).

    Latents are those of the network: (z − `shift`) · `scale` of what the encoder gives.
    """

    net: nn.Module
    sides: tuple[int, int, int]
    shape: tuple[int, int, int]
    scale: float
    shift: float
    mark: str

    def decoded(self, latents: Tensor) -> Tensor:
        net = self._near(latents)
        z = latents.to(net.device).unflatten(1, self.sides).permute(0, 3, 1, 2)
        return net.decode(z / self.scale + self.shift).sample.permute(0, 2, 3, 1).to(latents.device)

    def encoded(self, pixels: Tensor) -> Tensor:
        net = self._near(pixels)
        z = net.encode(pixels.to(net.device).permute(0, 3, 1, 2)).latent_dist.mean
        return ((z - self.shift) * self.scale).permute(0, 2, 3, 1).flatten(1).to(pixels.device)

    def _near(self, tensor: Tensor) -> Any:
        """Return the network, which goes to an accelerator with the first tensor that is there, and stays."""
        return self.net if tensor.device.type == "cpu" else self.net.to(tensor.device)


def autoencoder_of(folder: Path, name: str, sides: tuple[int, int, int]) -> KLAutoencoder:
    """Return the autoencoder of a pipeline whose latents are `sides` (H, W, C); ConfigError where it does not fit."""
    if name != "AutoencoderKL":
        raise ConfigError(f"{folder}: its autoencoder is a {one_line(name)}, and the one known here is AutoencoderKL")
    net = part(folder, "vae", name).requires_grad_(False)
    config = net.config
    if config["latent_channels"] != sides[2]:
        raise ConfigError(
            f"{folder}: its network reads {sides[2]} channels, and its autoencoder gives {config['latent_channels']}"
        )
    times = 2 ** (len(config["block_out_channels"]) - 1)
    shape = (sides[0] * times, sides[1] * times, int(config["out_channels"]))
    scale, shift = float(config["scaling_factor"]), float(config.get("shift_factor") or 0.0)
    return KLAutoencoder(net, sides, shape, scale, shift, _mark(net))


def _mark(net: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        found.update(name.encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]
