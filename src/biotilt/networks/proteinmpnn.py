"""The decoder of ProteinMPNN (Dauparas et al. 2022, Science 378:49) over a backbone that was encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biotilt.core import needed
from biotilt.core.activations import block as in_turn
from biotilt.errors import ConfigError
from biotilt.networks.one_hot import as_one_hot
from biotilt.options import Flag, Layers, Length, Positive, Symbols, Width, check_options

KINDS = 21  # of letters that the embedding and the output have: 20 residues and X
SCALE = 30.0  # sums over neighbours are divided by this, however many there are
NEAR = 1_500_000  # numbers of a layer that stay near the processor: rows without a gradient go through by so many


@dataclass(frozen=True)
class BackboneDecoderConfig:
    """A design of `length` letters on a backbone of `residues`, each with `neighbours` nearest ones, itself among them.

    `letters` V ≤ 20: outputs a position. `temperature` divides the logits. `masks`: what is hidden has a letter of its
    own, and there is no order, as in the inverse folding of DRAKES.
    """

    letters: Symbols
    length: Length
    residues: Length
    neighbours: Width
    width: Width = 128
    layers: Layers = 3
    temperature: Positive = 1.0
    masks: Flag = False

    def __post_init__(self) -> None:
        check_options(self, 'network "proteinmpnn"')
        if self.letters >= KINDS or self.neighbours > self.residues:
            raise ConfigError(
                f'network "proteinmpnn": at most {KINDS - 1} letters and as many neighbours as residues, got '
                f"{self.letters} and {self.neighbours} of {self.residues}"
            )


class BackboneDecoder(nn.Module):
    """Letters and masks `(B, L)` on an encoded backbone of N residues → logits `(B, L, V)`.

    A decoder of this kind has an order. Here what is shown comes first, by `rank`, and then, each by itself, what is
    hidden: the logits of a hidden position are those of the published decoder when it is the next after all that is
    shown, so they are a function of the state. A residue sees the letters of those before it and of the others, itself
    among them, what the encoder says. With `masks` (Wang et al. 2024, 2410.13643) everyone sees everyone, letters and
    masks: a function of the state as it is.

    `nodes` `(N, C)` and `edges` `(N, K, C)` are what the encoder said, `neighbours` `(N, K)` the numbers of the nearest
    residues; `owner` `(N,)` which position of the design a residue is of, −1 for a residue of a chain that is not
    designed, whose letter is `known` `(N,)`, V for one that is not shown. Residues of one position are tied: they have
    one letter, whose logits are the mean of theirs. All are floats, since files of weights hold nothing else.
    """

    name: ClassVar[str] = "proteinmpnn"
    Options: ClassVar[type] = BackboneDecoderConfig
    reads_time: ClassVar[bool] = False

    nodes: Tensor
    edges: Tensor
    neighbours: Tensor
    owner: Tensor
    known: Tensor
    rank: Tensor

    def __init__(self, config: BackboneDecoderConfig):
        super().__init__()
        self.config = config
        n, k, c = config.residues, config.neighbours, config.width
        self.embed = nn.Embedding(KINDS + config.masks, c)
        self.blocks = nn.ModuleList(DecoderBlock(c) for _ in range(config.layers))
        self.head = nn.Linear(c, KINDS + config.masks)
        shapes = {"nodes": (n, c), "edges": (n, k, c), "neighbours": (n, k), "owner": (n,), "known": (n,), "rank": (n,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the logits of states, tokens `(B, L)` with V the mask, or relaxed `(B, L, V+1)`."""
        return self.of_design(self.logits(self.placed(x)))[..., : self.config.letters] / self.config.temperature

    def placed(self, x: Tensor) -> Tensor:
        """Return the letters of all residues, as shares of the 20 and of the mask, `(B, N, V+1)`."""
        v = self.config.letters
        states = as_one_hot(x, v + 1, self.head.weight.dtype)
        context = self.owner < 0
        known = F.one_hot(self.known.long(), v + 1).to(states.dtype)
        there = states[:, self.owner.long().clamp(min=0)]
        return torch.where(context.unsqueeze(-1), known, there)

    def of_design(self, logits: Tensor) -> Tensor:
        """Return the mean `(B, L, …)` over the residues of each position of what is said of residues `(B, N, …)`."""
        designed = self.owner >= 0
        owner, rows = self.owner[designed].long(), logits[:, designed]
        total = logits.new_zeros(len(logits), self.config.length, *logits.shape[2:]).index_add(1, owner, rows)
        counts = torch.bincount(owner, minlength=self.config.length).to(total)
        return total / counts.view(-1, *[1] * (total.dim() - 2))

    def logits(self, placed: Tensor, rank: Tensor | None = None) -> Tensor:
        """Return logits `(B, N, 21)`, with `masks` `(B, N, 22)`, of residues with letters as `placed` says.

        `rank` `(N,)`: who comes before whom among those that are shown, in place of the network's own order; residues
        of one rank do not see each other. Without meaning where everyone sees everyone.
        """
        k, n, c = self.config.neighbours, self.config.residues, self.config.width
        rows = max(1, NEAR // (n * k * c))
        near = self.neighbours.long()
        rank = self.rank if rank is None else rank
        before = (rank[near] < rank.unsqueeze(-1)).to(placed.dtype)
        fixed = [block.of_backbone(self.nodes, self.edges, near) for block in self._decoding]
        if len(placed) <= rows or self._learns(placed):
            return self.head(self._read(placed, before, fixed))
        return self.head(torch.cat([self._read(part, before, fixed) for part in placed.split(rows)]))

    def _learns(self, placed: Tensor) -> bool:
        """Return whether a gradient goes through the layers; with adapters on the last one alone none does."""
        weights = (*self.embed.parameters(), *self.blocks.parameters())
        return torch.is_grad_enabled() and (placed.requires_grad or any(weight.requires_grad for weight in weights))

    @property
    def _decoding(self) -> list[DecoderBlock]:
        return [needed(block, DecoderBlock) for block in self.blocks]

    def _read(self, placed: Tensor, before: Tensor, fixed: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return what the head is given of each residue `(B, N, C)`."""
        v, near = self.config.letters, self.neighbours.long()
        letters = placed[..., :v] @ self.embed.weight[:v]
        if self.config.masks:
            letters = letters + placed[..., v:] * self.embed.weight[KINDS]
            seen = torch.ones_like(before).unsqueeze(0)
        else:
            shown = 1 - placed[..., v]
            own = shown.unsqueeze(-1)
            seen = shown[:, near] * (1 - own + own * before)  # (B, N, K): what is hidden comes after all that is shown
        h = self.nodes.expand(len(placed), -1, -1)
        for block, there in zip(self._decoding, fixed):
            h = in_turn(block, h, letters, seen.unsqueeze(-1), near, there)
        return h


class DecoderBlock(nn.Module):
    """Messages from neighbours, and two linear layers; each added to what comes in, and normalised after.

    The published first layer reads four vectors side by side, and is written as four here: what it says of edges and of
    the encoder's nodes is the same for every design, and what it says of a letter or a node is worked out once a
    residue, not once a pair. The last layer is linear, and so applied to the sum of the messages.
    """

    def __init__(self, width: int):
        super().__init__()
        self.own = nn.Linear(width, width)
        self.edge, self.letter, self.node = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.between, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def of_backbone(self, nodes: Tensor, edges: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is the same for all designs: of pairs that see nothing `(N, K, C)`, and of nodes `(N, C)`."""
        unseen = self.node(nodes)
        return self.edge(edges) + unseen[near], unseen

    def forward(
        self, h: Tensor, letters: Tensor, seen: Tensor, near: Tensor, fixed: tuple[Tensor, Tensor]
    ) -> Tensor:  # fmt: skip
        """Return the new `h` `(B, N, C)`; `seen` `(B, N, K, 1)` says which neighbours come before a residue."""
        pairs, unseen = fixed
        more = self.letter(letters) + self.node(h) - unseen  # of a neighbour that is seen
        message = torch.addcmul(pairs + self.own(h).unsqueeze(2), more[:, near], seen)
        message = F.gelu(self.between(F.gelu(message)))
        count = near.shape[1]
        h = self.norms[0](h + self.out(message.mean(2)) * (count / SCALE))
        return self.norms[1](h + self.down(F.gelu(self.up(h))))
