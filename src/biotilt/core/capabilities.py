"""What a kernel or a process can do, one class a capability: who has it derives from it, who needs it names it.

`check_parts` (`core/parts.py`) asks `issubclass` when an experiment is built, and `needed` narrows a kernel to what an
algorithm uses of it. A configuration that loses a capability makes kernels of another class: see `Limited`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol, Self, TypeVar

from torch import Generator, Tensor

from biotilt.errors import ConfigError

T = TypeVar("T")


class Net(Protocol):
    """Any callable from states `(B, ...)` and times `(B,)` in [0, 1], 1 = noise, to the process's parameters."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor: ...


class Capability(ABC):
    """Something that kernels or processes may be able to do; `offers` is its name in messages."""

    offers: ClassVar[str]


def needed(part: object, kind: type[T]) -> T:
    """Return a kernel, process or value as one of the class `kind`, which `check_parts` made sure of before.

    Raises ConfigError when it is none: the parts were put together without `check_parts`, or a process promises by
    `kernel_type` what its kernels are not.
    """
    if not isinstance(part, kind):
        raise ConfigError(f"this step needs {kind.__name__}, and {type(part).__name__} is none; see `check_parts`")
    return part


class Kernel(Capability):
    """p(y | x) of one step, which every kernel can draw from; what else it can do, its other parents say."""

    offers = "sample"

    @property
    @abstractmethod
    def x0(self) -> Tensor:
        """Posterior mean, or letter log-probabilities, of the design: from the same network call."""

    @abstractmethod
    def sample(self, generator: Generator) -> Tensor:
        """Draw the next states, shaped like `x`; no gradient."""


class Density(Kernel):
    """A kernel with a density, or probabilities: normalised, summed over coordinates and never averaged."""

    offers = "log_prob"

    @abstractmethod
    def log_prob(self, y: Tensor) -> Tensor:
        """Return log p(y | x) `(B,)`, with gradient."""


class Factorised(Density):
    """A density that is a product over coordinates."""

    offers = "terms"

    @abstractmethod
    def terms(self, y: Tensor) -> Tensor:
        """Return the part of `log_prob` that each coordinate carries, `(B, L)`.

        What the network does not decide (which position is revealed) is left out.
        """


class Divergence(Density):
    """A density whose KL to another kernel of its kind has a closed form."""

    offers = "kl"

    @abstractmethod
    def kl(self, other: Self) -> Tensor:
        """Return KL(self ‖ other) `(B,)` at the same states, with gradient."""


class Tiltable(Density):
    """A density that a tilt leaves in its family."""

    offers = "tilted"

    @abstractmethod
    def tilted(self, q: Tensor) -> Self:
        """Return the kernel times a tilt, normalised, with `q` shaped like what is drawn.

        Letters are reweighted by `exp(q)`; a gaussian is multiplied by `exp(q·y)`, which moves its mean by σ² q.
        """


class Mixable(Density):
    """A density whose geometric mixtures stay in its family."""

    offers = "mix"

    @abstractmethod
    def mix(self, other: Self, weight: float) -> Self:
        """Return `self^(1-weight) · other^weight`, normalised, of kernels at the same states."""


class Centred(Density):
    """A gaussian of mean `mean`, shaped like the states, whose width depends on the step alone, not on the state."""

    offers = "mean"

    mean: Tensor


class PosteriorDensity(Kernel):
    """A kernel that knows p(x0 | x) of complete designs."""

    offers = "posterior_log_prob"

    @abstractmethod
    def posterior_log_prob(self, design: Tensor) -> Tensor:
        """Return log p(x0 | x) `(B,)` of designs, letters independent given `x`, with gradient."""


class Guessing(Kernel):
    """A kernel that can guess the whole design."""

    offers = "guess"

    @abstractmethod
    def guess(self, generator: Generator | None = None) -> Tensor:
        """Return a design x̂0: hidden letters drawn, or the most likely; the posterior mean of a point."""


class Expecting(Kernel):
    """A kernel that knows the expected design."""

    offers = "expected"

    @abstractmethod
    def expected(self) -> Tensor:
        """Return the posterior mean as a relaxed design, with gradient to the relaxed state and the network."""


class Reparametrised(Kernel):
    """A kernel with draws that are differentiable."""

    offers = "rsample"

    @abstractmethod
    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Draw the next states, with gradient, in the form that `Relaxable.relaxed` gives states.

        Straight-through Gumbel-softmax at `temperature` > 0 for letters (the value is a draw, whatever the
        temperature); reparametrised for points.
        """


class Chance(NamedTuple):
    """What chance decides of a step: the coordinates that are `chosen`, bool `(B, L)`; in [0, 1) the letter of each."""

    chosen: Tensor
    level: Tensor


class Foreseeing(Kernel):
    """A kernel that draws what it reveals before it looks at what the network said: `sample` is both in turn."""

    offers = "chance"

    @abstractmethod
    def chance(self, generator: Generator) -> Chance:
        """Draw what the states and the step alone decide, the same whatever the network's output."""

    @abstractmethod
    def follow(self, chance: Chance) -> Tensor:
        """Return the next states: the network is read where `chosen`, and nowhere else."""


class Relaxable(Capability):
    """A process whose kernels also take differentiable states, and whose designs a differentiable reward can read."""

    offers = "relaxed"

    @abstractmethod
    def relaxed(self, x: Tensor) -> Tensor:
        """Return states as floats: letters become one-hot `(B, L, V+1)`, the last one the mask; points stay."""

    @abstractmethod
    def relaxed_design(self, x: Tensor) -> Tensor:
        """Return complete designs, relaxed or not, as a reward reads them: letter probabilities, or the points."""


class Dated(Capability):
    """A process whose states tell the step that they are of: a network of them need not be told the time."""

    offers = "states that tell their step"


class Reveals(Dated):
    """A process whose states are designs with some coordinates still hidden, each revealed once.

    `length` coordinates, each one of `letters` letters. Which of them a step reveals is no network's choice
    where kernels are `Factorised`; where they are not, every step reveals something.
    """

    offers = "hidden letters"

    length: int
    letters: int

    @property
    @abstractmethod
    def free(self) -> int:
        """The number of coordinates that are not held fixed."""

    @property
    def one_chain(self) -> bool:
        """Whether a single chain leads to each design, that of `corrupt`, so that log p is a sum over its steps."""
        return False

    @abstractmethod
    def hidden(self, x: Tensor) -> Tensor:
        """Return which coordinates of the states `(B, L)` are hidden, bool `(B, L)`."""

    @abstractmethod
    def hide(self, design: Tensor, count: Tensor, generator: Generator) -> Tensor:
        """Hide `count` `(B,)` free coordinates of each design `(B, L)`, chosen uniformly."""

    @abstractmethod
    def step_of(self, x: Tensor) -> Tensor:
        """Return the step `k` `(B,)` at which the chain is expected to be in such a state."""


class NoisedPath(Capability):
    """A process that draws a whole chain back from a design, by its own noising, whoever found the design."""

    offers = "noised_path"

    @abstractmethod
    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B, ...)` that end in designs `(B, ...)`; x[k] has the law of `corrupt(design, k)`.

        Every chain that a policy of the process may draw, and that ends in the design, has a positive chance.
        """


class SeveralTargets(Capability):
    """A process whose chains have one of several targets, which differ in Z and which no step changes.

    What compares chains, by a common log Z or a mean, must do so among those of one target.
    """

    offers = "several targets"

    @property
    @abstractmethod
    def targets(self) -> int:
        """The number of targets."""

    @abstractmethod
    def target_of(self, x: Tensor) -> Tensor:
        """Return which target `(B,)` in [0, `targets`) chains have, from any of their states."""


class LetterEvidence(Capability):
    """A process that can bound log p of a design letter by letter: see `formulas.evidence`."""

    offers = "letter_evidence"

    @abstractmethod
    def letter_evidence(
        self, net: Net, design: Tensor, generator: Generator, draws: int, *, alike: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return log p(letter) and weights `(draws, B, L)` at states with part of the design hidden.

        `alike`: the same part of every design, so that what one gets does not depend on which others there are.
        """


class Limited(ABC):
    """A process that says what to do about capabilities that it lacks, as it is configured or altogether."""

    @abstractmethod
    def remedies(self) -> Mapping[type[Capability], str]:
        """Return for each capability that its kernels have not what to use or to change instead.

        A capability stands for those derived from it: without `Density` there is no `Tiltable`. The kernels of the
        process are then of a class without it.
        """
