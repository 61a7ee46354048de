"""Designs of a policy, with what is seen of another one while they are drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from biotilt.core import Divergence, Policy, Process, Reveals, has, needed

ASKED = 5  # steps of a chain at which another policy is asked, where a step is much like the next


@dataclass(frozen=True)
class Drawn:
    """Designs `(B, ...)` and the `seconds` that drawing them took.

    `kl`: of each chain an estimate `(B,)`, whose mean is unbiased for KL(policy ‖ other) of paths; None where kernels
    have no KL.
    """

    designs: Tensor
    seconds: float
    kl: Tensor | None

    @property
    def mean_kl(self) -> float | None:
        return None if self.kl is None else self.kl.mean().item()


@torch.no_grad()
def draw_beside(
    policy: Policy, other: Policy, count: int, generator: Generator, *, samples: int, chunk: int = 512
) -> Drawn:
    """Draw `count` designs of a policy, and estimate how far its steps are from those of another.

    The other is asked about every n-th step of a chain, which counts n times, chains by turns from another first step
    on: so all steps count alike in the mean. Where letters are revealed, the KL of a step is a mean over those that are
    hidden, and much like that of the next: `samples` chains are asked `ASKED` times each. Elsewhere they are asked at
    every step. Where more chains are drawn than `samples`, each is asked less.
    """
    process = policy.process
    known, every = has(process, Divergence), _every(process, count, samples)
    designs, kls, seconds = [], [], 0.0
    for size in [chunk] * (count // chunk) + [count % chunk] * (count % chunk > 0):
        here = policy.at(process.noise(size, generator), 0)
        first = torch.randint(every, (), generator=generator, device=generator.device)
        turn = (torch.arange(size, device=here.x.device) + first) % every
        kl = torch.zeros(size, device=here.x.device)
        for k in range(process.steps):
            started = time.perf_counter()
            after = here.kernel.sample(generator)
            seconds += time.perf_counter() - started
            asked = turn == k % every
            if known and asked.any():
                ours, x = needed(here[asked].kernel, Divergence), here.x[asked]
                kl[asked] += every * ours.kl(needed(other.at(x, k).kernel, Divergence)).to(kl)
            here = here.after(after)
        designs.append(here.x)
        kls.append(kl)
    return Drawn(torch.cat(designs), seconds, torch.cat(kls) if known else None)


def _every(process: Process, count: int, samples: int) -> int:
    """Return at which of the steps of a chain another policy is asked: at every n-th."""
    rows = samples * (ASKED if isinstance(process, Reveals) else process.steps)
    return max(1, min(process.steps, process.steps * count // max(1, rows)))
