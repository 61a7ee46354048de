"""Return regression on designs that a surrogate scored: the oracle is asked for labels, not for every lesson.

A network R_φ of complete designs is fitted to every scored design, R_φ(x) → r(x): it needs no partial states, so
nothing but its own error blurs what one call told. After each round the current policy draws `imagine` designs that
are never sent to the oracle; R_φ scores them, and `LearnedQ`'s regression of the return learns from those.
This is Dyna (Sutton 1991) on the denoising chain. Against a policy that exploits what R_φ gets wrong there is one
guard: the policy's own designs are scored for real in every round, and R_φ is fitted to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.core import Batch, Context, Lesson, Network, Process, RollIn, Round, share
from biotilt.core.bounded import call
from biotilt.options import Count, Positive, check_options
from biotilt.values.learned import LearnedQ, LearnedValueConfig


@dataclass(frozen=True)
class SurrogateConfig(LearnedValueConfig):
    """`imagine` designs are drawn a round, the last `keep` of them taught from."""

    lr: Positive = 2e-3
    imagine: Count = 256
    keep: Count = 512

    def __post_init__(self) -> None:
        check_options(self, "value")


class SurrogateQ(LearnedQ):
    """`LearnedQ` by return regression whose rewards come from a surrogate, itself fitted to all scored designs.

    The surrogate has the network's shape: R_φ(x) = Σ_i f_φ(x)[i, x_i], in units of the rewards' spread, around their
    mean. Replay rows are the really scored designs: the buffer should hold all of them.
    """

    name: ClassVar[str] = "surrogate"
    Options: ClassVar[type] = SurrogateConfig

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
        """Score `calls` designs, and draw designs to imagine from the same policy."""
        collected = super().gather(context, roll_in, calls)
        config = self.config
        assert isinstance(config, SurrogateConfig)
        dream = RollIn().chains(context, config.imagine, terms=True, states=False)
        assert dream.terms is not None
        self.imagined = torch.cat([self.imagined, dream.designs])[-config.keep :]
        self.imagined_terms = torch.cat([self.imagined_terms, dream.terms])[-config.keep :]
        return collected

    def lesson(self, context: Context, rows: Batch) -> Lesson:
        """Fit the surrogate to the really scored `rows`, and return the lesson of as many imagined ones."""
        real = rows["rewards"] / context.target.alpha
        self.set_units(real)
        error = (self.predict(rows["designs"]) - (real - self.centre) / self.spread).square().mean()
        known = (self.imagined[:, 0] >= 0).nonzero().squeeze(-1)
        pick = known[torch.randperm(len(known), generator=context.generator, device=known.device)[: len(real)]]
        designs = self.imagined[pick]
        with torch.no_grad():
            guess = (self.predict(designs) * self.spread + self.centre) * context.target.alpha
        lesson = super().lesson(context, {"designs": designs, "rewards": guess, "terms": self.imagined_terms[pick]})
        return Lesson(lesson.x, lesson.k, lesson.q, lesson.loss + error)
