"""Return regression on designs that a surrogate scored: the oracle is asked for labels, not for every lesson.

A network R_φ of complete designs is fitted to every scored design, R_φ(x) → r(x): it needs no partial states, so
nothing but its own error blurs what one call told. In each round the current policy draws `imagine` designs, of which
the oracle is asked about no more than there are calls; R_φ scores them all, and `LearnedQ`'s regression of the return
learns from those. This is Dyna (Sutton 1991) on the denoising chain. Against a policy that exploits what R_φ gets wrong
there is one guard: some of the policy's own designs are scored for real in every round, and R_φ is fitted to them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.core import Batch, Context, Lesson, Network, Process, RollIn, Round, roll_in_metrics, share
from biotilt.core.bounded import call
from biotilt.options import Count, Positive, check_options
from biotilt.values.learned import LearnedQ, LearnedValueConfig


@dataclass(frozen=True)
class SurrogateConfig(LearnedValueConfig):
    """`imagine` designs are drawn a round, the last `keep` of them taught from, hidden `hidings` times each.

    An update of n states is one of n / `hidings` imagined designs and as many scored ones.
    """

    lr: Positive = 2e-3
    imagine: Count = 256
    keep: Count = 512
    hidings: Count = 2

    def __post_init__(self) -> None:
        check_options(self, "value")


class SurrogateQ(LearnedQ):
    """`LearnedQ` by return regression whose rewards come from a surrogate, itself fitted to all scored designs.

    The surrogate has the network's shape: R_φ(x) = Σ_i f_φ(x)[i, x_i], in units of the rewards' spread, around their
    mean. Replay rows are the really scored designs: the buffer should hold all of them. Each round's scores are
    predicted before they are learned (`value_held_out` of the history, `values.foresight`).
    """

    name: ClassVar[str] = "surrogate"
    Options: ClassVar[type] = SurrogateConfig
    screened: ClassVar[bool] = True

    imagined: Tensor
    imagined_terms: Tensor

    @classmethod
    def build(cls, options: SurrogateConfig, process: Process, network: Network) -> SurrogateQ:
        return cls(network(options.width, options.depth), process, options)

    def __init__(self, net: nn.Module, process: Process, config: SurrogateConfig | None = None):
        config = config or SurrogateConfig()
        super().__init__(net, process, "return", config)
        self.surrogate = share(net)
        length, tokens = self.process.length, process.noise(1, torch.Generator()).dtype
        self.register_buffer("imagined", torch.full((config.keep, length), -1, dtype=tokens))
        self.register_buffer("imagined_terms", torch.zeros(config.keep, length))

    def predict(self, designs: Tensor) -> Tensor:
        """Return R_φ `(B,)` of complete designs `(B, L)`, standardised."""
        outputs = call(self.surrogate, *self.process.inputs(designs, self.process.steps))
        return outputs.gather(-1, designs.long().unsqueeze(-1)).squeeze(-1).sum(-1)

    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        """Draw designs to imagine from the policy, and score as many of them as the roll-in has of its `calls`.

        What a screen chooses to be scored is imagined with the rest, so that states are followed by what the policy
        draws there, and not by what was chosen.
        """
        config = self.config
        assert isinstance(config, SurrogateConfig)
        wanted = context.proposals(calls)
        ours = sum(itertools.islice(roll_in.turns(context), wanted))
        dream = RollIn().chains(context, max(config.imagine, ours), terms=True, states=False)
        assert dream.terms is not None
        self.imagined = torch.cat([self.imagined, dream.designs])[-config.keep :]
        self.imagined_terms = torch.cat([self.imagined_terms, dream.terms])[-config.keep :]
        designs, terms = dream.designs[:ours], dream.terms[:ours]
        if ours < wanted:
            others = RollIn(beta=0.0).chains(context, wanted - ours, states=False).designs
            designs, terms = torch.cat([designs, others]), torch.cat([terms, terms.new_zeros(others.shape)])
        if wanted > calls:
            picked = context.chosen(designs, calls)
            designs, terms = designs[picked], terms[picked]
        rewards = context.rewards(designs)
        rows = {"designs": designs, "rewards": rewards, "terms": terms}
        return Round(rows, designs, roll_in_metrics(dream, rewards) | self.foreseen(context, designs, rewards))

    def guess(self, context: Context, designs: Tensor) -> Tensor:
        """Return R_φ `(B,)` of complete designs `(B, L)`, in units of reward."""
        return (self.predict(designs) * self.spread + self.centre) * context.target.alpha

    def lesson(self, context: Context, rows: Batch) -> Lesson:
        """Fit the surrogate to a part of the really scored `rows`, and return the lesson of as many imagined ones.

        Q learns from `hidings` states of each imagined design, and the policy from the first.
        """
        real = rows["rewards"] / context.target.alpha
        self.set_units(real)
        config = self.config
        assert isinstance(config, SurrogateConfig)
        count = -(-len(real) // config.hidings)
        error = self.predict(rows["designs"][:count]) - (real[:count] - self.centre) / self.spread
        known = (self.imagined[:, 0] >= 0).nonzero().squeeze(-1)
        pick = known[torch.randperm(len(known), generator=context.generator, device=known.device)[:count]]
        designs = self.imagined[pick]
        with torch.no_grad():
            guess = self.guess(context, designs)
        seen = {"designs": designs, "rewards": guess, "terms": self.imagined_terms[pick]}
        lesson = super().lesson(context, {name: torch.cat([rows] * config.hidings) for name, rows in seen.items()})
        x, k, q = (of_states[: len(pick)] for of_states in (lesson.x, lesson.k, lesson.q))
        return Lesson(x, k, q, lesson.loss + error.square().mean())
