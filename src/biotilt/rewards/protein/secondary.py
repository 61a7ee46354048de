"""Secondary structure predicted from sequence alone: a small convolutional network of helix, strand and coil."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.files import blamed_on
from biotilt.options import Below1, Dilations, Kernel, PathText, Width, build_options, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.schema import Name, StoredTensors
from biotilt.spaces import PROTEIN, Padded
from biotilt.tensors import ensemble, halved, load_tensors, save_tensors

CLASSES = "HEC"  # helix, strand, coil: the three states of DSSP, H = {H, G, I}, E = {E, B}, C = the rest
SHIPPED = Path(__file__).parents[2] / "tasks" / "protein"


@dataclass(frozen=True)
class SecondaryConfig:
    """`len(dilations)` residual convolutions of `channels` with an odd `kernel`, block b dilated by `dilations[b]`.

    Raises ConfigError when `kernel` is even or there is no block.
    """

    channels: Width = 64
    kernel: Kernel = 7
    dilations: Dilations = (1, 2, 4)
    dropout: Below1 = 0.2

    def __post_init__(self) -> None:
        check_options(self, 'predictor "secondary_structure"')


class SecondaryFile(StoredTensors):
    """The metadata of the file of a predictor of secondary structure."""

    kind: ClassVar[str] = "secondary_structure"
    called: ClassVar[str] = "a predictor of secondary structure"

    name: Name
    config: list[dict[str, Any]] = Field(min_length=1, max_length=1_000)


class SecondaryNet(nn.Module):
    """Letter probabilities `(B, L, 20)` → logits `(B, L, 3)` of helix, strand and coil at each place.

    A place that holds no letter is all zeros, and stays zero in every layer. So a design has the same logits
    however many places are empty after its end.
    """

    def __init__(self, config: SecondaryConfig) -> None:
        super().__init__()
        self.config = config
        c, k = config.channels, config.kernel
        self.embed = nn.Conv1d(len(PROTEIN.letters), c, k, padding=k // 2)
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in config.dilations)
        self.convs = nn.ModuleList(nn.Conv1d(c, c, k, padding=d * (k // 2), dilation=d) for d in config.dilations)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, c), nn.GELU(), nn.Linear(c, len(CLASSES)))

    def forward(self, letters: Tensor) -> Tensor:
        present = letters.sum(-1, keepdim=True)
        h = F.gelu(self.embed(letters.transpose(1, 2)).transpose(1, 2)) * present
        for norm, conv in zip(self.norms, self.convs):
            read = self.dropout(norm(h) * present)
            h = h + F.gelu(conv(read.transpose(1, 2)).transpose(1, 2)) * present
        return self.head(self.dropout(h))


class SecondaryPredictor:
    """The mean of an ensemble of networks: probabilities of helix, strand and coil of each residue."""

    def __init__(self, members: Sequence[SecondaryNet], name: str, version: str) -> None:
        self.members = [member.eval().requires_grad_(False) for member in members]
        self.name, self.version = name, version

    def probabilities(self, letters: Tensor) -> Tensor:
        """Return `(B, L, 3)`, in the order of `CLASSES`, of letter probabilities `(B, L, 20)`; gradients flow.

        The networks go to where the letters are, and stay there.
        """
        return torch.stack([member.to(letters.device)(letters).softmax(-1) for member in self.members]).mean(0)

    @torch.no_grad()
    def of_designs(self, designs: Sequence[str], *, chunk: int = 512) -> list[Tensor]:
        """Return for each design, of any length, `(len(design), 3)`; DataError for a letter that is no residue."""
        found: list[Tensor] = []
        for start in range(0, len(designs), chunk):
            part = designs[start : start + chunk]
            letters = encode_letters(part).to(next(self.members[0].parameters()).device)
            found += [p[: len(design)] for p, design in zip(self.probabilities(letters).cpu(), part)]
        return found

    def predict(self, designs: Sequence[str]) -> list[str]:
        """Return the most likely class of each residue, as text of H, E and C."""
        return ["".join(CLASSES[i] for i in p.argmax(-1).tolist()) for p in self.of_designs(designs)]

    def save(self, path: Path) -> None:
        """Write the ensemble, weights in float16, as one safetensors file."""
        tensors = {
            f"{i}.{key}": value for i, member in enumerate(self.members) for key, value in member.state_dict().items()
        }
        about = {"kind": SecondaryFile.kind, "name": self.name, "config": [asdict(m.config) for m in self.members]}
        save_tensors(path, halved(tensors), about)

    @classmethod
    def load(cls, path: Path) -> SecondaryPredictor:
        """Read what `save` wrote; its version is the file's SHA-256. CheckpointError for another file."""
        path = Path(path)
        tensors, about = load_tensors(path, SecondaryFile)
        with blamed_on(path):
            configs = [build_options(SecondaryConfig, options, "a member") for options in about.config]
        members = ensemble(path, [partial(SecondaryNet, config) for config in configs], tensors)
        return cls(members, about.name, hashlib.sha256(path.read_bytes()).hexdigest()[:12])


def encode_letters(designs: Sequence[str]) -> Tensor:
    """Return one-hots `(B, L, 20)` of designs of any lengths, zeros after their ends.

    Raises DataError when a design is empty or has a letter outside the 20 residues.
    """
    space = Padded(PROTEIN, max(map(len, designs), default=1))
    one_hot = F.one_hot(space.encode(designs).long(), len(space.symbols)).float()
    return one_hot[..., : space.pad]


@cache
def load_predictor(predictor: str) -> SecondaryPredictor:
    """Return the shipped predictor "optimised" or "held_out", or that of a file; CheckpointError when it is none."""
    shipped = predictor in ("optimised", "held_out")
    return SecondaryPredictor.load(SHIPPED / f"{predictor}.safetensors" if shipped else Path(predictor))


@dataclass(frozen=True)
class SecondaryStructure:
    """The predicted share of residues in strands ("E"), helices ("H") or coil ("C"), in [0, 1].

    The score is the mean over residues of the predicted probability. `predictor`: "optimised" or "held_out", the two
    of the task protein (trained on different sequences), or the path of a file of `SecondaryPredictor.save`.
    The networks read one sequence and no relatives of it, and are right about three residues in four: a guess, not a
    fold. An empty design is not scored.

    Raises ConfigError for another `which`, CheckpointError for a file that is no predictor.

    >>> strands = SecondaryStructure("E")
    >>> high, low = strands(["TVTVTVKVTVGNKTVTVEVTV", "AEELAKKLEEAAKKLEELAKK"])
    >>> high > low
    True
    """

    which: Literal["H", "E", "C"] = "E"
    predictor: PathText = "optimised"

    name = "secondary_structure"
    units = "share of residues"
    range = (0.0, 1.0)
    differentiable = True

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')
        _ = self._predictor  # a wrong file is found before any design is scored

    @property
    def label(self) -> str:
        return {"H": "helix", "E": "β-strand", "C": "coil"}[self.which] + " content"

    @property
    def version(self) -> str:
        return f"1-{digest(self.which + self._predictor.version)}"

    @property
    def _predictor(self) -> SecondaryPredictor:
        return load_predictor(self.predictor)

    def __call__(self, designs: list[str]) -> list[float]:
        full = [design for design in designs if design]
        column = CLASSES.index(self.which)
        scores = iter([p[:, column].mean().item() for p in self._predictor.of_designs(full)])
        return [next(scores) if design else NotScored("the design is empty") for design in designs]

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return scores `(B,)` of one-hot or relaxed designs `(B, L, 20)`, or `(B, L, 21)` with pads; gradients flow.

        The mean is over places, each weighted by its probability of holding a residue; 0 where all are empty.
        """
        letters = _pads_last(x)[..., : len(PROTEIN.letters)]
        present = letters.sum(-1)
        share = self._predictor.probabilities(letters)[..., CLASSES.index(self.which)]
        return (share * present).sum(-1) / present.sum(-1).clamp(min=1e-6)


def _pads_last(x: Tensor) -> Tensor:
    """Return designs `(B, L, V)` with the places that are most likely empty behind the others, else in their order.

    The space drops pads wherever they stand: residues on both sides of one are neighbours in the design.
    """
    if x.shape[-1] == len(PROTEIN.letters):
        return x
    empty = (x.argmax(-1) == len(PROTEIN.letters)).long()
    order = empty.argsort(dim=-1, stable=True)
    return x.gather(1, order[..., None].expand_as(x))
