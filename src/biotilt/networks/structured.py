"""A network of RNAs with a given structure: convolutions along the chain and across its pairs."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.errors import ConfigError
from biotilt.networks.blank import blank_copy
from biotilt.networks.convolution import Convolution
from biotilt.networks.one_hot import as_one_hot
from biotilt.options import Dilations, Kernel, Layers, Structure, Symbols, Width, check_options, shown

FEATURES = 11  # of a position of a structure, see `Structures.of`
LONGEST = 12.0  # stems and loops are measured up to this length


class Structures(NamedTuple):
    """Structures in the numbers that the network reads, for a batch of B (or 1), N positions and L tokens.

    `token` `(B, N)`, the token that writes a position; `partner` `(B, N)`, the position that it pairs with, itself
    if none; `features` `(B, N, 11)`; `present` `(B, N, 1)`, 0 where a shorter structure is filled up; `first` and
    `second` `(B, L)`, the positions that a token writes, twice the same if it is one.
    """

    token: Tensor
    partner: Tensor
    features: Tensor
    present: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, structures: list[str]) -> Self:
        """Return balanced structures in dot-bracket notation that have one number of tokens, L.

        Features of a position: unpaired, opens a pair, closes one; unpaired in a hairpin, a stack or internal loop,
        a multiloop, outside; the size of its loop or stem; how far it is from that loop's or stem's two ends; whether
        the loop is lopsided.
        """
        size = max(map(len, structures))
        with torch.device("cpu"):  # they are data: to have them on the device "meta", as shapes alone, is of no use
            rows = [_numbers(structure, size) for structure in structures]
        return cls(*(torch.stack(part) for part in zip(*rows)))


@dataclass(frozen=True)
class StructuredConfig:
    """`target`: the structure, in balanced dot-bracket notation; `letters` V outputs a token, and one more input.

    `channels` ≥ 1, `blocks` ≥ 1, odd `kernel`; block b is dilated by `dilations[b % len]`.
    """

    letters: Symbols = 6
    target: Structure = "((((....))))"
    channels: Width = 64
    blocks: Layers = 6
    kernel: Kernel = 5
    dilations: Dilations = (1, 1, 2)

    def __post_init__(self) -> None:
        check_options(self, 'network "structured"')
        depths = [*itertools.accumulate({"(": 1, ")": -1}.get(sign, 0) for sign in self.target)]
        if set(self.target) - set("(.)") or min(depths) < 0 or depths[-1] != 0:
            raise ConfigError(f"a target is a balanced structure of the signs ( . ), got {shown(self.target)}")


class Structured(nn.Module):
    """Tokens and masks `(B, L)`, times `(B,)` (not used) → logits `(B, L, V)`.

    The tokens (`biotilt.spaces.paired`) are put at the positions that they write, where each block mixes a
    position's neighbours with those of its partner; a token's logits are read off the positions that it writes. The
    weights know no structure and serve for all.
    """

    name: ClassVar[str] = "structured"
    Options: ClassVar[type] = StructuredConfig

    def __init__(self, config: StructuredConfig):
        super().__init__()
        self.config = config
        c, k = config.channels, config.kernel
        self.embed = nn.Linear(config.letters + 1 + FEATURES, c)
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in range(config.blocks))
        self.convs = nn.ModuleList(
            Convolution(2 * c, c, k, padding=d * (k // 2), dilation=d)
            for d in (config.dilations[b % len(config.dilations)] for b in range(config.blocks))
        )
        self.mixes = nn.ModuleList(nn.Linear(c, c) for _ in range(config.blocks))
        self.head = nn.Sequential(nn.LayerNorm(2 * c), nn.Linear(2 * c, c), nn.GELU(), nn.Linear(c, config.letters))
        # buffers follow the weights to a device; they are made from the target, and no checkpoint holds them
        for name, value in Structures.of([config.target])._asdict().items():
            self.register_buffer(name, value, persistent=False)

    def for_target(self, target: str) -> Structured:
        """Return the network of another structure, with the same weights."""
        net = Structured(replace(self.config, target=target))
        net.load_state_dict(copy.deepcopy(self.state_dict()))
        return net.to(self.embed.weight.device).train(self.training)

    def blank(self) -> Structured:
        """Return a copy whose outputs start at zero."""
        return blank_copy(self, "head.3")

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.read(x, Structures(*(self.get_buffer(name) for name in Structures._fields)))

    def read(self, x: Tensor, structures: Structures) -> Tensor:
        """Return the logits of tokens `(B, L)`, or relaxed `(B, L, V+1)`, each with its structure."""
        batch = len(x)
        token, partner, features, present, first, second = (s.expand(batch, *s.shape[1:]) for s in structures)
        weight = self.embed.weight
        one_hot = as_one_hot(x, self.config.letters + 1, weight.dtype)
        h = self.embed(torch.cat([_take(one_hot, token), features.to(weight.dtype)], -1)) * present
        for norm, conv, mix in zip(self.norms, self.convs, self.mixes):
            across = norm(h) * present
            both = torch.cat([across, _take(across, partner)], -1)
            h = (h + mix(F.gelu(conv(both.transpose(1, 2)).transpose(1, 2)))) * present
        return self.head(torch.cat([_take(h, first), _take(h, second)], -1))


def _take(h: Tensor, rows: Tensor) -> Tensor:
    """Return `h` `(B, N, C)` at `rows` `(B, M)`, `(B, M, C)`."""
    return h.gather(1, rows.unsqueeze(-1).expand(-1, -1, h.shape[-1]))


def _numbers(structure: str, size: int) -> tuple[Tensor, ...]:
    """Return the parts of `Structures` for one structure, filled up to `size` positions."""
    partner = _partners(structure)
    firsts = [i for i, j in enumerate(partner) if j >= i]
    token_of = {i: number for number, i in enumerate(firsts)}
    token = [token_of[min(i, j)] for i, j in enumerate(partner)]
    fill = size - len(structure)
    features = F.pad(torch.tensor(_features(structure, partner)), (0, 0, 0, fill))
    present = torch.tensor([[1.0]] * len(structure) + [[0.0]] * fill)
    return (
        torch.tensor(token + [0] * fill),
        torch.tensor(partner + list(range(len(structure), size))),
        features,
        present,
        torch.tensor(firsts),
        torch.tensor([partner[i] for i in firsts]),
    )


def _partners(structure: str) -> list[int]:
    partner, opened = list(range(len(structure))), list[int]()
    for i, sign in enumerate(structure):
        if sign == "(":
            opened.append(i)
        elif sign == ")":
            j = opened.pop()
            partner[i], partner[j] = j, i
    return partner


def _features(structure: str, partner: list[int]) -> list[list[float]]:
    rows = [[0.0] * FEATURES for _ in structure]
    for i, sign in enumerate(structure):
        rows[i][".()".index(sign)] = 1.0
    for closing, members, branches in _loops(partner):
        kind = 6 if closing is None else 3 + min(len(branches), 2)
        runs = [run for run in members if run]
        for run in runs:
            for place, i in enumerate(run):
                rows[i][kind] = 1.0
                rows[i][7:] = [
                    min(sum(map(len, runs)), LONGEST) / LONGEST,
                    min(place, LONGEST) / LONGEST,
                    min(len(run) - 1 - place, LONGEST) / LONGEST,
                    float(kind == 4 and len({len(run) for run in members}) > 1),
                ]
    for stem in _stems(partner):
        for place, i in enumerate(stem):
            for position in (i, partner[i]):
                rows[position][7:10] = [
                    min(len(stem), LONGEST) / LONGEST,
                    min(place, LONGEST) / LONGEST,
                    min(len(stem) - 1 - place, LONGEST) / LONGEST,
                ]
    return rows


def _loops(partner: list[int]) -> list[tuple[int | None, list[list[int]], list[int]]]:
    """Return each loop: the pair that closes it, its runs of unpaired positions between pairs, its inner pairs."""
    found = []
    for closing in [None, *(i for i, j in enumerate(partner) if j > i)]:
        i, end = (0, len(partner)) if closing is None else (closing + 1, partner[closing])
        runs, branches = [[]], []
        while i < end:
            if partner[i] == i:
                runs[-1].append(i)
                i += 1
            else:
                branches.append(i)
                runs.append([])
                i = partner[i] + 1
        found.append((closing, runs, branches))
    return found


def _stems(partner: list[int]) -> list[list[int]]:
    """Return the opening positions of each run of stacked pairs, outermost first."""
    stems = list[list[int]]()
    for i, j in enumerate(partner):
        if j > i:
            stacked = i > 0 and partner[i - 1] == j + 1
            if stacked:
                stems[-1].append(i)
            else:
                stems.append([i])
    return stems
