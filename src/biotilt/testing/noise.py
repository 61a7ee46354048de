"""The same random numbers on every device, so that what two devices compute can be compared draw by draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PlacedGenerator(torch.Generator):
    """A generator that says it is of a device, and is one of the processor."""

    _where: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> PlacedGenerator:
        made = super().__new__(cls)
        made._where = torch.empty(0, device=device).device  # with the number of the card
        return made

    @property
    def device(self) -> torch.device:
        return self._where


class _SameNoise(TorchFunctionMode):
    """Has what placed generators draw drawn on the processor, and brings it to where it was wanted."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        generator = given.get("generator")
        if not isinstance(generator, PlacedGenerator):
            return func(*args, **given)
        wanted = given.pop("device", args[0].device if args and isinstance(args[0], Tensor) else "cpu")
        if torch.device(wanted).type != generator.device.type:
            raise RuntimeError(f"a generator of {generator.device} cannot draw on {wanted}")
        here = (arg.cpu() if isinstance(arg, Tensor) else arg for arg in args)
        return func(*here, **given).to(wanted)


@contextmanager
def same_noise() -> Iterator[None]:
    """Make generators that draw the same on every device, for as long as this lasts: `torch.Generator` is another.

    What they draw comes from the processor: use it to compare devices, not to compute.

    >>> with same_noise():
    ...     generator = torch.Generator("cpu").manual_seed(0)
    ...     first = torch.rand(2, generator=generator, device=generator.device)
    >>> bool((first == torch.rand(2, generator=torch.Generator().manual_seed(0))).all())
    True
    """
    real = torch.Generator
    torch.Generator = PlacedGenerator
    try:
        with _SameNoise():
            yield
    finally:
        torch.Generator = real
