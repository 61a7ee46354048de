"""log p of designs under a policy: exact where that can be had, a bound, or the pseudo-likelihood of masked models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from biotilt.core import Density, LetterEvidence, Policy, PosteriorDensity, Process, Reveals, has, needed
from biotilt.core.capabilities import SeveralTargets
from biotilt.core.parts import remedy_of
from biotilt.core.protocols import OfLetters, reads_time
from biotilt.errors import ConfigError

Kind = Literal["exact", "bound", "pseudo"]
KINDS: tuple[Kind, ...] = ("exact", "bound", "pseudo")
# Corruptions a design where nothing is said: on 5'UTRs of the base eight independent ones leave a standard error of
# 2.4 nats, five that are spread over the steps one of 2.3.
INDEPENDENT, SPREAD = 8, 5
GROUPS = 4  # independent parts of the draws, by which their error is told
MOST_FREE = 10  # hidden letters over whose orders an exact sum is taken: 3^10 steps
ROWS = 512  # states a network call


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """log p of designs, `values` `(B,)` in nats, and which it is, `kind`.

    "exact"; "bound": a lower bound on it (the ELBO), its mean over `draws` corruptions of each design, with the
    standard `error` `(B,)` of that mean; "pseudo": Σ_i log p(x_i | all other letters), which is no log-probability of
    the design and compares designs under one model. `error` is None, `draws` 0 where nothing is drawn.
    """

    values: Tensor
    kind: Kind
    error: Tensor | None = None
    draws: int = 0

    def __str__(self) -> str:
        return described(self.kind, self.draws)


def described(kind: Kind, draws: int) -> str:
    """Return what people call such a number.

    >>> described("bound", 32), described("exact", 0)
    ('log p, a bound by 32 draws', 'log p')
    """
    if kind == "bound":
        return f"log p, a bound by {draws} draws"
    return "log p" if kind == "exact" else "pseudo-log-likelihood"


def kind_for(policy: Policy, asked: str) -> Kind:
    """Return what is estimated where `asked` is a kind or "auto": exact where one chain leads to a design, or a bound.

    Raises ConfigError, with what to do, where the process has no such number.
    """
    process = policy.process
    if isinstance(process, SeveralTargets):
        raise ConfigError("the model has several conditions, each with a law of its own: name one of them")
    if asked != "pseudo":
        _check_density(policy.process)
    if asked == "auto":
        asked = "exact" if _is_one_step(policy) or _is_one_chain(policy) else "bound"
    unbounded = remedy_of(process, LetterEvidence)
    if asked == "bound" and unbounded is not None:
        raise ConfigError(f'no bound on log p is known of the process "{process.name}": {unbounded}')
    if asked == "exact":
        _check_exact(policy)
    if asked == "pseudo" and not isinstance(process, Reveals):
        raise ConfigError(
            "a pseudo-likelihood hides one letter at a time, of chains that show each once; the process "
            f'"{process.name}" has none: masked and any_order do; say estimate = "bound"'
        )
    for kind in KINDS:
        if kind == asked:
            return kind
    raise ConfigError(f'estimate: "{asked}" is none of auto, {", ".join(KINDS)}')


def _check_density(process: Process) -> None:
    """Raise ConfigError, which says what to change, where the chains of a process have no density."""
    if has(process, Density):
        return
    remedy = remedy_of(process, Density) or "take another process"
    raise ConfigError(f'designs of the process "{process.name}" have no density as it is configured: {remedy}')


@torch.no_grad()
def log_likelihood(policy: Policy, designs: Tensor, kind: Kind, *, draws: int = 32, seed: int = 0) -> LogLikelihood:
    """Return log p of designs `(B, ...)`, states of the policy's process, as `kind_for` found it can be had.

    What a design gets does not depend on the others: all are corrupted alike, by draws of `seed`, so that differences
    between designs are known better than each by itself. `draws`: of a bound, at least 1; the error is told from four
    parts of them, and is None for fewer than 4.
    """
    if kind == "exact":
        return LogLikelihood(_exact(policy, designs), kind)
    if kind == "pseudo":
        return LogLikelihood(_pseudo(policy, designs), kind)
    groups = GROUPS if draws >= GROUPS else 1
    each = max(1, draws // groups)
    found = _bounds(policy, designs, groups, each, seed)
    error = found.std(0) / math.sqrt(groups) if groups > 1 else None
    return LogLikelihood(found.mean(0), kind, error, groups * each)


@torch.no_grad()
def likelihood(
    policy: Policy, designs: Tensor, generator: Generator, *, draws: int | None = None, chunk: int = ROWS
) -> Tensor:
    """Return an estimate of a lower bound on log p of each design under the policy (the ELBO), `(B,)`, nats.

    It is unbiased for the bound, not for the log-probability: compare it between designs under one policy only. A
    process that knows the evidence for each letter has the bound of the chain that it draws, its draws spread evenly
    over the steps; any other that of its denoising loss. Corruptions are drawn for each design anew, which is best for
    means over designs.

    Args:
        policy: whose likelihood; usually the base.
        designs: `(B, ...)`, as the process takes them.
        generator: draws the corruptions.
        draws: corruptions a design, at least 1; the error falls with them. By default as many as bring it to that of
            eight independent ones.
        chunk: states a network call.
    """
    process = policy.process
    spread = isinstance(process, LetterEvidence)
    draws = draws or (SPREAD if spread else INDEPENDENT)
    found = []
    for part in designs.split(max(1, chunk // draws if spread else chunk)):
        if isinstance(process, LetterEvidence):
            log_prob, weight = process.letter_evidence(policy.net, part, generator, draws)
            found.append((log_prob * weight).sum(-1).mean(0))
        else:
            total = sum(process.denoising_loss(policy.net, part, generator) for _ in range(draws))
            found.append(-torch.as_tensor(total) / draws)
    return torch.cat(found) if found else torch.zeros(0, device=designs.device)


def _bounds(policy: Policy, designs: Tensor, groups: int, each: int, seed: int) -> Tensor:
    """Return independent estimates `(groups, B)` of the bound, each by `each` corruptions that all designs share."""
    process, device = policy.process, designs.device
    together = max(1, ROWS // each) if isinstance(process, LetterEvidence) else 1
    found = []
    for part in designs.split(together):
        generator = torch.Generator(device).manual_seed(seed)  # the same for every part
        if isinstance(process, LetterEvidence):
            drawn = [process.letter_evidence(policy.net, part, generator, each, alike=True) for _ in range(groups)]
            found.append(torch.stack([(log_prob * weight).sum(-1).mean(0) for log_prob, weight in drawn]))
        else:  # their draws have the shape of the batch: one design at a time, its rows spread over the steps
            rows = part.expand(each, *part.shape[1:]).contiguous()
            losses = [process.denoising_loss(policy.net, rows, generator).mean() for _ in range(groups)]
            found.append(-torch.stack(losses).unsqueeze(-1))
    return torch.cat(found, 1) if found else torch.zeros(groups, 0, device=device)


def _pseudo(policy: Policy, designs: Tensor) -> Tensor:
    """Return Σ_i log p(x_i | the other letters) `(B,)` over positions that are not held."""
    process = needed(policy.process, Reveals)
    blank = policy.process.noise(1, Generator(designs.device))
    places = process.hidden(blank)[0].nonzero().flatten()
    total = torch.zeros(len(designs), device=designs.device)
    for part in places.split(max(1, ROWS // max(1, len(designs)))):
        rows = designs.repeat(len(part), 1)
        alone = torch.zeros(len(part), designs.shape[1], dtype=torch.bool, device=designs.device)
        alone[torch.arange(len(part)), part] = True
        x = torch.where(alone.repeat_interleave(len(designs), 0), blank, rows)
        log_prob = policy.kernel_as(PosteriorDensity, x, process.step_of(x)).posterior_log_prob(rows)
        total += log_prob.view(len(part), -1).sum(0)
    return total


def _is_one_step(policy: Policy) -> bool:
    """Whether a design is drawn in one step, from noise that says nothing of it and is no part of its law."""
    process = policy.process
    if process.steps != 1 or not has(process, Density):
        return False
    first, other = (process.noise(1, Generator(_device(policy)).manual_seed(seed)) for seed in (0, 1))
    if isinstance(process, OfLetters) and first.is_floating_point():
        return False  # designs are the letters of what is drawn, and have no density of their own
    shown = (process.inputs(x, 0).x for x in (first, other))
    return torch.equal(*shown)


def _is_one_chain(policy: Policy) -> bool:
    return isinstance(policy.process, Reveals) and policy.process.one_chain


def _along_the_chain(policy: Policy, designs: Tensor) -> Tensor:
    """Return log p `(B,)` of designs to each of which one chain leads: the sum over its steps."""
    process, unread = policy.process, Generator(designs.device)
    found = []
    for part in designs.split(ROWS):
        chain = [process.corrupt(part, k, unread) for k in range(process.steps)] + [part]
        steps = [policy.kernel_as(Density, x, k).log_prob(chain[k + 1]) for k, x in enumerate(chain[:-1])]
        found.append(torch.stack(steps).sum(0))
    return torch.cat(found) if found else torch.zeros(0, device=designs.device)


def _check_exact(policy: Policy) -> None:
    process = policy.process
    if _is_one_step(policy) or _is_one_chain(policy):
        return
    if not isinstance(process, Reveals):
        raise ConfigError(
            f"an exact log p is known of a chain of one step, and where letters are revealed; the process "
            f'"{process.name}" takes {process.steps} steps: say estimate = "bound"'
        )
    if process.free > MOST_FREE:
        raise ConfigError(
            f"an exact log p is a sum over the orders in which letters are revealed, for at most {MOST_FREE} of them; "
            f'these designs have {process.free}: say estimate = "bound"'
        )


def _exact(policy: Policy, designs: Tensor) -> Tensor:
    _check_exact(policy)
    if _is_one_step(policy):
        noise = policy.process.noise(1, Generator(designs.device).manual_seed(0))
        return torch.cat(
            [
                policy.kernel_as(Density, noise.expand(len(part), *noise.shape[1:]), 0).log_prob(part)
                for part in designs.split(ROWS)
            ]
            or [torch.zeros(0, device=designs.device)]
        )
    if _is_one_chain(policy):
        return _along_the_chain(policy, designs)
    found = [_over_orders(policy, design) for design in designs]
    return torch.stack(found) if found else torch.zeros(0, device=designs.device)


def _over_orders(policy: Policy, design: Tensor) -> Tensor:
    """Return log p of one design `(L,)`: the chance of every order in which its F letters are revealed, summed.

    A state is a set of revealed letters, one of 2^F. Going back from the design, the chance of ending there from each
    of them is the sum over the next states.
    """
    process = policy.process
    blank = process.noise(1, Generator(design.device))[0]
    places = needed(process, Reveals).hidden(blank.unsqueeze(0))[0].nonzero().flatten()
    sets = torch.tensor(list(itertools.product((False, True), repeat=len(places))), device=design.device)
    x = blank.repeat(len(sets), 1)
    x[:, places] = torch.where(sets, design[places], x[:, places])
    before, after = (~sets.unsqueeze(1) | sets.unsqueeze(0)).all(-1).nonzero().unbind(-1)  # a subset, and its superset
    still = not reads_time(policy.net)
    output: Tensor | None = None
    chance = torch.full((len(sets),), -torch.inf, dtype=torch.float64, device=design.device)
    chance[-1] = 0.0
    for k in reversed(range(process.steps)):
        if output is None or not still:
            output = torch.cat([policy.outputs(*process.inputs(part, k)) for part in x.split(ROWS)])
        steps = torch.full((len(sets),) * 2, -torch.inf, dtype=torch.float64, device=design.device)
        for rows, onward in _chunks(before, after):
            kernel = needed(process.kernel_of(output[rows], x[rows], k), Density)
            steps[rows, onward] = kernel.log_prob(x[onward]).double()
        chance = (steps + chance).logsumexp(-1)
    return chance[0].float()


def _chunks(*indices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    yield from zip(*(index.split(16 * ROWS) for index in indices))


def _device(policy: Policy) -> torch.device:
    return next((parameter.device for parameter in policy.net.parameters()), torch.device("cpu"))
