"""A device that is nowhere: tensors say that they are on "far:0", and refuse to meet those of the processor.

What a graphics card would refuse, or hand to numpy, raises here too, while everything is computed on the processor. So
whole rounds can be run for a card where there is none. Torch knows one such device a process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from biotilt.testing import same_noise

# before the first backward pass of the process, which counts the devices that there are
_setup_privateuseone_for_python_backend("far")
DEVICE = torch.device("far:0")
ATEN = torch.ops.aten
MOVES = {ATEN._to_copy.default, ATEN.copy_.default}
INDEXED = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}


class Far(Tensor):
    """A tensor on the device: `here` is what it holds."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Far:
        made = Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.here = here
        return made

    __torch_function__: ClassVar[Any] = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _there(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.here.tolist()

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(torch.tensor(index) if isinstance(index, list) else index)

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.here.untyped_storage()

    def __repr__(self, **_: Any) -> str:
        return f"Far({self.here})"


def is_far(where: Any) -> bool:
    return where is not None and torch.device(where).type == "far"


def _leaves(nested: Any) -> Iterator[Tensor]:
    """Yield the tensors in what an operator takes: lists and tuples of them at most, so no general tree is walked."""
    for one in nested:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from _leaves(one)


def _mapped(change: Callable[[Tensor], Any], one: Any) -> Any:
    if isinstance(one, Tensor):
        return change(one)
    return type(one)(_mapped(change, each) for each in one) if type(one) in (list, tuple) else one


def _here(one: Tensor) -> Tensor:
    return one.here if isinstance(one, Far) else one


@functools.cache
def _kind(function: Any) -> tuple[bool, bool]:
    """Return whether an operator returns anything, and whether that is its first argument."""
    schema = function._schema
    in_place = function is ATEN.copy_.default or (schema.is_mutable and function.__name__.split(".")[0][-1] == "_")
    return bool(schema.returns), in_place


def _there(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do on the processor what an operator would do on the device, and refuse what it would refuse."""
    leaves = [*_leaves(args), *_leaves(kwargs.values())]
    target, to = args[0] if args and isinstance(args[0], Tensor) else None, kwargs.get("device")
    checked = leaves if function not in MOVES else []
    if function in INDEXED and isinstance(target, Far):  # indices may be on the processor
        checked = [args[0], *_leaves(args[2:])]
    alien = [leaf for leaf in checked if not isinstance(leaf, Far) and leaf.dim()]
    if alien and any(isinstance(leaf, Far) for leaf in leaves):
        raise RuntimeError(f"{function}: {alien[0].dtype} {tuple(alien[0].shape)} of the processor met the device")
    options = {key: _mapped(_here, value) for key, value in kwargs.items()}
    if to is not None:
        options["device"] = torch.device("cpu")
    found = function(*_mapped(_here, tuple(args)), **options)
    returns, in_place = _kind(function)
    if not returns:
        return None
    if in_place:
        return args[0]
    stays = is_far(to) if to is not None else True
    return _mapped(Far, found) if stays else found


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_far(kwargs.get("device")):
            return _there(function, args, kwargs)
        return function(*args, **kwargs)


class _Literals(TorchFunctionMode):
    """Literals are made on the processor, and brought to the device."""

    made: ClassVar[tuple[Any, ...]] = (torch.tensor, torch.as_tensor)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in self.made and is_far(kwargs.get("device")) and not isinstance(args[0], Far):
            there = kwargs.pop("device")
            return function(*args, **kwargs).to(there)
        return function(*args, **kwargs)


@contextmanager
def far_device() -> Iterator[torch.device]:
    """Make "far" a device that this process has, as long as it lasts; it draws the processor's noise."""
    with same_noise(), _Operators(), _Literals():
        yield DEVICE
