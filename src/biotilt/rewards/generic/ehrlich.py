"""Ehrlich functions: landscapes of motifs with a known optimum and infeasible texts (Stanton et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from biotilt.errors import ConfigError
from biotilt.options import Length, Pair, Seed, Share, Text, check_options
from biotilt.rewards.generic.base import Infeasible, NotScored, digest

SHARPNESS = 0.5  # temperature of the random transitions
BAND = 0.4  # of the letters, on either side, that may follow a letter


@dataclass(frozen=True)
class Landscape:
    """What the options of an Ehrlich function draw, in numbers of letters.

    Args:
        transitions: P `(V, V)`; what has probability 0 may not stand side by side.
        stationary: π `(V,)`, πP = π.
        motifs: `(c, k)`.
        offsets: `(c, k)`, where the elements of each motif stand from its first on.
    """

    transitions: Tensor
    stationary: Tensor
    motifs: Tensor
    offsets: Tensor


@dataclass(frozen=True)
class Ehrlich:
    """Π over motifs of the part of it that stands somewhere in the design, in [0, 1]; −inf where it is infeasible.

    A motif is `motif_length` letters at given distances. Its part is the largest share of them that one place of the
    design has, rounded down to multiples of 1/`quantization`, and with `epistasis` ε > 0 it counts q(1 + ε q(q − 1)).
    A design is infeasible where two letters stand side by side that a random chain never puts so. An optimum, of score
    1, always exists (`optimum`). Motifs, distances and chain are drawn by `seed` as in `pytorch-holo` 0.0.5, so that
    these are its functions of the same seed, with its states as letters.

    Args:
        letters: of which designs are written, at least 3 different ones.
        length: of designs; others are not scored.
        motifs: how many; all of them must fit side by side.

    Raises `ConfigError` where they do not fit, letters repeat, or the quantization does not divide the motif's length.

    >>> reward = Ehrlich("ACDEFGHIKLMNPQRSTVWY", length=32, motifs=4, motif_length=4)
    >>> reward([reward.optimum(), "C" * 32])
    [1.0, 0.0]
    """

    letters: Text
    length: Length = 32
    motifs: Annotated[int, Field(ge=1, le=1000)] = 4
    motif_length: Pair = 4
    quantization: Annotated[int, Field(ge=1)] | None = None
    epistasis: Share = 0.0
    seed: Seed = 0

    name = "ehrlich"
    units = ""
    differentiable = False

    def __post_init__(self) -> None:
        check_options(self, 'reward "ehrlich"')
        if len(set(self.letters)) < max(len(self.letters), 3):
            raise ConfigError(f'reward "ehrlich": letters must be 3 or more different ones, got "{self.letters}"')
        if self.motifs * self.motif_length > self.length:
            raise ConfigError(
                f'reward "ehrlich": {self.motifs} motifs of {self.motif_length} letters do not fit into a length of '
                f"{self.length}"
            )
        if self.quantization is not None and self.motif_length % self.quantization:
            given = f"motif_length = {self.motif_length}, got {self.quantization}"
            raise ConfigError(f'reward "ehrlich": quantization must divide {given}')
        self.landscape()  # a chain that cannot reach every letter is found when the experiment is built

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    def landscape(self) -> Landscape:
        """Return what the options draw; ConfigError where the chain cannot reach every letter."""
        return _drawn(len(self.letters), self.length, self.motifs, self.motif_length, self.seed)

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(design) for design in designs]

    def optimum(self) -> str:
        """Return a design of score 1: the motifs one after another, gaps filled with the letter before them."""
        made = self.landscape()
        tokens: list[int] = []
        for motif, offsets in zip(made.motifs.tolist(), made.offsets.tolist()):
            for letter, here, after in zip(motif, offsets, [*offsets[1:], offsets[-1] + 1]):
                tokens += [letter] * (after - here)
        tokens += tokens[-1:] * (self.length - len(tokens))
        return "".join(self.letters[token] for token in tokens)

    def feasible(self, count: int, generator: Generator) -> list[str]:
        """Return `count` designs of the chain, which are feasible."""
        made = self.landscape()
        drawn = _chain(made.transitions, made.stationary, self.length, count, generator)
        return ["".join(self.letters[token] for token in row) for row in drawn.tolist()]

    def _score(self, design: str) -> float:
        if len(design) != self.length:
            return NotScored(f"the design has {len(design)} letters, not {self.length}")
        if unknown := set(design) - set(self.letters):
            return NotScored(f'"{min(unknown)}" is none of the letters {self.letters}')
        tokens, made = torch.tensor([self.letters.index(letter) for letter in design]), self.landscape()
        allowed = made.transitions[tokens[:-1], tokens[1:]] > 0
        if not bool(allowed.all()):
            place = int((~allowed).nonzero()[0])
            return Infeasible(f"{design[place + 1]} may not follow {design[place]}")
        return math.prod(self._part(motif, offsets, tokens) for motif, offsets in zip(made.motifs, made.offsets))

    def _part(self, motif: Tensor, offsets: Tensor, tokens: Tensor) -> float:
        """Return what a motif contributes, in [0, 1]."""
        starts = torch.arange(self.length - int(offsets[-1])).unsqueeze(1)
        present = int((tokens[starts + offsets] == motif).sum(1).max())
        levels = self.quantization or self.motif_length
        part = present * levels // self.motif_length / levels
        return part * (1 + self.epistasis * part * (part - 1))


@cache
def _drawn(letters: int, length: int, motifs: int, motif_length: int, seed: int) -> Landscape:
    """Draw a landscape, in the order of `pytorch-holo`: transitions, all motifs as one chain, then the distances."""
    generator = torch.Generator().manual_seed(seed)
    transitions = _transitions(letters, generator)
    stationary = _stationary(transitions)
    chain = _chain(transitions, stationary, motifs * motif_length, 1, generator)[0]
    slack, offsets = (length - motifs * motif_length) // motifs, []
    for _ in range(motifs):
        shares = torch.rand(motif_length - 1, generator=generator)
        gaps = 1 + (slack * (shares / shares.sum())).floor().long()
        offsets.append(torch.cat([torch.zeros(1, dtype=torch.int64), gaps.cumsum(0)]))
    return Landscape(transitions, stationary, chain.view(motifs, motif_length), torch.stack(offsets))


def _transitions(letters: int, generator: Generator) -> Tensor:
    """Return P `(V, V)`: random, with zeros beyond a band whose rows are shuffled; a letter may follow itself."""
    chances = (torch.randn(letters, letters, generator=generator) / SHARPNESS).softmax(-1)
    places = torch.arange(letters)
    apart = (places - places.unsqueeze(1)) % letters
    band = int(BAND * letters)
    near = ((apart <= band) | (apart >= letters - band))[torch.randperm(letters, generator=generator)]
    kept = torch.where(near | torch.eye(letters, dtype=torch.bool), chances, 0.0)
    reached = torch.eye(letters)
    for _ in range(letters):
        reached = ((reached @ (kept > 0).float()) > 0).float()
    if not bool(reached.bool().all()):
        raise ConfigError(
            f'reward "ehrlich": with these {letters} letters and this seed the chain cannot reach every letter; take '
            "another seed"
        )
    return kept / kept.sum(-1, keepdim=True)


def _stationary(transitions: Tensor) -> Tensor:
    """Return π `(V,)` with πP = π and Σπ = 1."""
    count = len(transitions)
    system = torch.cat([torch.eye(count).double() - transitions.double().T, torch.ones(1, count).double()])
    wanted = torch.cat([torch.zeros(count), torch.ones(1)]).double().unsqueeze(1)
    return torch.linalg.lstsq(system, wanted).solution.squeeze(1).float()


def _chain(transitions: Tensor, first: Tensor, steps: int, count: int, generator: Generator) -> Tensor:
    """Return `count` chains `(count, steps)` of letters."""
    drawn = [torch.multinomial(first, count, replacement=True, generator=generator)]
    while len(drawn) < steps:
        drawn.append(torch.multinomial(transitions[drawn[-1]], 1, generator=generator).squeeze(1))
    return torch.stack(drawn, 1)
