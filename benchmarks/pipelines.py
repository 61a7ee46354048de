"""Pipelines of diffusers that benchmarks make: random weights, and what the library says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt import Model
from biotilt.errors import needs_extra


def written(folder: Path, **parts: Any) -> None:
    """Write parts as a pipeline of diffusers has them."""
    index: dict[str, Any] = {"_class_name": "SomePipeline"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def unet_parts() -> dict[str, Any]:
    diffusers: Any = needs_extra("diffusers", "diffusers")
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=32, block_out_channels=(32, 64, 64), layers_per_block=1, norm_num_groups=8, attention_head_dim=32,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return {"unet": net.eval(), "scheduler": diffusers.DDIMScheduler(clip_sample=False)}


def dit_parts() -> dict[str, Any]:
    diffusers: Any = needs_extra("diffusers", "diffusers")
    torch.manual_seed(0)
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=32, in_channels=4, out_channels=8, num_layers=6, sample_size=16,
        patch_size=2, num_embeds_ada_norm=10,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():  # the last layers start at zero, where nothing would show
            if not bool(parameter.any()):
                parameter.add_(0.05 * torch.randn(parameter.shape))
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=8,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, sample_size=32,
    )  # fmt: skip
    return {"transformer": net.eval(), "vae": vae, "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0)}


PIPELINES = {"unet": unet_parts, "dit": dit_parts}


def pipeline(folder: Path, which: str) -> None:
    """Write parts of random weights, "unet" or "dit", into a folder of that name."""
    written(folder / which, **PIPELINES[which]())


def step_of_diffusers(folder: Path, model: Model) -> Callable[[Tensor], Tensor]:
    """Return what the network says at the first step, and the scheduler's next state, of states."""
    diffusers: Any = needs_extra("diffusers", "diffusers")
    process: Any = model.policy.process
    which = "unet" if process.name == "ddpm" else "dit"
    kind = {"unet": diffusers.UNet2DModel, "dit": diffusers.DiTTransformer2DModel}[which]
    part = folder / which / {"unet": "unet", "dit": "transformer"}[which]
    net = kind.from_pretrained(part).eval()
    config = folder / which / "scheduler"
    if which == "unet":
        scheduler: Any = diffusers.DDIMScheduler.from_pretrained(config)
        more: dict[str, Any] = {"eta": 1.0, "variance_noise": torch.zeros(())}
    else:
        scheduler, more = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(config), {}
    scheduler.set_timesteps(process.num_steps)
    channels, t = net.config["in_channels"], scheduler.timesteps[0]
    side = net.config["sample_size"]

    def asked(x: Tensor) -> Tensor:
        image = x.view(-1, side, side, channels).permute(0, 3, 1, 2)
        told = {} if which == "unet" else {"class_labels": torch.full((len(x),), 10)}
        output = net(image, t.expand(len(x)), **told).sample[:, :channels]
        after = scheduler.step(output, t, image, **more).prev_sample
        return torch.cat([each.permute(0, 2, 3, 1).flatten(1) for each in (output, after)], 1)

    return asked
