"""log p of designs under a model, as a reward: any model's; and the published score of ProteinMPNN on a backbone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core.fixed import Holding
from biotilt.core.protocols import sizes_of
from biotilt.core.space import Varying
from biotilt.errors import ConfigError, DataError
from biotilt.evaluation.likelihood import Kind, LogLikelihood, described, kind_for, log_likelihood
from biotilt.model import Model
from biotilt.models.checks import device_of
from biotilt.models.origin import fingerprint
from biotilt.models.proteinmpnn import SOLUBLE, ProteinMPNN, Selections, V, decoder, weights_of
from biotilt.networks.proteinmpnn import BackboneDecoder
from biotilt.options import Few, Flag, PathText, Seed, build_options, check_options
from biotilt.rewards.generic.base import Infeasible, NotScored, digest
from biotilt.rewards.generic.section import FromSection, Section
from biotilt.rewards.protein.folded import file_mark
from biotilt.spaces import PROTEIN, Images, Points
from biotilt.spaces.residues import Residues

ROWS = 64  # designs that are looked at together
NO_CHANCE = -1e8  # of letters that a position may not have, each −1e9
Estimate = Literal["auto", "exact", "bound", "pseudo"]


def scored(
    designs: Sequence[Any], encode: Callable[[Any], Tensor], score: Callable[[Tensor], Sequence[float]]
) -> list[float]:
    """Return the scores of designs, of the states that `encode` gives a design `(1, ...)`, `ROWS` of them at a time.

    A design that has no state (DataError) is not scored, with the reason.
    """
    known: dict[int, Tensor] = {}
    scores: list[float] = [math.nan] * len(designs)
    for row, design in enumerate(designs):
        try:
            known[row] = encode(design)
        except DataError as error:
            scores[row] = NotScored(str(error))
    rows = list(known)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        for row, value in zip(part, score(torch.cat([known[row] for row in part]))):
            scores[row] = value
    return scores


@dataclass(frozen=True)
class LoglikOptions:
    """`estimate`: exact, bound or pseudo, see `LogLikelihood`; "auto" is exact for a chain of one step, else a bound.

    `draws`: corruptions a design, of a bound, by `seed`. `per` "letter": divided by the number of letters that are
    designed, pads not counted.
    """

    estimate: Estimate = "auto"
    draws: Few = 32
    per: Literal["design", "letter"] = "design"
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_options(self, 'reward "loglik"')


class Loglik(FromSection):
    """log p of a design under a model, in nats: a reward, a constraint that keeps designs natural, or a judge.

    The model of an experiment's section is what its table `model` names, as `[model]` does, or else the pretrained
    model itself. All designs are corrupted alike (`seed`), so a design has one score whatever it is asked with. Raises
    ConfigError where the model has no such number: see `kind_for`.

    >>> import biotilt
    >>> model = biotilt.Experiment.for_task("utr").model
    >>> natural = Loglik(model, draws=8, per="letter")
    >>> natural.label, [score > -2 for score in natural(model.sample(2))]
    ('log p, a bound by 8 draws', [True, True])
    """

    name: str = "loglik"
    differentiable = False
    takes = frozenset({"model", "options"})
    Options: ClassVar[type] = LoglikOptions

    def __init__(self, model: Model, **options: Any):
        self.options: LoglikOptions = build_options(LoglikOptions, options, 'reward "loglik"')
        self.kind: Kind = kind_for(model.policy, self.options.estimate)
        self.model, self.reads = model, model.space.medium
        self.draws = self.options.draws if self.kind == "bound" else 0
        self.units = "nats a letter" if self.options.per == "letter" else "nats"
        self.label = described(self.kind, self.draws)

    @classmethod
    def of_section(cls, section: Section) -> Loglik:
        if section.model is None:
            raise ConfigError(f"{section.key}.model: this key is missing: name a model as [model] does")
        build_options(LoglikOptions, section.options, f"{section.key}.options")
        try:
            return cls(section.model(), **section.options)
        except ConfigError as error:
            raise ConfigError(f"{section.key}: {error}") from error

    @cached_property
    def version(self) -> str:
        """What the scores depend on: the options, every weight, the process and what designs are."""
        model = self.model
        weights = fingerprint(model.policy.frozen_view().net)  # of which nothing can be trained
        told = None if model.told is None else asdict(model.told)
        about = (asdict(self.options), self.kind, model.policy.process.name, model.process_options, told)
        return f"1-{digest(repr((about, model.space.spec(), weights)))}"

    def __call__(self, designs: Sequence[Any]) -> list[float]:
        return scored(designs, self._state, self._scores)

    def estimate(self, designs: Sequence[Any]) -> LogLikelihood:
        """Return log p of designs with what it is and its standard errors; DataError for one that has no state."""
        states = torch.cat([self._state(design) for design in designs])
        found, size = self._estimated(states), self._sizes(states)
        error = None if found.error is None else found.error / size
        return LogLikelihood(found.values / size, found.kind, error, found.draws)

    def _state(self, design: Any) -> Tensor:
        """Return the state `(1, ...)` of a design; DataError where the model makes no such designs."""
        states, process = self.model.encode([design]), self.model.policy.process
        assert states is not None  # no model with several conditions is taken
        size = sizes_of(process).get("length", states.shape[1])
        if states.shape[1] != size:
            raise DataError(f"the model makes designs of {size} positions, and this one has {states.shape[1]}")
        return states

    def _scores(self, states: Tensor) -> list[float]:
        values = (self._estimated(states).values / self._sizes(states)).tolist()
        floor = NO_CHANCE / states[0].numel()
        return [Infeasible("the model gives it no chance") if value < floor else value for value in values]

    def _estimated(self, states: Tensor) -> LogLikelihood:
        device = device_of(self.model.policy.net)
        found = log_likelihood(
            self.model.policy, states.to(device), self.kind, draws=self.options.draws, seed=self.options.seed
        )
        error = None if found.error is None else found.error.cpu()
        return LogLikelihood(found.values.cpu() - self._volume, found.kind, error, found.draws)

    def _free(self, states: Tensor) -> Tensor:
        """Return which coordinates of states are designed, bool `(1, ...)` or shaped like them."""
        process = self.model.policy.process
        fixed = process.fixed if isinstance(process, Holding) else None
        return torch.ones_like(states[:1], dtype=torch.bool) if fixed is None else ~fixed.mask.unsqueeze(0)

    def _sizes(self, states: Tensor) -> Tensor:
        """Return by what the log p of each design is divided, `(B,)`, or `()` for all."""
        if self.options.per == "design":
            return torch.tensor(1.0)
        counted = self._free(states)
        if isinstance(self.model.space, Varying):
            counted = counted & (states != self.model.space.pad)
        return counted.expand(states.shape).flatten(1).sum(1).clamp(min=1)

    @cached_property
    def _volume(self) -> float:
        """log of how much larger a design's unit is than that of its state: densities are in the data's own units."""
        space = self.model.space
        if isinstance(space, Points):
            return float((torch.tensor(space.scale).log() * self._free(torch.zeros(1, len(space.scale)))).sum())
        if isinstance(space, Images):
            return -math.log(2) * float(self._free(torch.zeros(1, space.size)).sum())
        return 0.0


@dataclass(frozen=True)
class BackboneLikelihood:
    """Mean log p of a designed residue given the backbone, nats, ≤ 0, under ProteinMPNN at temperature 1.

    The mean over `orders` random orders of decoding, the same for all designs, in which what is held comes first.
    `weights` ("soluble/v_48_020", …) should be others than the generator's where this is the judge. The other options
    are those of the generator (`[model] options`), so that the same residues are meant.
    """

    backbone: PathText
    weights: PathText = SOLUBLE
    chains: Selections = ()
    fixed: Selections = ()
    exclude: Selections = ()
    symmetric: Flag = False
    tied: tuple[Selections, ...] = ()
    orders: Few = 4

    name: ClassVar[str] = "backbone_likelihood"
    units: ClassVar[str] = "nats a residue"
    guards: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')
        _ = self._judge  # what is missing is said before any design is scored

    @property
    def native(self) -> str:
        """The structure's own letters at the positions that are designed."""
        return self._judge[1].native

    @property
    def version(self) -> str:
        said = repr((self.chains, self.fixed, self.exclude, self.symmetric, self.tied, self.orders))
        weights = file_mark(Path(self.weights)) if Path(self.weights).is_file() else self.weights
        return f"1-{digest(f'{said} {weights}')}-{file_mark(Path(self.backbone))}"

    @cached_property
    def _judge(self) -> tuple[BackboneDecoder, Residues]:
        source = ProteinMPNN(
            self.backbone, self.weights, self.chains, self.fixed, self.exclude, symmetric=self.symmetric, tied=self.tied
        )
        structure = source.structure()
        owner = source.owners(structure)
        net = decoder(weights_of(self.weights), structure, owner).requires_grad_(False)
        if net.config.masks:
            raise ConfigError(
                f'reward "{self.name}": {self.weights} are weights of the inverse folding of DRAKES, which gives no '
                "likelihood in an order of decoding: take those of a ProteinMPNN, or the reward loglik, which bounds it"
            )
        return net, source.space(structure, owner)

    def __call__(self, designs: list[str]) -> list[float]:
        return scored(designs, self._tokens, lambda x: self._scores(x).tolist())

    def _tokens(self, design: str) -> Tensor:
        tokens = PROTEIN.encode(str(design)).unsqueeze(0)
        if tokens.shape[1] != self._judge[1].length:
            raise DataError("the design is not of the backbone's residues")
        return tokens

    @torch.no_grad()
    def _scores(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of designs `(B, L)`."""
        net, space = self._judge
        free = ~space.limits.mask
        placed = net.placed(x)
        total = torch.zeros(len(x))
        for rank in self._ranks(net, free):
            logits = net.of_design(net.logits(placed, rank))[..., :V]
            terms = logits.log_softmax(-1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
            total += terms[:, free].mean(-1)
        return total / self.orders

    def _ranks(self, net: BackboneDecoder, free: Tensor) -> list[Tensor]:
        """Return orders of the residues `(N,)`: chains that are not designed, what is held, and the rest at random."""
        generator = torch.Generator().manual_seed(0)
        owner = net.owner.long()
        found = []
        for _ in range(self.orders):
            place = torch.rand(len(free), generator=generator) + free  # held positions below 1, others above
            rank = torch.where(owner < 0, torch.arange(len(owner)) / len(owner) - 2, place[owner.clamp(min=0)])
            found.append(rank)
        return found
