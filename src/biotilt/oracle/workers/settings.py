"""The settings of a process that a reward may have changed, and how each is read and set back."""

from __future__ import annotations

import ctypes
import os
import random
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

MT19937_BYTES = 2500  # 624 words and a position


@dataclass(frozen=True)
class Setting:
    """`get()` returns a value that later changes leave alone, `put(change(a, b))` leads from the value a to b.

    `module`: which has to be imported already; nothing is imported for the sake of a setting.
    """

    get: Callable[[], Any]
    put: Callable[[Any], Any]
    module: str = "os"
    differ: Callable[[Any, Any], bool] = lambda before, after: before != after
    change: Callable[[Any, Any], Any] = lambda before, after: after

    def there(self) -> bool:
        return self.module in sys.modules


def _torch() -> Any:
    return sys.modules["torch"]


def _numpy() -> Any:
    return sys.modules["numpy"]


def _set_device(device: Any) -> None:
    _torch().set_default_device(None if device.type == "cpu" else device)


def _deterministic() -> tuple[bool, bool]:
    torch = _torch()
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _torch_numbers() -> list[bytes]:
    torch = _torch()
    found = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        found += torch.cuda.get_rng_state_all()
    return [state.numpy().tobytes() for state in found]


def _set_torch_numbers(states: list[bytes]) -> None:
    torch = _torch()
    tensors = [torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in states]
    torch.set_rng_state(tensors[0])
    if len(tensors) > 1:
        torch.cuda.set_rng_state_all(tensors[1:])


NumpyState = tuple[bytes | None, dict[str, Any]]

_last: NumpyState = (None, {})


def _numpy_numbers() -> NumpyState:
    """Return the words of the generator, which are cheap to read, and its state, which takes NumPy 0.1 ms to tell.

    Every draw changes the words, but for the second of a pair of normal numbers, which the state keeps.
    """
    global _last
    random_module = _numpy().random
    bits = random_module.get_bit_generator()
    known = type(bits) is random_module.MT19937
    mark = ctypes.string_at(bits.ctypes.state_address, MT19937_BYTES) if known else None
    if mark is None or mark != _last[0] or _last[1]["has_gauss"]:
        _last = mark, random_module.get_state(legacy=False)
    return _last


def _numbers_differ(before: NumpyState, after: NumpyState) -> bool:
    return before[0] is None or before[0] != after[0] or before[1]["has_gauss"] != after[1]["has_gauss"]


def _set_numpy_numbers(found: NumpyState) -> None:
    global _last
    _numpy().random.set_state(found[1])
    _last = found


def _set_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # it also tells the interpreter to look at the list again
    shown: Any = warnings.filters  # a list, whatever its stub says
    shown[:] = filters


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # a tenth of the time
    except OSError:  # it was deleted
        return None


def _go_to(folder: str | None) -> None:
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)


def _environment() -> dict[Any, Any]:
    """Return the variables; the encoded ones, where Python has them, since to decode them all takes 0.1 ms."""
    return dict(getattr(os.environ, "_data", os.environ))


def _changed_variables(before: dict[Any, Any], after: dict[Any, Any]) -> dict[Any, Any]:
    """Return the new values of those that differ, None for one that is gone."""
    return {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _set_variables(change: dict[Any, Any]) -> None:
    for name, value in change.items():
        variables: Any = os.environb if isinstance(name, bytes) else os.environ
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value


_C: Any = ctypes.CDLL(None) if os.name == "posix" else None


def flush_c() -> None:
    """Write what C code has printed and still holds back."""
    if _C is not None:
        _C.fflush(None)


SETTINGS = {
    "dtype": Setting(lambda: _torch().get_default_dtype(), lambda dtype: _torch().set_default_dtype(dtype), "torch"),
    "device": Setting(lambda: _torch().empty(0).device, _set_device, "torch"),
    "threads": Setting(lambda: _torch().get_num_threads(), lambda count: _torch().set_num_threads(count), "torch"),
    "deterministic": Setting(
        _deterministic, lambda on: _torch().use_deterministic_algorithms(on[0], warn_only=on[1]), "torch"
    ),
    "precision": Setting(
        lambda: _torch().get_float32_matmul_precision(),
        lambda precision: _torch().set_float32_matmul_precision(precision),
        "torch",
    ),
    "torch numbers": Setting(_torch_numbers, _set_torch_numbers, "torch"),
    "numpy numbers": Setting(_numpy_numbers, _set_numpy_numbers, "numpy.random", _numbers_differ),
    "numpy errors": Setting(lambda: _numpy().geterr(), lambda kinds: _numpy().seterr(**kinds), "numpy"),
    "numbers": Setting(random.getstate, random.setstate),
    "warnings": Setting(lambda: warnings.filters[:], _set_filters),
    "folder": Setting(_folder, _go_to),
    "environment": Setting(_environment, _set_variables, change=_changed_variables),
}
RANDOM_NUMBERS = ("torch numbers", "numpy numbers", "numbers")
