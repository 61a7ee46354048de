"""ESM2, DPLM and other masked language models of single letters, as Hugging Face stores them, off a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from biotilt.core import Policy
from biotilt.errors import CheckpointError, ConfigError, needs_extra, one_line
from biotilt.files import read_json
from biotilt.model import Model
from biotilt.models.foreign import Foreign, tensor_of
from biotilt.models.hugging_face import CONFIG, Tokens, opened, tokens_of, weights
from biotilt.models.lengths import check_shortest, letters_of, new_ends
from biotilt.models.origin import SourceOrigin
from biotilt.networks.esm import ESM, ESMConfig, frequencies
from biotilt.options import Count, CountFrom0, Layers, Length, PathText, Positive, Symbols, Text, Width, check_options
from biotilt.processes import PROCESSES
from biotilt.schema import Name, Stored

# what our layers are called in the files
_BLOCK = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "out": "attention.output.dense", "norms.0": "attention.LayerNorm", "norms.1": "LayerNorm",
    "up": "intermediate.dense", "down": "output.dense",
}  # fmt: skip
_OUTSIDE = {
    "embed.weight": "esm.embeddings.word_embeddings.weight", "position": "esm.embeddings.position_embeddings.weight",
    "before.weight": "esm.embeddings.layer_norm.weight", "before.bias": "esm.embeddings.layer_norm.bias",
    "norm.weight": "esm.encoder.emb_layer_norm_after.weight", "norm.bias": "esm.encoder.emb_layer_norm_after.bias",
    "dense.weight": "lm_head.dense.weight", "dense.bias": "lm_head.dense.bias",
    "head_norm.weight": "lm_head.layer_norm.weight", "head_norm.bias": "lm_head.layer_norm.bias",
    "decoder": "lm_head.decoder.weight", "bias": "lm_head.bias",
}  # fmt: skip
_FREQUENCY = "rotary_embeddings.inv_freq"  # of each layer in old files, of all in new ones: the same
_OLD = {".gamma": ".weight", ".beta": ".bias"}  # norms, also as transformers 5 writes them
# in some files, and for nothing that is computed here: contacts, a summary of sequences, numbers, copies of others
_UNUSED = ("esm.contact_head.", "esm.pooler.", "esm.embeddings.position_", "lm_head.decoder.", "lm_head.bias")


class ConfigFile(Stored):
    """What a config.json says of an ESM."""

    model_type: Name
    vocab_size: Symbols
    hidden_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Width
    intermediate_size: Count
    position_embedding_type: Text = "absolute"
    max_position_embeddings: CountFrom0 = 1026
    pad_token_id: CountFrom0 | None = None
    layer_norm_eps: Positive = 1e-12
    rope_theta: Positive = 10_000.0
    token_dropout: bool | None = False
    emb_layer_norm_before: bool | None = False
    tie_word_embeddings: bool = True


@dataclass(frozen=True)
class MaskedLM:
    """Sequences of `length` letters, each drawn given all that are there, by the masked language model in `path`.

    The folder is as Hugging Face has it: config.json, model.safetensors and the vocabulary. What has the layout of ESM2
    is a network of biotilt; any other masked language model is built by transformers, if that is installed. What it
    says of its other tokens (its mask, ends, pads, X) is left out, so none of them is ever drawn.

    Args:
        path: the folder.
        length: letters of a design.
        alphabet: "protein", "dna" or "rna"; by default what the vocabulary has.
        process: "any_order", one letter or `per_step` of them a step in random order; "confidence", where the model is
            most sure first, as DPLM is drawn from; "masked"; or "remasking", which hides some letters again.
        temperature: logits are divided by it.
        shortest: designs have any length from this to `length`, all alike at first (for the layout of ESM2 only).
    """

    path: PathText
    length: Length
    alphabet: Text | None = None
    process: Literal["any_order", "confidence", "masked", "remasking"] = "any_order"
    temperature: Positive = 1.0
    shortest: Length | None = None

    name: ClassVar[str] = "esm"

    def __post_init__(self) -> None:
        check_options(self, "model.options")
        check_shortest(self.shortest, self.length)

    def build(self) -> Model:
        """Return the model; ConfigError or CheckpointError say what is missing in the folder, or does not fit."""
        folder = opened(self.path)
        config = read_json(folder / CONFIG)
        if not isinstance(config, dict):
            raise CheckpointError(f"{folder / CONFIG} must be a table of settings")
        tokens = tokens_of(folder, config)
        alphabet = tokens.alphabet(self.alphabet, folder)
        letters = tokens.letters(alphabet, folder)
        if is_esm(config):
            net: nn.Module = encoder(folder, tokens, letters, self.length, self.temperature, self.shortest or 0)
        elif self.shortest is not None:
            raise ConfigError(
                f"model.options.shortest: {folder} is of the type {one_line(config.get('model_type'))}, and only "
                "networks of the layout of ESM2 make designs of several lengths: leave it out"
            )
        else:
            net = by_transformers(folder, tokens, letters, self.temperature)
        space = letters_of(alphabet, self.length, self.shortest)
        process = PROCESSES.of_table({"name": self.process, "length": self.length, "letters": len(space.symbols)})
        return Model(Policy(process, net.eval()), space, SourceOrigin(self.name, dict(vars(self))))


def is_esm(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is that of a network which biotilt has itself."""
    known = config.get("position_embedding_type", "absolute") in ("absolute", "rotary")
    return config.get("model_type") == "esm" and known and not config.get("is_folding_model")


def encoder(
    folder: Path, tokens: Tokens, letters: tuple[int, ...], length: int, temperature: float = 1.0, shortest: int = 0
) -> ESM:  # fmt: skip
    """Return the network of a folder with its weights.

    Raises ConfigError where designs are longer than its table of positions, CheckpointError where the weights are not
    those that its configuration describes.
    """
    said: ConfigFile = read_json(folder / CONFIG, ConfigFile)
    rotary = said.position_embedding_type == "rotary"
    skipped = 0 if rotary else (said.pad_token_id or 0) + 1
    most = said.max_position_embeddings - skipped - len(tokens.first) - len(tokens.last)
    if not rotary and length > most:
        raise ConfigError(f"model.options.length: {folder} knows {most} positions, and designs have {length}")
    config = ESMConfig(
        (*letters, tokens.mask), tokens.first, tokens.last, said.vocab_size, said.hidden_size, said.num_hidden_layers,
        said.num_attention_heads, said.intermediate_size, 0 if rotary else said.max_position_embeddings, skipped,
        said.layer_norm_eps, bool(said.token_dropout), bool(said.emb_layer_norm_before), said.tie_word_embeddings,
        temperature, shortest,
    )  # fmt: skip
    with torch.device("meta"):  # the weights of a file take the place of random ones that nobody drew
        net = ESM(config)
    found = ours(net, weights(folder), folder)
    if rotary and "frequency" not in found:
        found["frequency"] = frequencies(said.hidden_size // said.num_attention_heads, said.rope_theta)
    net.load_state_dict(found | new_ends(net.ends), assign=True)
    return net


def ours(net: ESM, tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return the weights of a folder by the names of our layers, in float32.

    Raises CheckpointError, by the names of the files, where some are missing, of another shape or not finite, or others
    are there than such a network has.
    """
    known = {_modern(name): tensor for name, tensor in tensors.items()}
    wanted = {_theirs(name): name for name in net.state_dict() if not name.startswith("ends.")}
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    _refuse(sorted(wanted.keys() - known.keys() - {_FREQUENCY}), folder, "the weights lack {}")
    odd = sorted(name for name in known.keys() - wanted.keys() if not name.startswith(_UNUSED))
    _refuse(odd, folder, "there are weights {}, which an ESM does not have")
    found = {}
    for name in sorted(wanted.keys() & known.keys()):
        tensor, shape = known[name], shapes[wanted[name]]
        if tensor.shape != shape:
            raise CheckpointError(f'{folder}: "{name}" is {list(tensor.shape)}, and {CONFIG} describes {list(shape)}')
        if not tensor.is_floating_point() or not bool(tensor.float().isfinite().all()):
            raise CheckpointError(f'{folder}: the weights "{name}" are not all finite numbers')
        found[wanted[name]] = tensor.float()
    return found


def _refuse(names: list[str], folder: Path, what: str) -> None:
    """Raise CheckpointError about weights, unless there are none of them."""
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        said = what.format(f'"{one_line(names[0])}"{more}')
        raise CheckpointError(f"{folder}: {said}: is it another model, or not a masked language model?")


def _modern(name: str) -> str:
    """Return the name of a tensor in today's files."""
    if name.endswith(_FREQUENCY):
        return _FREQUENCY
    stem, dot, kind = name.rpartition(".")
    return stem + _OLD.get(dot + kind, dot + kind)


def _theirs(name: str) -> str:
    """Return what a tensor of ours is called in the files."""
    if name == "frequency":
        return _FREQUENCY
    if not name.startswith("blocks."):
        return _OUTSIDE[name]
    _, number, inside = name.split(".", 2)
    layer, _, kind = inside.rpartition(".")
    return f"esm.encoder.layer.{number}.{_BLOCK[layer]}.{kind}"


def by_transformers(folder: Path, tokens: Tokens, letters: tuple[int, ...], temperature: float = 1.0) -> Foreign:
    """Return the masked language model that transformers makes of a folder; no code in the folder is run.

    Raises ConfigError where transformers is missing or knows no such model, and where weights are missing.
    """
    kind: Any = needs_extra("transformers", "folding").AutoModelForMaskedLM
    try:
        net, about = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            dtype=torch.float32,
        )  # fmt: skip
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        raise ConfigError(f"{folder}: transformers cannot build a masked language model of it: {error}") from error
    _refuse(sorted(map(str, about["missing_keys"])), folder, "the weights lack {}")

    def call(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        return tensor_of(net(x)).float() / temperature

    return Foreign(net, call, (*letters, tokens.mask), tokens.first, tokens.last)
