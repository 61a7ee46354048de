"""One run in several processes: all do the same, with the same random numbers, and divide the rows of networks.

Every process draws every random number, keeps every state and takes every step of the optimiser. What costs are the
rows of networks: each process computes its share of them, and all get all outputs. So designs and weights do not depend
on the number of processes, but for the rounding of sums, and no algorithm knows of it. In the backward pass each
process has the gradient of its own rows, and the sum over processes is that of all. What only one may do, to ask an
oracle or to write a file, the first one does, and tells the others.
"""

from __future__ import annotations

import atexit
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx

from biotilt import errors
from biotilt.errors import BiotiltError, ProcessLost
from biotilt.ranks import is_first, launched

R = TypeVar("R")
PATIENCE = datetime.timedelta(days=1)  # an oracle may take long
BUCKET = 25_000_000  # numbers of a gradient that are summed at a time
_ALONE: ContextVar[bool] = ContextVar("what one process does by itself", default=False)
_DIVIDED: WeakSet[nn.Module] = WeakSet()


def join() -> None:
    """Meet the processes that were started with this one, where there are any; called again it does nothing.

    Raises ProcessLost when they cannot be reached.
    """
    if launched() == 1 or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    with _in_touch():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def several() -> bool:
    """Return whether other processes do the same as this one now."""
    return dist.is_initialized() and launched() > 1 and not _ALONE.get()


@contextmanager
def alone() -> Iterator[None]:
    """Do something by oneself: no other process is asked, or waited for, inside."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


@contextmanager
def _in_touch() -> Iterator[None]:
    """Say of a process that does not answer what to do."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # what torch says of connections
        raise ProcessLost(
            "another process of this run has ended, or cannot be reached, and this one cannot go on alone; see what "
            f"that one said. The same command goes on from the last checkpoint ({errors.one_line(error)})"
        ) from error


def divided(function: Callable[..., Tensor], net: nn.Module, columns: tuple[Tensor, ...]) -> Tensor:
    """Return `function(*columns)` `(B, ...)`, B ≥ 1, of which each process computes a share of rows with `net`."""
    _DIVIDED.add(net)
    rows, rank = len(columns[0]), dist.get_rank()
    size = -(-rows // dist.get_world_size())
    # all shares are of one size: what is beyond the last row repeats it, and is dropped
    places = torch.arange(rank * size, (rank + 1) * size, device=columns[0].device).clamp(max=rows - 1)
    with alone():
        mine = function(*(_shown(column)[places] for column in columns))
    return _Gathered.apply(mine, rows)


def _shown(column: Tensor) -> Tensor:
    return _Shown.apply(column) if column.requires_grad else column


class _Shown(Function):
    """What all processes have, shown to rows that they divide: its gradient is that of all rows."""

    @staticmethod
    def forward(ctx: FunctionCtx, column: Tensor) -> Tensor:
        return column.view_as(column)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        with _in_touch():
            dist.all_reduce(total)
        return total


class _Gathered(Function):
    """The outputs of all rows, of which each process computed a share: its gradient goes to that share."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, rows: int) -> Tensor:
        mine = mine.contiguous()
        ctx.share = mine.shape
        shares = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        with _in_touch():
            dist.all_gather(shares, mine.detach())
        return torch.cat(shares)[:rows]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        size = ctx.share[0]
        mine = grad.new_zeros(ctx.share)
        part = grad[dist.get_rank() * size : (dist.get_rank() + 1) * size]
        mine[: len(part)] = part
        return mine, None


@torch.no_grad()
def sum_gradients(modules: Iterable[nn.Module]) -> None:
    """Give the weights of networks whose rows were divided the gradient of all rows; all processes have the others'."""
    if not several():
        return
    shared = {id(p) for net in _DIVIDED for p in net.parameters()}
    waiting: list[Tensor] = []
    for grad in [p.grad for module in modules for p in module.parameters() if id(p) in shared and p.grad is not None]:
        waiting.append(grad)
        if sum(each.numel() for each in waiting) >= BUCKET:
            _summed(waiting)
            waiting = []
    _summed(waiting)


def _summed(grads: list[Tensor]) -> None:
    if not grads:
        return
    flat = torch.cat([grad.flatten() for grad in grads])
    with _in_touch():
        dist.all_reduce(flat)
    for grad, total in zip(grads, flat.split([grad.numel() for grad in grads])):
        grad.copy_(total.view_as(grad))


@torch.no_grad()
def as_the_first(modules: Iterable[nn.Module]) -> None:
    """Give all processes the weights and buffers of the first one."""
    if not several():
        return
    done: set[int] = set()
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.data_ptr() not in done and tensor.numel():
                done.add(tensor.data_ptr())
                there = tensor.detach().contiguous()
                with _in_touch():
                    dist.broadcast(there, 0)
                tensor.copy_(there)


def from_first(work: Callable[[], R]) -> R:
    """Return what the first process finds, plain JSON; an error of biotilt's there is one in all.

    What it does otherwise ends it, and then the others.
    """
    if not several():
        return work()
    if not is_first():
        told = json.loads(_told(b""))
        if "error" in told:
            raise getattr(errors, told["error"], BiotiltError)(told["text"])
        return told["found"]
    try:
        with alone():
            found = work()
    except BiotiltError as error:
        _told(json.dumps({"error": type(error).__name__, "text": str(error)}).encode())
        raise
    _told(json.dumps({"found": found}).encode())
    return found


def wait() -> None:
    """Wait until all processes are here."""
    from_first(lambda: None)


def _told(text: bytes) -> bytes:
    """Return the text of the first process."""
    with _in_touch():
        size = torch.tensor([len(text)])
        dist.broadcast(size, 0)
        letters = torch.zeros(int(size), dtype=torch.uint8)
        if is_first():
            letters = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        dist.broadcast(letters, 0)
    return letters.numpy().tobytes()


def total(count: float) -> float:
    """Return the sum of a number over the processes."""
    if not several():
        return count
    there = torch.tensor([count], dtype=torch.float64)
    with _in_touch():
        dist.all_reduce(there)
    return there.item()


def require_agreement(said: Callable[[], str]) -> None:
    """Raise BiotiltError unless all processes say the same: else each would tune a network of its own."""
    if not several():
        return
    mine = torch.tensor([int.from_bytes(hashlib.sha256(said().encode()).digest()[:7])])
    said_by = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    with _in_touch():
        dist.all_gather(said_by, mine)
    if any(not torch.equal(other, mine) for other in said_by):
        raise BiotiltError(
            "the processes of this run no longer compute the same numbers: they must be of one kind, with the same "
            "versions of torch and of all files; the last checkpoint is kept"
        )
