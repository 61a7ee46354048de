"""How many threads of the processor are taken: those that are free at the start, and ever after as many as then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

# what says how many: somebody knows better
SAID = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def free_threads(measured: float = 0.25) -> int:
    """Return how many of torch's threads have a core to themselves: those that other programs leave, at least 1.

    More of them than free cores wait for one another: a run becomes many times slower, not a little. `measured`:
    seconds to look at the cores. A number that the environment says is kept.
    """
    most, cores = torch.get_num_threads(), psutil.cpu_count()
    if most == 1 or cores is None or any(os.environ.get(name) for name in SAID):
        return most
    return free_of(most, cores, psutil.cpu_percent(measured) / 100)


def free_of(most: int, cores: int, busy: float) -> int:
    """Return how many of `most` threads are free where a share `busy` of the `cores` is not.

    >>> free_of(2, 2, 0.03), free_of(2, 2, 0.6), free_of(8, 16, 0.4), free_of(8, 16, 1.0)
    (2, 1, 8, 1)
    """
    return max(1, min(most, round(cores * (1 - busy))))


@contextmanager
def at_work(threads: int | None) -> Iterator[None]:
    """Have torch take so many threads, and afterwards as many as before; None leaves them as they are."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
