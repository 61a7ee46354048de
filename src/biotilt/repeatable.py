"""Same seed, same card, same result: what torch promises of a GPU only where it is asked to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS reads it when it is first used


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Have torch take, on a GPU, only operators that compute the same each time, and warn where there is none.

    Without, a run's weights differ in the sixth digit when it is repeated or resumed, and its designs after some
    rounds. Nothing changes on another device, where it is so anyway.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault(WORKSPACE, ":4096:8")  # without it torch refuses matrix products
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=not before or warned)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
