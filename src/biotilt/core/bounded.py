"""Networks in bounded memory: a graph that would be too large is kept of a part, and made again for the rest.

What an update keeps for its backward pass are the activations of its networks, so that is what is counted. Rows of a
network are independent of each other: a part of them gives the same outputs and the same gradient. Without a gradient
rows go through by as many as have room.
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

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biotilt.core import precision, team
from biotilt.core.activations import blockwise, graph_size, working_bytes

R = TypeVar("R")
LARGE = 50e6  # bytes of activations: what less leaves behind is not worth the time
BESIDE = 0.25  # part of the bound that rows take at a time which keep no graph, or whose graph is made again


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
def renewed() -> Iterator[None]:
    """Let the graphs that are made inside keep as much as the bound allows: none of those before is there any more."""
    budget = _BUDGET.get()
    with _set(budget and _Budget(budget.limit, budget.limit)):
        yield


@contextmanager
def _set(budget: _Budget | None) -> Iterator[None]:
    token = _BUDGET.set(budget)
    try:
        yield
    finally:
        _BUDGET.reset(token)


def call(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    """Return the outputs `(B, ...)` of a network in the precision that is set, in parts where all rows have no room."""
    return in_parts(lambda x, t: precision.asked(net, x, t), net, x, t, shown=(x, t))


def in_parts(function: Callable[..., Tensor], net: nn.Module, *columns: Tensor, shown: tuple[Tensor, Tensor]) -> Tensor:
    """Return `function(*columns)` `(B, ...)`, which asks `net` once a row and draws nothing at random.

    `shown`: what the network is shown of one row or more. Where the graph of all rows would be larger than what is left
    of the bound, it is kept of as many rows as fit, and made again in the backward pass for the rest, part by part.
    Where that of a single row takes more than a quarter of the bound, the graphs of a network's blocks are made again
    one by one (`activations.block`).
    """
    budget, rows = _BUDGET.get(), len(columns[0])
    if rows and team.several():
        return team.divided(lambda *some: in_parts(function, net, *some, shown=shown), net, columns)
    if budget is None or rows == 0:
        return function(*columns)
    if not _learns(net, columns):
        return _one_by_one(function, columns, int(BESIDE * budget.limit // max(1, working_bytes(net, *shown))))
    graph = graph_size(net, *shown, room=BESIDE * budget.limit)
    kept = int(min(rows, max(1, (budget.left - graph.fixed) // graph.row)))
    # where little is left, parts that are made again go beyond it by a quarter of the bound and no more
    size = int(max(1, budget.left // graph.row, BESIDE * budget.limit // graph.row))
    budget.left = max(0.0, budget.left - kept * graph.row - graph.fixed)

    def paid(*some: Tensor) -> Tensor:
        with team.alone(), _set(None), blockwise(graph.blockwise):
            return function(*some)

    parts = [
        again(paid, *(column[i : min(i + size, rows - kept)] for column in columns))
        for i in range(0, rows - kept, size)
    ]
    parts.append(paid(*(column[rows - kept :] for column in columns)))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _one_by_one(function: Callable[..., Tensor], columns: tuple[Tensor, ...], size: int) -> Tensor:
    """Return what a function says of rows without a gradient, of at most `size` ≥ 1 at a time."""
    rows, size = len(columns[0]), max(1, size)
    with _set(None):
        if rows <= size:
            return function(*columns)
        return torch.cat([function(*(column[i : i + size] for column in columns)) for i in range(0, rows, size)])


def again(function: Callable[..., R], *args: object) -> R:
    """Return what a function of tensors returns, with a graph that is made in the backward pass, by calling it again.

    It must do the same when it is called again: what it draws, it draws by a seed.
    """
    budget, function = _BUDGET.get(), precision.kept(function)

    def run(*inputs: object) -> R:
        with _set(budget and _Budget(budget.limit, budget.limit)):
            return function(*inputs)

    return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)


def room(net: nn.Module, x: Tensor, t: Tensor) -> int:
    """Return of how many rows like those shown the graph fits into what is left of the bound; of any without one."""
    budget = _BUDGET.get()
    if budget is None:
        return sys.maxsize
    graph = graph_size(net, x, t, room=BESIDE * budget.limit)
    return int(max(0, budget.left - graph.fixed) // graph.row)


def _learns(net: nn.Module, columns: tuple[Tensor, ...]) -> bool:
    """Return whether a call now would keep a graph."""
    if not torch.is_grad_enabled():
        return False
    return any(column.requires_grad for column in columns) or any(p.requires_grad for p in net.parameters())
