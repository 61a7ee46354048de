"""GenMol (Lee et al. 2025, arXiv 2501.06158): masked diffusion of molecules as pieces of SAFE, off the public file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import ConfigError, DataError
from biotilt.files import read_json
from biotilt.model import Model
from biotilt.models.hub import place_of, weights_file
from biotilt.models.hugging_face import Tokens, tokens_of
from biotilt.models.lengths import check_shortest
from biotilt.models.origin import SourceOrigin
from biotilt.networks.esm import ESM, ESMConfig
from biotilt.options import Flag, Length, PathText, Positive, Width, check_options
from biotilt.processes import PROCESSES
from biotilt.schema import StoredTensors
from biotilt.spaces.safe import Safe
from biotilt.tensors import load_described, with_weights

TOKENIZER = "tokenizer.json"
HEAD = 64  # channels of a head, where the file does not say how many there are
_LAYER = "bert.encoder.layer."
_BLOCK = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "out": "attention.output.dense", "norms.0": "attention.output.LayerNorm", "norms.1": "output.LayerNorm",
    "up": "intermediate.dense", "down": "output.dense",
}  # fmt: skip
_OUTSIDE = {
    "embed.weight": "bert.embeddings.word_embeddings.weight",
    "before.weight": "bert.embeddings.LayerNorm.weight", "before.bias": "bert.embeddings.LayerNorm.bias",
    "dense.weight": "cls.predictions.transform.dense.weight", "dense.bias": "cls.predictions.transform.dense.bias",
    "head_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "head_norm.bias": "cls.predictions.transform.LayerNorm.bias", "bias": "cls.predictions.bias",
}  # fmt: skip
_PLACES, _KINDS = "bert.embeddings.position_embeddings.weight", "bert.embeddings.token_type_embeddings.weight"


class WeightsFile(StoredTensors):
    """The metadata of weights that `biotilt convert` wrote."""

    kind: ClassVar[str] = "weights of genmol"
    called: ClassVar[str] = 'weights of GenMol, such as "biotilt convert genmol" writes'

    heads: Width | None = None
    eps: Positive = 1e-12
    brackets: bool = False


@dataclass(frozen=True)
class GenMol:
    """Molecules of up to `length` pieces, by GenMol's own weights and vocabulary; designs are SMILES.

    Args:
        weights: the .safetensors file of `biotilt convert genmol model.ckpt`, or a folder with it.
        length: pieces of a design, between the tokens that GenMol has around it.
        tokenizer: the tokenizer.json that GenMol learned with (of datamol-io/safe-gpt), or the folder with it; by
            default it lies beside the weights.
        shortest: designs have any length from this to `length`, all alike at first; by default `length` alone.
        process: "any_order", `per_step` pieces a step, or "masked", with `num_steps`, which GenMol was trained as; or
            "confidence", the surest piece first, as the original samples.
        temperature: logits are divided by it.
        ema: the moving averages of the weights, by which the original samples, where the file has them.
    """

    weights: PathText
    length: Length
    tokenizer: PathText | None = None
    shortest: Length | None = None
    process: Literal["any_order", "confidence", "masked"] = "any_order"
    temperature: Positive = 1.0
    ema: Flag = True

    name: ClassVar[str] = "genmol"

    def __post_init__(self) -> None:
        check_options(self, "model.options")
        check_shortest(self.shortest, self.length)

    def build(self) -> Model:
        """Return the model; ConfigError, DataError or CheckpointError say what is missing, or does not fit."""
        path = weights_file(self.weights, self.name)
        tokens, space = self._vocabulary(path)
        tensors, said = load_described(path, WeightsFile)
        about = WeightsFile() if said is None else said
        if about.brackets:
            raise ConfigError(
                f"{path} is a second version of GenMol, which writes the bonds between fragments in brackets; files of "
                "the first are read, trained with use_bracket_safe = false"
            )
        net = self._network(path, self._chosen(tensors), about, tokens, space)
        made = {"name": self.process, "length": self.length, "letters": len(space.symbols)}
        policy = Policy(PROCESSES.of_table(made), net.eval())
        return Model(policy, space, SourceOrigin(self.name, dict(vars(self))))

    def _vocabulary(self, path: Path) -> tuple[Tokens, Safe]:
        """Return the tokens of the file of a tokeniser, and the space of those that are pieces."""
        place = path.parent if self.tokenizer is None else place_of(self.tokenizer)
        file = place / TOKENIZER if place.is_dir() else place
        if not file.is_file() or file.name != TOKENIZER:
            raise ConfigError(
                f"model.options.tokenizer: there is no {file}; GenMol's vocabulary is the {TOKENIZER} of "
                "huggingface.co/datamol-io/safe-gpt: put it beside the weights, or say where it is"
            )
        tokens, said = tokens_of(file.parent, {}), read_json(file)
        special = {str(token.get("content")) for token in said.get("added_tokens") or [] if token.get("special")}
        merges = [" ".join(pair) if isinstance(pair, list) else str(pair) for pair in said["model"].get("merges") or []]
        pieces = sorted(tokens.ids.keys() - special, key=tokens.ids.__getitem__)
        return tokens, Safe(tuple(pieces), self.length, tuple(merges))

    def _chosen(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        averages = {name.removeprefix("ema."): value for name, value in tensors.items() if name.startswith("ema.")}
        rest = {name.removeprefix("backbone."): value for name, value in tensors.items() if not name.startswith("ema.")}
        return rest | averages if self.ema else rest

    def _network(
        self, path: Path, tensors: dict[str, Tensor], about: WeightsFile, tokens: Tokens, space: Safe
    ) -> ESM:  # fmt: skip
        for name in (_PLACES, _KINDS, _OUTSIDE["embed.weight"]):
            if name not in tensors or tensors[name].dim() != 2:
                raise DataError(f'{path}: no weights of GenMol: "backbone.{name}" is missing, or no table')
        vocabulary, width = tensors[_OUTSIDE["embed.weight"]].shape
        places = len(tensors[_PLACES])
        most = places - len(tokens.first) - len(tokens.last)
        if self.length > most:
            raise ConfigError(f"model.options.length: {path} knows {most} positions, and designs have {self.length}")
        if (highest := max(tokens.ids.values())) >= vocabulary:
            raise ConfigError(
                f"model.options.tokenizer: it has a token {highest}, and the network in {path} knows {vocabulary}"
            )
        numbers = [int(name.split(".")[3]) for name in tensors if name.startswith(_LAYER)]
        inside = tensors.get(f"{_LAYER}0.intermediate.dense.weight", torch.empty(1))
        heads = about.heads or max(width // HEAD, 1)
        config = ESMConfig(
            (*(tokens.ids[piece] for piece in space.vocabulary), tokens.mask), tokens.first, tokens.last, vocabulary,
            width, 1 + max(numbers, default=0), heads, len(inside), places,
            eps=about.eps, norm_before=True, temperature=self.temperature, shortest=self.shortest or self.length,
            norm_after=True,
        )  # fmt: skip
        ends = {"ends.weight": torch.zeros(1, width), "ends.bias": torch.zeros(1)}  # of lengths nothing is known yet
        return with_weights(path, lambda: ESM(config), ours(tensors) | ends)


def ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a BERT by the names of our layers; those that have none keep theirs."""
    here = {theirs: name for name, theirs in _OUTSIDE.items()}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(_LAYER):
            number, rest = name.removeprefix(_LAYER).split(".", 1)
            layer, _, kind = rest.rpartition(".")
            known = next((ours for ours, theirs in _BLOCK.items() if theirs == layer), layer)
            found[f"blocks.{number}.{known}.{kind}"] = tensor
        elif name not in (_PLACES, _KINDS):
            found[here.get(name, name)] = tensor
    # all of a design is of the first kind of token, so that is part of every position
    return found | {"position": tensors[_PLACES] + tensors[_KINDS][:1]}
