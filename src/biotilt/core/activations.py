"""What a network's activations take of memory, measured a row; and blocks whose graph is made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biotilt.core import precision


@dataclass
class _Blocks:
    """That blocks are made again in the backward pass, and how many were called."""

    called: int = 0


@dataclass(frozen=True)
class GraphSize:
    """Bytes that a network keeps for the backward pass: of every row, and of any number of rows besides.

    Where `blockwise`, those of a row are what enters its blocks, and the graph of one of them.
    """

    row: int
    fixed: int
    blockwise: bool = False


_BLOCKS: ContextVar[_Blocks | None] = ContextVar("blocks made again", default=None)
_GRAPHS: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], GraphSize]] = WeakKeyDictionary()
_WORK: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], int]] = WeakKeyDictionary()


def block(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Return what a block of a network says: networks of ours call theirs so, one after another.

    Where not even the graph of one row has room, that of each block is made again in the backward pass.
    """
    blocks = _BLOCKS.get()
    if blocks is None or not torch.is_grad_enabled():
        return function(*inputs)
    blocks.called += 1
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


@contextmanager
def blockwise(wanted: bool = True) -> Iterator[_Blocks]:
    """Have the graphs of blocks made again, those of networks that are called inside."""
    blocks = _Blocks()
    token = _BLOCKS.set(blocks if wanted else None)
    try:
        yield blocks
    finally:
        _BLOCKS.reset(token)


def graph_size(net: nn.Module, x: Tensor, t: Tensor, room: float) -> GraphSize:
    """Return what a graph takes; where a row has no `room`, and the network has blocks that are made again, with those.

    It is measured once for rows of a shape.
    """
    known = _GRAPHS.setdefault(net, {})
    key = _key(x)
    if key not in known:
        known[key] = _measured(net, x, t)[0]
    whole = known[key]
    if whole.row <= room:
        return whole
    again = (*key, "blockwise")
    if again not in known:
        with blockwise() as blocks:
            kept, calls = _measured(net, x, t, blocks)
        known[again] = GraphSize(kept.row + whole.row // calls, kept.fixed, blockwise=True) if calls else whole
    return known[again]


def working_bytes(net: nn.Module, x: Tensor, t: Tensor) -> int:
    """Return about the most bytes that a row takes at one time without a graph; measured once for rows of a shape.

    Twice what a layer reads and says, of the layer where that is most: what it is added to, or made into, is there too.
    """
    known = _WORK.setdefault(net, {})
    key = _key(x)
    if key not in known:
        most = 0

        def seen(layer: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal most
            most = max(most, sum(each.nbytes for each in (*inputs, output) if isinstance(each, Tensor)))

        hooks = [layer.register_forward_hook(seen) for layer in net.modules() if layer is not net]
        try:
            with torch.no_grad():
                shown = _rows(x, t, 1)
                seen(net, shown, precision.asked(net.forward, *shown))
        finally:
            for hook in hooks:
                hook.remove()
        known[key] = 2 * most
    return known[key]


def _key(x: Tensor) -> tuple[object, ...]:
    return (x.shape[1:], x.dtype, x.device, x.requires_grad, precision.now())


def _measured(net: nn.Module, x: Tensor, t: Tensor, blocks: _Blocks | None = None) -> tuple[GraphSize, int]:
    """Return what a graph takes, and how many blocks a call has: two rows take twice what one of them does."""
    one, two = _saved(net, x, t, 1), _saved(net, x, t, 2)
    row = max(two - one, 1)
    return GraphSize(row, max(one - row, 0)), 0 if blocks is None else blocks.called // 2


def _saved(net: nn.Module, x: Tensor, t: Tensor, count: int) -> int:
    """Return the bytes that are kept of so many rows, but for weights as they are."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    found: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return saved

    x, t = _rows(x, t, count)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        # not by __call__: these rows are nobody's, and hooks are not to see them
        outputs = precision.asked(net.forward, x, t)
    del outputs
    return sum(found.values())


def _rows(x: Tensor, t: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first row so many times, apart from any graph but one of its own."""
    rows = x[:1].detach().expand(count, *x.shape[1:]).clone().requires_grad_(x.requires_grad)
    return rows, t[:1].detach().expand(count, *t.shape[1:]).clone()
