"""Texts as conditions: what the text encoder of a pipeline makes of them, or a file of such embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.errors import CheckpointError, ConfigError, needs_extra, one_line
from biotilt.tensors import load_weights


@torch.no_grad()
def encoded(folder: Path, index: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Tensor]:
    """Return the embedding `(tokens, width)` of each text, by the tokeniser and the CLIP of a pipeline.

    {} where the pipeline has none. Raises ConfigError where transformers is missing or cannot build them.
    """
    if index.get("text_encoder") is None or index.get("tokenizer") is None:
        return {}
    if index["text_encoder"] != "CLIPTextModel":
        raise ConfigError(
            f"{folder}: its text encoder is a {one_line(index['text_encoder'])}, and the one known here is "
            "CLIPTextModel: encode the texts yourself, and name the file as embeddings under [model] options"
        )
    transformers = needs_extra("transformers", "folding")
    try:
        tokeniser = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = transformers.CLIPTextModel.from_pretrained(
            folder / "text_encoder", local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ConfigError(f"{folder}: transformers cannot build its text encoder: {one_line(error)}") from error
    length = min(tokeniser.model_max_length, encoder.config.max_position_embeddings)
    options: dict[str, Any] = {"padding": "max_length", "max_length": length, "truncation": True}
    found = {}
    for text in dict.fromkeys(texts):
        tokens = tokeniser(text, return_tensors="pt", **options)
        found[text] = encoder(tokens.input_ids)[0][0].clone()
    return found


def embeddings_of(path: Path, width: int) -> dict[str, Tensor]:
    """Return the embedding `(tokens, width)` of each text in a safetensors file, in float32.

    Raises ConfigError where there is no such file, CheckpointError where they are of other shapes.
    """
    if not path.is_file():
        raise ConfigError(f'model.options.embeddings: "{path}" is not a file')
    found = {text: tensor.float() for text, tensor in load_weights(path).items()}
    shapes = {tuple(tensor.shape) for tensor in found.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or next(iter(shapes))[1] != width:
        raise CheckpointError(
            f"{path}: embeddings are tensors (tokens, {width}) of one shape, and these are "
            f"{', '.join(map(str, sorted(shapes))) or 'none'}"
        )
    return found
