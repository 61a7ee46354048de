"""Gradients in bounded memory: a graph that would be too large is kept of a part, and made again for the rest.

What an update keeps for its backward pass are the activations of its networks, so that is what is counted. Rows of a
network are independent of each other: a part of them gives the same outputs and the same gradient.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

R = TypeVar("R")
LARGE = 50e6  # bytes of activations: what less leaves behind is not worth the time
_MEASURED: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], int]] = WeakKeyDictionary()


@dataclass
class _Budget:
    """Bytes of activations that graphs may keep, and how many are `left`."""

    limit: float
    left: float


_BUDGET: ContextVar[_Budget | None] = ContextVar("bytes of activations", default=None)


@contextmanager
def bounded(megabytes: float) -> Iterator[None]:
    """Let the graphs that are made inside keep so many megabytes of activations; their backward pass is inside too.

    What large graphs took is given back to the system at the end, so that the next begins where this one did.
    """
    budget = _Budget(megabytes * 1e6, megabytes * 1e6)
    with _set(budget):
        yield
    if budget.limit - budget.left >= LARGE:
        give_back()


def give_back() -> None:
    """Give free memory back to the system, where the C library can (glibc); a few milliseconds.

    Updates differ in their number of rows, and so in the size of their activations. Blocks of one size leave holes into
    which those of the next do not fit, and the process would grow to several times what an update keeps.
    """
    trim = _trimmer()
    if trim is not None:
        trim(0)


@functools.cache
def _trimmer() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # musl, macOS, Windows
        return None


@contextmanager
def _set(budget: _Budget | None) -> Iterator[None]:
    token = _BUDGET.set(budget)
    try:
        yield
    finally:
        _BUDGET.reset(token)


def call(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    """Return the outputs `(B, ...)` of a network, in parts where the graph of all rows would be too large."""
    return in_parts(net, net, x, t, shown=(x, t))


def in_parts(function: Callable[..., Tensor], net: nn.Module, *columns: Tensor, shown: tuple[Tensor, Tensor]) -> Tensor:
    """Return `function(*columns)` `(B, ...)`, which asks `net` once a row and draws nothing at random.

    `shown`: what the network is shown of one row or more. Where the graph of all rows would be larger than what is left
    of the bound, it is kept of as many rows as fit, and made again in the backward pass for the rest, part by part.
    """
    budget, rows = _BUDGET.get(), len(columns[0])
    if budget is None or rows == 0 or not _learns(net, columns):
        return function(*columns)
    row = max(graph_bytes(net, *shown), 1)
    kept = int(min(rows, max(1, budget.left // row)))
    # where little is left, parts that are made again go beyond it by a quarter of the bound and no more
    size = int(max(1, budget.left // row, budget.limit / 4 // row))
    budget.left = max(0.0, budget.left - kept * row)
    parts = [
        again(function, *(column[i : min(i + size, rows - kept)] for column in columns))
        for i in range(0, rows - kept, size)
    ]
    with _set(None):  # these rows are paid for
        parts.append(function(*(column[rows - kept :] for column in columns)))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def again(function: Callable[..., R], *args: object) -> R:
    """Return what a function of tensors returns, with a graph that is made in the backward pass, by calling it again.

    It must do the same when it is called again: what it draws, it draws by a seed.
    """
    budget = _BUDGET.get()

    def run(*inputs: object) -> R:
        with _set(budget and _Budget(budget.limit, budget.limit)):
            return function(*inputs)

    return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)


def room(net: nn.Module, x: Tensor, t: Tensor) -> int:
    """Return of how many rows like those shown the graph fits into what is left of the bound; of any without one."""
    budget = _BUDGET.get()
    return sys.maxsize if budget is None else int(budget.left // max(graph_bytes(net, x, t), 1))


def graph_bytes(net: nn.Module, x: Tensor, t: Tensor) -> int:
    """Return the bytes that a network keeps of a row for the backward pass; measured once for rows of a shape."""
    known = _MEASURED.setdefault(net, {})
    key = (x.shape[1:], x.dtype, x.device, x.requires_grad)
    if key not in known:
        weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
        found: dict[int, int] = {}

        def keep(saved: Tensor) -> Tensor:
            storage = saved.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return saved

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            # not by __call__: this row is nobody's, and hooks are not to see it
            outputs = net.forward(x[:1].detach().clone().requires_grad_(x.requires_grad), t[:1].detach().clone())
        del outputs
        known[key] = sum(found.values())
    return known[key]


def _learns(net: nn.Module, columns: tuple[Tensor, ...]) -> bool:
    """Return whether a call now would keep a graph."""
    if not torch.is_grad_enabled():
        return False
    return any(column.requires_grad for column in columns) or any(p.requires_grad for p in net.parameters())
