"""Tiny pipelines with random weights, as diffusers itself writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIZE = 8


def unet(classes: int | None = None, colours: int = 3) -> Any:
    import diffusers

    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=SIZE, in_channels=colours, out_channels=colours, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8, num_class_embeds=classes,
    ).eval()  # fmt: skip


def autoencoder() -> Any:
    import diffusers

    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=2 * SIZE, scaling_factor=0.5,
        shift_factor=0.1, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip


def dit(learned: bool = True) -> Any:
    import diffusers

    torch.manual_seed(2)
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8 if learned else 4, num_layers=2,
        sample_size=SIZE, patch_size=2, num_embeds_ada_norm=3,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():  # some start at zero, where nothing would show
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return net


def written(folder: Path, **parts: Any) -> Path:
    """Write parts, each by its own library, and the index that a pipeline of diffusers writes beside them.

    A pipeline itself would take seconds to import.
    """
    index: dict[str, Any] = {"_class_name": "SomePipeline", "safety_checker": [None, None]}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def ddpm(folder: Path, classes: int | None = None, **scheduler: Any) -> Path:
    """Write a pipeline of images: a UNet and a DDPM scheduler."""
    import diffusers

    theirs = diffusers.DDPMScheduler(**({"num_train_timesteps": 100} | scheduler))
    return written(folder, unet=unet(classes), scheduler=theirs)


def latent(folder: Path, **scheduler: Any) -> Path:
    """Write a pipeline of a DiT over latents, told one of three classes."""
    import diffusers

    theirs = diffusers.DDIMScheduler(**({"num_train_timesteps": 100, "clip_sample": False} | scheduler))
    written(folder, transformer=dit(), vae=autoencoder(), scheduler=theirs)
    said = json.loads((folder / "model_index.json").read_text())
    labels = {"0": "cat, tabby", "1": "dog", "2": "owl"}  # as the public DiT has them
    (folder / "model_index.json").write_text(json.dumps(said | {"id2label": labels}))
    return folder


def texts(folder: Path) -> Path:
    """Write a pipeline of latents that is told texts: a conditional UNet, a CLIP and its tokeniser."""
    import diffusers
    import transformers

    torch.manual_seed(3)
    net = diffusers.UNet2DConditionModel(
        sample_size=SIZE, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4, cross_attention_dim=12,
        block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=4,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    config = transformers.CLIPTextConfig(
        vocab_size=50, hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=9, bos_token_id=48, eos_token_id=49, pad_token_id=49,
    )  # fmt: skip
    signs = "abcdefghijklmnopqrstuvw"
    words = {sign: number for number, sign in enumerate([*signs, *(f"{sign}</w>" for sign in signs)])}
    words |= {"<|startoftext|>": 48, "<|endoftext|>": 49}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokeniser = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=9)
    theirs = diffusers.PNDMScheduler(
        num_train_timesteps=100, beta_schedule="scaled_linear", skip_prk_steps=True, set_alpha_to_one=False
    )
    clip = transformers.CLIPTextModel(config)
    return written(folder, vae=autoencoder(), text_encoder=clip, tokenizer=tokeniser, unet=net, scheduler=theirs)
