"""The vocabulary: a process and a network make a policy over a finite-horizon Markov decision process.

States run from `x[0]`, pure noise, to `x[K]`, a design. Step `k` maps `x[k]` to `x[k+1]`.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor


class NetInput(NamedTuple):
    """What a network is shown of states `(B, ...)` at a step: `x` as networks read it, and times `t` `(B,)`."""

    x: Tensor
    t: Tensor


class Net(Protocol):
    """Any callable from states `(B, ...)` and times `(B,)` in [0, 1], 1 = noise, to the process's parameters."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor: ...


@runtime_checkable
class Kernel(Protocol):
    """p(y | x) of one step: normalised; log-probabilities are summed over coordinates, never averaged.

    A kernel may offer more, and an algorithm says by name what it needs (`check_parts`):

    * `terms(y) -> (B, L)`: the part of `log_prob` that each coordinate carries, where the kernel factorises;
      what the network does not decide (which position is revealed) is left out;
    * `tilted(q) -> Kernel`: the kernel times a tilt in closed form, `q` shaped like `x0`. Letters are reweighted by
      `exp(q)`; a gaussian is multiplied by `exp(q·y)`, which moves its mean by σ² q;
    * `mix(other, weight) -> Kernel`: the geometric mixture `self^(1-weight) · other^weight`, normalised;
    * `guess(generator=None)`: a design x̂0: hidden letters drawn, or the most likely; the posterior mean of a point;
    * `expected()`: the posterior mean as a relaxed design, with gradient to the relaxed state and the network;
    * `rsample(generator, temperature=1.0)`: a draw that is differentiable, in the form `Process.relaxed` gives states:
      straight-through Gumbel-softmax for letters (its value is a draw, whatever the temperature), reparametrised
      for points;
    * `posterior_log_prob(design) -> (B,)`: log p(x0 | x) of complete designs, letters independent given `x`.
    """

    @property
    def x0(self) -> Tensor:
        """Posterior mean, or letter log-probabilities, of the design: from the same network call."""
        ...

    def sample(self, generator: Generator) -> Tensor: ...

    def log_prob(self, y: Tensor) -> Tensor: ...

    def kl(self, other: Kernel) -> Tensor: ...


@runtime_checkable
class Process(Protocol):
    """A finite-horizon Markov decision process: x[0] noise, x[K] design.

    States are letters, `(B, L)` integers, or points, `(B, ...)` floats. A process may offer, for algorithms that
    differentiate the reward:

    * `relaxed(x)`: states as `inputs` and `kernel_of` also take them, differentiable: letters become `(B, L, V+1)`
      floats, one-hot, the last one the mask; points stay;
    * `relaxed_design(x)`: complete designs, relaxed or not, as a differentiable reward reads them: `(B, L, V)` letter
      probabilities, or the points themselves;
    * `letter_evidence(net, design, generator, draws)`: log p(letter) and weights `(draws, B, L)` at states with part of
      the design hidden: see `formulas.evidence`;
    * `tokens(x)`: the letters `(B, L)` that designs mean, where states are not letters themselves.

    `lacks`: capabilities that its class has and this configuration has not, each with what to do about it.
    """

    name: ClassVar[str]
    kernel_type: ClassVar[type]

    @property
    def steps(self) -> int: ...

    def noise(self, batch: int, generator: Generator) -> Tensor: ...

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return what the network is shown at states `x` `(B, ...)` and step `k`, an int or `(B,)`, in [0, K]."""
        ...

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> Kernel:
        """Return the kernel that a network's output at `inputs(x, k)` stands for, `k` in [0, K)."""
        ...

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor: ...

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor: ...


@runtime_checkable
class Reveals(Process, Protocol):
    """A process whose states are designs with some coordinates still hidden, each revealed once."""

    @property
    def length(self) -> int:
        """The number of coordinates."""
        ...

    @property
    def free(self) -> int:
        """The number of coordinates that are not held fixed."""
        ...

    def hidden(self, x: Tensor) -> Tensor:
        """Return which coordinates of the states `(B, L)` are hidden, bool `(B, L)`."""
        ...

    def hide(self, design: Tensor, count: Tensor, generator: Generator) -> Tensor:
        """Hide `count` `(B,)` free coordinates of each design `(B, L)`, chosen uniformly."""
        ...

    def step_of(self, x: Tensor) -> Tensor:
        """Return the step `k` `(B,)` at which the chain is expected to be in such a state."""
        ...


class Reward(Protocol):
    """A named function of designs, higher is better: NaN = could not be scored, -inf = infeasible."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def differentiable(self) -> bool: ...

    def __call__(self, designs: list[str]) -> list[float]: ...


class Scorer(Protocol):
    """What an algorithm sees of an oracle: rewards `(B,)`, float, of designs `(B, ...)`.

    That of a differentiable reward also has `relaxed(designs) -> (B,)`, with gradients, of relaxed designs.
    """

    def __call__(self, designs: Tensor, /) -> Tensor: ...


def kernel_at(process: Process, net: Net, x: Tensor, k: int | Tensor) -> Kernel:
    """Return the kernel of a process with a network at states `x` `(B, ...)` and step `k`: one network call."""
    return process.kernel_of(net(*process.inputs(x, k)), x, k)
