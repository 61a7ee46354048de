"""Policies, their three roles, and the trajectories they draw."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from biotilt.core.adapters import rest
from biotilt.core.bounded import call, in_parts
from biotilt.core.capabilities import (
    Density,
    Divergence,
    Factorised,
    Foreseeing,
    Kernel,
    Reveals,
    SeveralTargets,
    T,
    needed,
)
from biotilt.core.protocols import OfLetters, Process, in_full, kernel_at, reads_time

CHUNK = 512  # chains at a time, where no more is kept of one than its end


@dataclass
class Policy:
    """A process with a network: `kernel(x, k)` is p(x[k+1] | x[k])."""

    process: Process
    net: nn.Module

    def outputs(self, x: Tensor, t: Tensor) -> Tensor:
        """Return what the network says of `process.inputs`, its graph in bounded memory: see `core.bounded`."""
        return in_full(call(self.net, x, t))

    def kernel(self, x: Tensor, k: int | Tensor) -> Kernel:
        """Return the kernel at states `x` `(B, ...)` and step `k`, an int or `(B,)` integers in [0, K)."""
        return kernel_at(self.process, self.outputs, x, k)

    def log_prob(self, x: Tensor, k: int | Tensor, y: Tensor) -> Tensor:
        """Return log p(y|x) `(B,)` at steps `k`, with gradient, and no graph of more rows than memory allows.

        Steps that reveal nothing have the same probability whatever the network says, and it is not asked.
        """

        def of_rows(x: Tensor, k: Tensor, y: Tensor) -> Tensor:
            return self.kernel_as(Density, x, k).log_prob(y)

        k = torch.as_tensor(k, device=x.device).expand(len(x))
        moved = moving(self.process, x, y)
        moved[:1] |= ~moved.any()  # so that there is a gradient, be it nil
        if moved.all():
            return in_parts(of_rows, self.net, x, k, y, shown=self.process.inputs(x[:1], k[:1]))
        still = ~moved
        with torch.no_grad():  # any output will do
            output = self.outputs(*self.process.inputs(x[:1], k[:1])).expand(int(still.sum()), *[-1] * x.dim())
            alone = needed(self.process.kernel_of(output, x[still], k[still]), Density).log_prob(y[still])
        decided = in_parts(of_rows, self.net, x[moved], k[moved], y[moved], shown=self.process.inputs(x[:1], k[:1]))
        return (
            torch.zeros(len(x), dtype=decided.dtype, device=x.device)
            .index_put((still,), alone.to(decided))
            .index_put((moved,), decided)
        )

    def kernel_as(self, kind: type[T], x: Tensor, k: int | Tensor) -> T:
        """Return the kernel as one of a class of capabilities, which the algorithm's `needs` names."""
        return needed(self.kernel(x, k), kind)

    def at(self, x: Tensor, k: int | Tensor) -> Seen:
        """Return states `x` `(B, ...)` of step `k` in [0, K] with the kernel there, which is asked for when needed."""
        return Seen(self, x, k)

    def frozen_copy(self) -> Policy:
        """Return a copy whose weights take no gradient."""
        net = copy.deepcopy(self.net).eval()
        net.requires_grad_(False)
        return Policy(self.process, net)

    def frozen_view(self) -> Policy:
        """Return the same policy with weights that take no gradient: the same memory, as it is and as it changes.

        Adapters that are nil now are nil for good there, and take no time.
        """
        memo = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in self.net.parameters()}
        net = _copied(self.net, memo)
        rest(net)
        return Policy(self.process, net)


@dataclass
class Seen:
    """States with what a policy says of them: its network is asked once, when it is first needed, and not before.

    What reads the kernel of a state twice, to value it and then to go on from it, asks once so. Designs, of step K,
    have no kernel, and may be here all the same.
    """

    policy: Policy
    x: Tensor
    k: int | Tensor
    _known: tuple[Tensor, Tensor] | None = None

    @cached_property
    def _output(self) -> Tensor:
        shown = self.policy.process.inputs(self.x, self.k)
        if self._known is None:
            return self._asked(*shown)
        (still, known), self._known = self._known, None
        if still.all():
            return known
        found = self._asked(shown.x[~still], shown.t[~still])
        return found.new_empty(len(still), *found.shape[1:]).index_put((still,), known).index_put((~still,), found)

    def _asked(self, x: Tensor, t: Tensor) -> Tensor:
        """Return what the network says of some of the states: of one row, where chains that start alike start."""
        alike = isinstance(self.k, int) and self.k == 0 and len(x) > 1 and bool((x == x[:1]).all())
        if not alike or torch.is_grad_enabled():
            return self.policy.outputs(x, t)
        found = self.policy.outputs(x[:1], t[:1])
        return found.expand(len(x), *found.shape[1:])

    def among(self, moved: Tensor) -> Tensor:
        """Return the network's outputs where `moved` `(B,)`, asked about no other states; zeros elsewhere."""
        shown = self.policy.process.inputs(self.x, self.k)
        found = self._asked(shown.x[moved], shown.t[moved])
        return found.new_zeros(len(moved), *found.shape[1:]).index_put((moved,), found)

    def after(self, y: Tensor) -> Seen:
        """Return the next states: `y` `(B, ...)`, or several of each, `(n · B, ...)`.

        A network that reads no time is not asked again about what is shown to it unchanged.
        """
        there, process = self.policy.at(y, self.k + 1), self.policy.process
        if "_output" in vars(self) and not reads_time(self.policy.net):
            parent = torch.arange(len(y), device=y.device) % len(self.x)
            before, now = process.inputs(self.x, self.k).x, process.inputs(y, self.k + 1).x
            still = (before[parent] == now).reshape(len(y), -1).all(1)
            if still.any():
                there._known = (still, self._output[parent[still]])
        return there

    @cached_property
    def kernel(self) -> Kernel:
        """p(y|x) at the states."""
        return self.policy.process.kernel_of(self._output, self.x, self.k)

    def __getitem__(self, rows: Tensor) -> Seen:
        """Return some of the states, by number or mask `(B,)`, with what is known of them already."""
        some = Seen(self.policy, self.x[rows], self.k[rows] if isinstance(self.k, Tensor) and self.k.dim() else self.k)
        if "_output" in vars(self):
            vars(some)["_output"] = self._output[rows]
        return some


def moving(process: Process, x: Tensor, y: Tensor) -> Tensor:
    """Return in which steps from states `x` to `y` `(B, ...)` the network decided something, bool `(B,)`.

    Where letters are revealed it is asked which ones, and not when: a step that reveals none owes it nothing.
    """
    if not isinstance(process, Reveals) and not issubclass(process.kernel_type, Foreseeing):
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    return (x != y).any(-1)


def share(net: nn.Module) -> nn.Module:
    """Return a copy of a network with tensors of its own where it can be trained, and the very same ones elsewhere.

    What takes no gradient, a frozen backbone or a buffer, is in memory once, however many copies there are.
    """
    return _copied(net, {id(p): p for p in net.parameters() if not p.requires_grad})


def _copied(net: nn.Module, memo: dict[int, nn.Parameter]) -> nn.Module:
    """Return a copy in which the tensors of `memo`, by their identity, and all buffers are not copied."""
    # deepcopy asks its memo first, so tied weights stay tied and subclasses keep their methods
    return copy.deepcopy(net, memo | {id(b): b for b in net.buffers()}).eval()


def own_names(net: nn.Module) -> tuple[str, ...]:
    """Return the names of the tensors that training changes: those that require a gradient, tied ones once."""
    return tuple(name for name, parameter in net.named_parameters() if parameter.requires_grad)


@torch.no_grad()
def move_toward(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    """Move the parameters of `slow` toward those of `fast` by `rate` in [0, 1]: an exponential average."""
    for late, new in zip(slow.parameters(), fast.parameters()):
        if late is not new:  # both have the same frozen one
            late.lerp_(new, rate)


@dataclass
class Roles:
    """The policies of an algorithm: `policy` is trained, `base` frozen, `proposal` draws the data.

    They share every tensor that takes no gradient in the pretrained network and differ in the rest, so a network of P
    numbers of which F can be trained takes P + 2F, and the base is the pretrained network itself. All are in evaluation
    mode, in updates too: with dropout the policy that is compared would not be the one that drew.
    """

    policy: Policy
    base: Policy
    proposal: Policy

    @classmethod
    def start(cls, base: Policy) -> Roles:
        """Start all three roles at the pretrained `base`."""
        proposal = Policy(base.process, share(base.net).requires_grad_(False))
        return cls(policy=Policy(base.process, share(base.net)), base=base.frozen_view(), proposal=proposal)

    @torch.no_grad()
    def refresh_proposal(self) -> None:
        """Copy the policy's weights into the proposal."""
        for old, new in zip(self.proposal.net.parameters(), self.policy.net.parameters()):
            if old is not new:
                old.copy_(new)


def targets_of(process: Process, x: Tensor) -> Tensor | None:
    """Return which target `(B,)` the chains of states `(B, ...)` have; None where all have the same."""
    return process.target_of(x) if isinstance(process, SeveralTargets) else None


@dataclass
class Trajectory:
    """A batch of chains `x[0] … x[K]` with what was known when they were drawn.

    `states` `(K+1, B, ...)` in the smallest integer type that holds them (or float, for continuous
    processes), or only the last ones, `(1, B, ...)`; `log_ratio` `(K, B)`, log p(x[k+1]|x[k]) of the policy that drew
    them minus that of the base; `log_prob` `(K, B)` of the policy that drew them; `terms` `(B, L)`, the log-ratio of
    each coordinate, summed over steps. The last three are None unless asked for.
    """

    states: Tensor
    log_prob: Tensor | None = None
    log_ratio: Tensor | None = None
    terms: Tensor | None = None

    @property
    def designs(self) -> Tensor:
        """The final states `x[K]`, `(B, ...)`."""
        return self.states[-1]

    @property
    def steps(self) -> int:
        return len(self.states) - 1

    def rows(self, picked: Tensor) -> Trajectory:
        """Return the chains at some places, in that order."""
        return Trajectory(
            self.states[:, picked],
            None if self.log_prob is None else self.log_prob[:, picked],
            None if self.log_ratio is None else self.log_ratio[:, picked],
            None if self.terms is None else self.terms[picked],
        )

    @classmethod
    def join(cls, chains: list[Trajectory]) -> Trajectory:
        """Put batches of chains side by side."""

        def cat(parts: list[Tensor | None], dim: int) -> Tensor | None:
            present = [part for part in parts if part is not None]
            return torch.cat(present, dim) if len(present) == len(parts) else None

        return cls(
            torch.cat([c.states for c in chains], 1),
            cat([c.log_prob for c in chains], 1),
            cat([c.log_ratio for c in chains], 1),
            cat([c.terms for c in chains], 0),
        )


def _step(here: Seen, generator: Generator) -> tuple[Tensor, Kernel]:
    """Return the next states `(B, ...)`, and a kernel that is right of them: where they moved, and where they did not.

    Where it is known before what a step reveals, the network is not asked about states of which it reveals nothing.
    """
    process = here.policy.process
    if not isinstance(process, OfLetters) or not issubclass(process.kernel_type, Foreseeing):
        return here.kernel.sample(generator), here.kernel
    nothing = torch.zeros(1, device=here.x.device).expand(len(here.x), process.length, process.letters)
    chance = needed(process.kernel_of(nothing, here.x, here.k), Foreseeing).chance(generator)
    moved = chance.chosen.any(-1)
    if moved.all():
        kernel = here.kernel
    else:
        kernel = process.kernel_of(here.among(moved) if moved.any() else nothing, here.x, here.k)
    return needed(kernel, Foreseeing).follow(chance), kernel


@torch.no_grad()
def rollout(
    policy: Policy,
    batch: int,
    generator: Generator,
    *,
    base: Policy | None = None,
    terms: bool = False,
    every: int = 1,
    states: bool = True,
    start: tuple[Tensor, int] | None = None,
    stop: int | None = None,
) -> Trajectory:
    """Draw `batch` chains from a policy.

    With `base`, the log-probabilities of the steps and their ratios to the base are recorded as they are drawn (the
    base itself is not asked twice); with `terms` also the log-ratio of each coordinate `(B, L)`, summed over steps.
    With `every` = n the base is asked at every n-th step, from a random one of the first n on, and the ratios there
    count n times, those between 0: their sum over steps is right on average. Without `states` only the last ones are
    kept. `start` = (states, step) continues given states instead of drawing noise; the trajectory then has `K - step`
    steps, or ends at step `stop`.
    """
    x, first = (policy.process.noise(batch, generator), 0) if start is None else start
    kept, log_probs, log_ratios, here = [x], [], [], policy.at(x, first)
    coordinate_terms: Tensor | None = None
    phase = 0
    if base is not None and every > 1:
        phase = int(torch.randint(every, (), generator=generator, device=generator.device))
    for k in range(first, policy.process.steps if stop is None else stop):
        y, kernel = _step(here, generator)
        if base is not None:
            log_probs.append(needed(kernel, Density).log_prob(y))
            log_ratios.append(torch.zeros_like(log_probs[-1]))
            ours = needed(kernel, Factorised).terms(y) if terms else None
            step = None if ours is None else torch.zeros_like(ours)
            moved = moving(policy.process, here.x, y) & (base is not policy and k % every == phase)
            if moved.any():
                theirs = needed(base.at(here.x[moved], k).kernel, Density)
                log_ratios[-1][moved] = every * (log_probs[-1][moved] - theirs.log_prob(y[moved]))
                if ours is not None and step is not None:
                    step[moved] = ours[moved] - needed(theirs, Factorised).terms(y[moved])
            if step is not None:
                coordinate_terms = step if coordinate_terms is None else coordinate_terms + step
        if not states:
            kept.clear()
        kept.append(y)
        here = here.after(y)
    return Trajectory(
        torch.stack(kept),
        torch.stack(log_probs) if log_probs else None,
        torch.stack(log_ratios) if log_ratios else None,
        coordinate_terms,
    )


@torch.no_grad()
def sample(policy: Policy, batch: int, generator: Generator, *, chunk: int = CHUNK) -> Tensor:
    """Draw `batch` designs, keeping no chain: memory grows neither with their number nor with that of steps."""
    done = []
    for size in _sizes(batch, chunk):
        here = policy.at(policy.process.noise(size, generator), 0)
        for _ in range(policy.process.steps):
            here = here.after(_step(here, generator)[0])
        done.append(here.x)
    return torch.cat(done)


@torch.no_grad()
def path_kl(p: Policy, q: Policy, batch: int, generator: Generator, *, chunk: int = CHUNK) -> Tensor:
    """Return Σ_k KL(p(·|x[k]) ‖ q(·|x[k])) along `batch` chains of `p`, `(B,)`: its mean is the KL of paths."""
    found = []
    for size in _sizes(batch, chunk):
        x = p.process.noise(size, generator)
        total = torch.zeros(size, device=x.device)
        for k in range(p.process.steps):
            kernel = p.kernel_as(Divergence, x, k)
            total = total + kernel.kl(q.kernel_as(Divergence, x, k))
            x = kernel.sample(generator)
        found.append(total)
    return torch.cat(found)


def _sizes(count: int, chunk: int) -> list[int]:
    return [chunk] * (count // chunk) + [count % chunk] * (count % chunk > 0)
