"""Rewards learned from measurements: an ensemble of convolutional regressors, differentiable."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.errors import ConfigError, DataError
from biotilt.files import blamed_on
from biotilt.options import Below1, Depth, Kernel, Length, Symbols, Whole, Width, build_options, check_options
from biotilt.rewards.generic.section import FromSection, Section
from biotilt.schema import Name, StoredTensors
from biotilt.spaces import Alphabet, Letters, Text, as_text, stored_space
from biotilt.spaces.text import OneLength
from biotilt.tensors import ensemble, halved, load_tensors, save_tensors


@dataclass(frozen=True)
class RegressorConfig:
    """One member: `layers` convolutions of `channels`, then a dense layer of `hidden` over all positions.

    `dilated`: residual blocks whose dilation doubles (wide view) instead of plain stacked convolutions. With `motifs`
    there are so many filters of `motif_width` letters (odd) before them, whose rectified scores are added up over
    `pool` neighbours: where a motif stands matters little then, and `layers` may be 0. What `pool` leaves over at the
    end is dropped. `both_strands`: the mean of the predictions for a sequence and for its reverse complement; for
    the four letters of DNA or RNA, in alphabetical order.

    `period`: instead of all positions, the dense layer reads the mean and the maximum over those that are a multiple
    of so many apart, counted from the end: 3 for reading frames, 1 where a position says nothing. Layers after the
    first are residual, and see neighbours that are `period` apart. 0 for the dense layer over all positions.

    Raises ConfigError when `pool` is not in [1, length] or given without motifs, `period` does not fit, `motif_width`
    is even, there is no layer at all, or `both_strands` is asked for other than four letters.
    """

    letters: Symbols
    length: Length
    channels: Width = 96
    layers: Depth = 3
    kernel: Kernel = 7
    hidden: Width = 48
    dropout: Below1 = 0.2
    dilated: bool = False
    motifs: Annotated[Whole, Field(ge=0, le=65_536)] = 0
    motif_width: Kernel = 15
    pool: Length = 1
    both_strands: bool = False
    period: Annotated[Whole, Field(ge=0, le=1_000)] = 0

    def __post_init__(self) -> None:
        check_options(self, "predictor")
        if self.pool > (self.length if self.motifs else 1):
            raise ConfigError(f"pool must be in [1, {self.length}], and 1 without motifs, got {self.pool}")
        if self.period > self.length // self.pool:
            raise ConfigError(f"period must be in [0, {self.length // self.pool}], got {self.period}")
        if self.period and self.dilated:
            raise ConfigError("with a period, layers are dilated by it: leave out one of period and dilated")
        if not self.motifs + self.layers:
            raise ConfigError("a predictor needs motifs or layers, and this one has neither")
        if self.dilated and self.layers > 15:
            raise ConfigError(f"dilated layers look 2^(layers - 2) letters far: 15 at most, got {self.layers}")
        if self.both_strands and self.letters != 4:
            raise ConfigError(f"both_strands needs the four letters of DNA or RNA, got {self.letters} symbols")


class PredictorFile(StoredTensors):
    """The metadata of a predictor's file; the first files named an alphabet, and no space."""

    kind: ClassVar[str] = "learned_reward"
    called: ClassVar[str] = "a learned reward"

    name: Name
    units: Name = ""
    config: list[dict[str, Any]] = Field(min_length=1, max_length=1_000)
    codec: dict[str, Any] | None = None
    alphabet: Name | None = None


class Regressor(nn.Module):
    """Letter probabilities `(B, L, V)` → prediction `(B,)`, standardised by `mean` and `scale` of its training data."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: RegressorConfig):
        super().__init__()
        self.config = config
        self.motifs = None
        if config.motifs:
            self.motifs = nn.Conv1d(config.letters, config.motifs, config.motif_width, padding=config.motif_width // 2)
        widths = [config.motifs or config.letters] + [config.channels] * config.layers
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, config.kernel, padding=d * (config.kernel // 2), dilation=d)
            for i, (a, b) in enumerate(itertools.pairwise(widths))
            for d in [_dilation(config, i)]
        )
        self.dropout = nn.Dropout(config.dropout)
        summaries = 2 * config.period or config.length // config.pool
        self.dense = nn.Linear(widths[-1] * summaries, config.hidden)
        self.out = nn.Linear(config.hidden, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, probabilities: Tensor) -> Tensor:
        standardised = self._one_strand(probabilities)
        if self.config.both_strands:  # letters are A, C, G, T: turning both axes around is the reverse complement
            standardised = (standardised + self._one_strand(probabilities.flip(1, 2))) / 2
        return standardised * self.scale + self.mean

    def _one_strand(self, probabilities: Tensor) -> Tensor:
        h = probabilities.transpose(1, 2)
        if self.motifs is not None:
            # divided by √pool, the sums of any pool have about one size when training starts
            h = F.avg_pool1d(F.relu(self.motifs(h)), self.config.pool) * self.config.pool**0.5
        for i, conv in enumerate(self.convs):
            step = F.relu(conv(h))
            h = h + step if (self.config.dilated or self.config.period) and i > 0 else step
        if self.config.period:
            h = _summaries(h, self.config.period)
        h = self.dropout(F.relu(self.dense(self.dropout(h.flatten(1)))))
        return self.out(h).squeeze(-1)


def _dilation(config: RegressorConfig, layer: int) -> int:
    if layer == 0:
        return 1
    return 2 ** (layer - 1) if config.dilated else max(config.period, 1)


def _summaries(h: Tensor, period: int) -> Tensor:
    """Return mean and maximum of `(B, C, L)` over each set of positions that are a multiple of `period` apart."""
    # counted from the end, so that what is filled up before a sequence moves nothing
    groups = [h[..., (h.shape[-1] - 1 - back) % period :: period] for back in range(period)]
    return torch.cat([group.mean(-1) for group in groups] + [group.amax(-1) for group in groups], 1)


class LearnedReward(FromSection):
    """The mean of an ensemble of regressors, as a reward of strings and, differentiably, of letter probabilities."""

    name: str = "learned"
    takes = frozenset({"path"})
    differentiable = True

    def __init__(
        self, members: list[Regressor], space: Text | Alphabet | str, name: str, version: str, units: str = ""
    ):
        self.members = [m.eval().requires_grad_(False) for m in members]
        self.space = as_text(space)
        self.length = members[0].config.length
        self.name, self.version, self.units = name, version, units
        self.label = units  # it is named after its file; what it predicts is its unit

    @classmethod
    def of_section(cls, section: Section) -> LearnedReward:
        if section.path is None:
            raise ConfigError(f"{section.key}.path: this key is missing; `biotilt fit-oracle` makes such a file")
        return cls.load(section.base / section.path)

    def score_one_hot(self, probabilities: Tensor) -> Tensor:
        """Return predictions `(B,)` of letter probabilities (or one-hots) `(B, L, V)`; gradients flow.

        The members go where the probabilities are, and stay there.
        """
        self.to(probabilities.device)
        return torch.stack([member(probabilities) for member in self.members]).mean(0)

    def to(self, device: torch.device | str) -> LearnedReward:
        """Move the members to a device, where designs are scored from then on; return the reward."""
        for member in self.members:
            member.to(device)
        return self

    @torch.no_grad()
    def __call__(self, designs: list[str], *, chunk: int = 256) -> list[float]:
        """Return the predicted value of each design; DataError when a length is not the trained one."""
        one_length = isinstance(self.space, Letters)
        wrong = next((d for d in designs if one_length and len(d) != self.length), None)
        if wrong is not None:
            raise DataError(f'the predictor "{self.name}" reads {self.length} letters, got {len(wrong)}: {wrong}')
        scores: list[float] = []
        device = self.members[0].mean.device
        for start in range(0, len(designs), chunk):
            tokens = self.space.encode(designs[start : start + chunk])
            one_hot = F.one_hot(tokens.long().to(device), len(self.space.symbols)).float()
            scores += self.score_one_hot(one_hot).tolist()
        return scores

    def save(self, path: Path, extra: dict | None = None) -> None:
        """Write the ensemble, weights in float16, as one safetensors file; `extra` is kept with it."""
        tensors = {
            f"{i}.{key}": value for i, member in enumerate(self.members) for key, value in member.state_dict().items()
        }
        about = {
            "kind": PredictorFile.kind,
            "name": self.name,
            "units": self.units,
            "codec": self.space.spec(),
        }
        save_tensors(
            path, halved(tensors), about | {"config": [asdict(m.config) for m in self.members]} | (extra or {})
        )

    @classmethod
    def load(cls, path: Path) -> LearnedReward:
        """Read what `save` wrote; its version is the file's SHA-256, so that caches never mix two predictors.

        Raises CheckpointError when the file is missing, damaged or no predictor.
        """
        path = Path(path)
        tensors, about = load_tensors(path, PredictorFile)
        with blamed_on(path):
            configs = [build_options(RegressorConfig, options, "a member") for options in about.config]
            members = ensemble(path, [partial(Regressor, config) for config in configs], tensors)
            space = as_text(stored_space(about.model_dump(exclude_none=True)))
            for config in configs:
                _check_sizes(config, space)
        version = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return cls(members, space, about.name, version, about.units)


def _check_sizes(config: RegressorConfig, space: Text) -> None:
    length = space.length if isinstance(space, OneLength) else config.length
    if (config.letters, config.length) != (len(space.symbols), length):
        raise ConfigError(
            f"a member reads {config.length} places of {config.letters} letters, but designs have {length} of "
            f"{len(space.symbols)}"
        )
