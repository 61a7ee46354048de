"""Insertion of letters one by one: sequences grow, and end where the network ends them; an exact chain of any length.

The simplest of the processes that edit (edit flows, Havasi et al. 2025, arXiv 2506.09018; any-order insertion, arXiv
2606.13565): nothing is ever taken away or replaced, so time is discrete and nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Generator, Tensor

from biotilt.core.capabilities import Dated, Divergence, Kernel
from biotilt.core.fixed import FORBIDDEN
from biotilt.core.protocols import Net, NetInput
from biotilt.core.space import Particular, Space, Varying, token_type
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import draw, stratified_uniform
from biotilt.options import Length, Whole, check_options
from biotilt.processes.letters import MOST_LETTERS


@dataclass(frozen=True)
class InsertionKernel(Divergence):
    """One step at states `x` `(B, L)`: a letter comes before position j, or the sequence ends; ended ones stay.

    `log_events` `(B, L, V)` are normalised over all events together: a letter before position j ≤ n of n letters, and
    the pad (V − 1) at n, which ends. The same letter before or after one of its kind makes the same sequence, so log
    p(y|x) is a sum over these. `ended` `(B,)` says which rows stay.
    """

    x: Tensor
    log_events: Tensor
    ended: Tensor

    @property
    def x0(self) -> Tensor:
        """Log-probabilities of what is inserted, and where, `(B, L, V)`."""
        return self.log_events

    def sample(self, generator: Generator) -> Tensor:
        event = draw(self.log_events.flatten(1), generator)
        letters = self.log_events.shape[-1]
        return self._after(event // letters, event % letters)

    def log_prob(self, y: Tensor) -> Tensor:
        # of equal letters in a row the last one counts as the new one: it stands where the two sequences first differ
        place = (y != self.x).to(torch.int8).argmax(-1)
        letter = y.gather(-1, place.unsqueeze(-1)).squeeze(-1).long()
        known = letter < self.log_events.shape[-1]
        letter = torch.where(known, letter, 0)
        legal = (self._after(place, letter) == y).all(-1)  # ended ones stay, whatever comes
        found = self.log_next.flatten(1).gather(-1, (place * self.log_events.shape[-1] + letter).unsqueeze(-1))
        found = torch.where(self.ended, torch.zeros_like(found[:, 0]), found.squeeze(-1))
        return torch.where(legal & (known | self.ended), found, torch.full_like(found, -torch.inf))

    def kl(self, other: Self) -> Tensor:
        ours, theirs = self.log_next, other.log_next
        p = ours.exp()
        each = p * torch.where(p > 0, ours - theirs, torch.zeros_like(p))
        return torch.where(self.ended, 0, each.flatten(1).sum(-1))

    @property
    def log_next(self) -> Tensor:
        """Log-probabilities of different next states `(B, L, V)`, each once: at the last of the events that make it."""
        length, letters = self.log_events.shape[1:]
        tokens = torch.arange(letters, device=self.x.device)
        same = self.x.unsqueeze(-1) == tokens  # (B, L, V): a letter before position j is one after it too
        found, passed = [], torch.full_like(self.log_events[:, 0], -torch.inf)
        for j in range(length):
            here = torch.logaddexp(self.log_events[:, j], passed)
            passed = torch.where(same[:, j], here, -torch.inf)
            found.append(torch.where(same[:, j], -torch.inf, here))
        return torch.stack(found, 1)

    def _after(self, place: Tensor, letter: Tensor) -> Tensor:
        """Return the states after events `(B,)`: a letter before a place; the pad ends the sequence."""
        letters = self.log_events.shape[-1]
        pad, mask = letters - 1, letters
        at = torch.arange(self.x.shape[-1], device=self.x.device)
        before, there = at < place.unsqueeze(-1), at == place.unsqueeze(-1)
        moved = torch.where(
            before, self.x, torch.where(there, letter.unsqueeze(-1).to(self.x.dtype), self.x.roll(1, -1))
        )
        ends = self.x.masked_fill(self.x == mask, pad)
        after = torch.where((letter == pad).unsqueeze(-1), ends, moved)
        return torch.where(self.ended.unsqueeze(-1), self.x, after)


@dataclass(frozen=True)
class Insertion(Dated, Particular):
    """Designs of `shortest` to `length` L letters, one a step and in any order; the last of V `letters` is the pad.

        x[0] empty → x[1] one letter → … → x[n] n letters → ended → ended …        K = L steps

    p(y|x) sums the chances of the events that make y of x: letter a before position j, or (from `shortest` letters on)
    the end. A network says them all at once, a logit for letter a at position j of its output `(B, L, V)`, and for the
    end that of the pad at the first open position. Open positions, behind the letters, are masks (V), or pads once it
    ended.

    Noise takes letters away one by one, uniformly chosen. With the exact chances of what comes next the law of designs
    is the data's, with no error of discretisation, and `denoising_loss` is −log p itself. Logits can make every kernel
    of such sequences, so tuning can have p* exactly. Nothing can be held: positions move.

    Raises:
        ConfigError: `shortest` is longer than `length`.

    >>> Insertion(length=9, letters=5, shortest=2).steps
    9
    """

    length: Length
    letters: Annotated[Whole, Field(ge=2, le=MOST_LETTERS)]
    shortest: Length = 1

    name: ClassVar[str] = "insertion"
    kernel_type: ClassVar[type[Kernel]] = InsertionKernel

    def __post_init__(self) -> None:
        check_options(self, 'process "insertion"')
        if self.shortest > self.length:
            raise ConfigError(f'process "insertion": shortest must be at most {self.length}, got {self.shortest}')

    @property
    def steps(self) -> int:
        return self.length

    @property
    def pad(self) -> int:
        """The token behind the letters of an ended sequence."""
        return self.letters - 1

    @property
    def mask(self) -> int:
        """The token behind the letters of a sequence that may grow."""
        return self.letters

    def check_space(self, space: Space[Any]) -> None:
        """Raise ConfigError where designs are not letters with this pad behind them."""
        if not isinstance(space, Varying) or space.pad != self.pad or space.pads_first:
            raise ConfigError(
                'process "insertion": designs must be of several lengths, with pads behind them: take the space '
                f'"padded" with side "right", not {space.name}'
            )

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return `(batch, L)` sequences without a letter."""
        return torch.full((batch, self.length), self.mask, dtype=token_type(self.letters), device=generator.device)

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return states and the share of positions that are open."""
        return NetInput(x, (x == self.mask).sum(-1) / self.length)

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> InsertionKernel:
        return InsertionKernel(x, self._log_events(output, x), ~(x == self.mask).any(-1))

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Return the state of a chain at step `k` that ends in the design: k of its letters, or, ended, itself."""
        k = torch.as_tensor(k, device=design.device).expand(len(design))
        return self._keep(design, self._kept(design, k, generator), k)

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """Return a bound on −log p `(B,)`: (n+1) E_k [ mean over missing letters of −log p(event | x[k]) − log(n−k) ].

        k is uniform on 0…n, of which the last is the end; a design of full length has none. That is the mean over
        orders of −log p of the chain of events, less log n!, the number of orders.
        """
        there = design != self.pad
        size = there.sum(-1)
        moves = size + (size < self.length)
        k = torch.minimum((stratified_uniform(len(design), generator) * moves).long(), moves - 1)
        kept = self._kept(design, k, generator)
        x = self._keep(design, kept, k)
        log_events = self._log_events(net(*self.inputs(x, k)), x)
        place = (kept.cumsum(-1) - kept.long()).unsqueeze(-1).expand(-1, -1, self.letters)
        at = log_events.gather(1, place).gather(-1, design.long().unsqueeze(-1)).squeeze(-1)
        missing = there & ~kept
        left = missing.sum(-1)
        grows = (at * missing).sum(-1) / left.clamp(min=1) + left.clamp(min=1).log()
        end = log_events.gather(1, k.clamp(max=self.length - 1).view(-1, 1, 1).expand(-1, 1, self.letters))[
            :, 0, self.pad
        ]
        return -moves * torch.where(left > 0, grows, end)

    def listed(self) -> tuple[Tensor, Tensor]:
        """Return all states `(N, L)`, and which of them are designs, bool `(N,)`: for small ones."""
        rows, ended = [], []
        for size in range(self.length + 1):
            words = torch.cartesian_prod(*[torch.arange(self.pad)] * size).view(-1, size) if size else torch.zeros(1, 0)
            for token in (self.mask, self.pad):
                if token == self.mask or self.shortest <= size < self.length:
                    tail = torch.full((len(words), self.length - size), token)
                    rows.append(torch.cat([words.long(), tail], 1))
                    ended.append(torch.full((len(words),), token == self.pad or size == self.length))
        return torch.cat(rows).to(token_type(self.letters)), torch.cat(ended)

    def _log_events(self, output: Tensor, x: Tensor) -> Tensor:
        """Return log-probabilities of events `(B, L, V)`; no chance for letters behind the first open position."""
        size = (x != self.mask).sum(-1, keepdim=True)
        at = torch.arange(self.length, device=x.device)
        possible = (at <= size).unsqueeze(-1).expand_as(output).clone()
        possible[..., self.pad] = (at == size) & (size >= self.shortest)
        return output.masked_fill(~possible, FORBIDDEN).flatten(1).log_softmax(-1).view_as(output)

    def _kept(self, design: Tensor, k: Tensor, generator: Generator) -> Tensor:
        """Return which positions of designs hold letters of the state, bool `(B, L)`: k of them, uniformly chosen."""
        there = design != self.pad
        rank = torch.rand(design.shape, generator=generator, device=design.device)
        rank = rank.masked_fill(~there, 2.0).argsort(-1).argsort(-1)
        return there & (rank < k.unsqueeze(-1))

    def _keep(self, design: Tensor, kept: Tensor, k: Tensor) -> Tensor:
        """Return the letters that are kept, in a row, and behind them masks, or pads where the chain has ended."""
        order = (~kept).to(torch.int8).argsort(dim=-1, stable=True)
        at = torch.arange(self.length, device=design.device)
        size = (design != self.pad).sum(-1, keepdim=True)
        tail = torch.where(k.unsqueeze(-1) > size, self.pad, self.mask).to(design.dtype)
        return torch.where(at < kept.sum(-1, keepdim=True), design.gather(-1, order), tail)
