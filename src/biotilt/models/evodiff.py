"""EvoDiff's order-agnostic models of proteins (OADM 38M and 640M; Alamdari et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import CheckpointError, ConfigError, one_line
from biotilt.model import Model
from biotilt.models.lengths import check_shortest, letters_of, new_ends
from biotilt.models.origin import SourceOrigin
from biotilt.networks.bytenet import ByteNet, ByteNetConfig
from biotilt.options import Length, PathText, Positive, check_options
from biotilt.processes import AnyOrder
from biotilt.schema import StoredTensors
from biotilt.spaces import PROTEIN
from biotilt.tensors import load_tensors

TOKENS = "ACDEFGHIKLMNPQRSTVWYBZXJOU-*#@!"
MASK = "#"
# what our layers are called in the file
_BLOCK = {
    "norms.0": "sequence1.0", "into": "sequence1.2.conv", "norms.1": "sequence1.3", "conv": "conv",
    "norms.2": "sequence2.0", "out": "sequence2.2.conv",
}  # fmt: skip
_OUTSIDE = {
    "embed": "embedder.embedder", "start": "embedder.up_embedder.conv", "norm": "last_norm", "head": "decoder.conv",
}  # fmt: skip


class WeightsFile(StoredTensors):
    """The metadata of weights that `biotilt convert` wrote."""

    kind: ClassVar[str] = "weights of evodiff"
    called: ClassVar[str] = 'weights of EvoDiff, such as "biotilt convert evodiff" writes'


@dataclass(frozen=True)
class EvoDiff:
    """Proteins of `length` residues, one after the other in random order, each drawn given all that are there.

    Only the 20 residues are drawn: what the network says of B, Z, X, J, O, U, gaps and stops is left out.

    Args:
        path: a file that `biotilt convert evodiff` made of oaar-38M.tar or oaar-640M.tar.
        length: residues of a design.
        temperature: logits are divided by it.
        shortest: designs have any length from this to `length`, all alike at first.
    """

    path: PathText
    length: Length
    temperature: Positive = 1.0
    shortest: Length | None = None

    name: ClassVar[str] = "evodiff"

    def __post_init__(self) -> None:
        check_options(self, "model.options")
        check_shortest(self.shortest, self.length)

    def build(self) -> Model:
        """Return the model; ConfigError or CheckpointError say what is wrong with the file."""
        net = network(Path(self.path), self.temperature, self.shortest or 0)
        space = letters_of(PROTEIN, self.length, self.shortest)
        process = AnyOrder(length=self.length, letters=len(space.symbols))
        return Model(Policy(process, net.eval()), space, SourceOrigin(self.name, dict(vars(self))))


def network(path: Path, temperature: float = 1.0, shortest: int = 0) -> ByteNet:
    """Return the network of a file, whose sizes are those of its weights."""
    if path.suffix != ".safetensors":
        raise ConfigError(
            f'model.options.path: "{one_line(path)}" is no .safetensors; make one of the public file, which is a '
            "pickle: biotilt convert evodiff oaar-38M.tar evodiff-38M.safetensors"
        )
    if not path.is_file():
        raise ConfigError(f'model.options.path: "{one_line(path)}" is not a file')
    tensors, _ = load_tensors(path, WeightsFile)
    with torch.device("meta"):  # the weights of the file take the place of random ones that nobody drew
        net = ByteNet(sizes(tensors, path, temperature, shortest))
    found = {}
    for name, place in net.state_dict().items():
        if name.startswith("ends."):
            continue
        theirs = _theirs(name)
        if theirs not in tensors:
            raise CheckpointError(f'{path}: the weights lack "{theirs}": is it another model?')
        tensor = tensors[theirs].float()
        found[name] = tensor.squeeze(-1) if tensor.dim() == place.dim() + 1 else tensor  # a layer of width one
        if found[name].shape != place.shape:
            raise CheckpointError(f'{path}: "{theirs}" is {list(tensor.shape)}, not {list(place.shape)} as the others')
    if odd := sorted(tensors.keys() - {_theirs(name) for name in found}):
        raise CheckpointError(f'{path}: there are weights "{one_line(odd[0])}", which an OADM does not have')
    net.load_state_dict(found | new_ends(net.ends), assign=True)
    return net


def sizes(tensors: Mapping[str, Tensor], path: Path, temperature: float, shortest: int) -> ByteNetConfig:
    """Return the sizes of a network with these weights; CheckpointError where they are not EvoDiff's."""
    told = [
        tensors.get(f"{name}.weight")
        for name in ("embedder.embedder", "embedder.up_embedder.conv", "embedder.layers.0.conv")
    ]
    embedding, start, conv = (torch.empty(0) if tensor is None else tensor for tensor in told)
    if (embedding.dim(), start.dim(), conv.dim()) != (2, 3, 3) or len(embedding) != len(TOKENS):
        raise CheckpointError(
            f"{path}: no weights of an OADM, which has {len(TOKENS)} tokens: are they of another of EvoDiff's models?"
        )
    layers = {name.split(".")[2] for name in tensors if name.startswith("embedder.layers.")}
    tokens = (*map(TOKENS.index, PROTEIN.letters), TOKENS.index(MASK))
    return ByteNetConfig(
        tokens, len(TOKENS), embedding.shape[1], start.shape[0], conv.shape[0], len(layers), conv.shape[2],
        temperature=temperature, shortest=shortest,
    )  # fmt: skip


def _theirs(name: str) -> str:
    """Return what a tensor of ours is called in the file."""
    layer, _, kind = name.rpartition(".")
    if layer in _OUTSIDE:
        return f"{_OUTSIDE[layer]}.{kind}"
    _, number, inside = layer.split(".", 2)
    return f"embedder.layers.{number}.{_BLOCK[inside]}.{kind}"
