"""In how many bits networks compute. Weights, log-probabilities, losses and sums have 32 whatever is said here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

R = TypeVar("R")
Precision = Literal["float32", "bfloat16", "float16"]
AUTO = "auto"
LARGE = 2_000_000  # numbers of a network that gains by fewer bits; others are left as they are, unmeasured
GAIN = 1.5  # times as many products a second as in 32 bits, for which fewer digits are taken
SIZE = 1024  # of the matrices by which a card is measured
SIZES = {"cpu": 256}  # where 16 bits are slow, they are so by forty times and more
_TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TYPE: ContextVar[torch.dtype | None] = ContextVar("type of the products of networks", default=None)


@contextmanager
def computed_in(precision: Precision) -> Iterator[None]:
    """Have networks take their products in this precision inside."""
    with _set(_TYPES[precision]):
        yield


def asked(net: Callable[..., Tensor], *shown: Tensor) -> Tensor:
    """Return what a network says `(B, ...)`, its products taken as is set, in float32 where these have fewer bits."""
    dtype = _TYPE.get()
    if dtype is None:
        return net(*shown)
    # a weight is read once a call: to keep its copy would only mix those with and without a gradient
    with torch.autocast(shown[0].device.type, dtype, cache_enabled=False):
        return net(*shown).float()


def kept(function: Callable[..., R]) -> Callable[..., R]:
    """Return a function that computes later, in whichever thread, in the precision of now."""
    dtype = _TYPE.get()

    def run(*inputs: object) -> R:
        with _set(dtype):
            return function(*inputs)

    return run


def now() -> torch.dtype | None:
    """Return the type of products; None for that of the weights."""
    return _TYPE.get()


@contextmanager
def _set(dtype: torch.dtype | None) -> Iterator[None]:
    token = _TYPE.set(dtype)
    try:
        yield
    finally:
        _TYPE.reset(token)


def settled(said: Precision | Literal["auto"], net: nn.Module) -> tuple[Precision, str]:
    """Return the precision for a network, and where it was chosen to be other than float32 a sentence that says so.

    "auto" is bfloat16 for a large network on a machine that was measured, now, to be faster with it.
    """
    if said != AUTO:
        return said, ""
    parameters = list(net.parameters())
    if sum(p.numel() for p in parameters) < LARGE or any(p.dtype != torch.float32 for p in parameters):
        return "float32", ""
    gain = speed(torch.bfloat16, parameters[0].device) / speed(torch.float32, parameters[0].device)
    if gain < GAIN:
        return "float32", ""
    return "bfloat16", (
        f"networks compute in bfloat16: this machine takes {gain:.1f} times as many products a second in it; "
        f'train.precision = "float32" keeps all digits'
    )


def speed(dtype: torch.dtype, device: torch.device) -> float:
    """Return how many products of two matrices a second: the best of a few, since others may be busy beside."""
    size = SIZES.get(device.type, SIZE)
    a = torch.ones(size, size, dtype=dtype, device=device)
    best = 0.0
    for attempt in range(4):
        started = time.perf_counter()
        (a @ a)[0, 0].item()  # on a card, to read is to wait for it
        if attempt:  # the first one warms up
            best = max(best, 1 / (time.perf_counter() - started))
    return best
