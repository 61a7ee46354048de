"""Oracles in a pool of processes."""

from __future__ import annotations

import pytest
from oracle_samples import oracle_of

from biotilt.oracle import build_backend
from biotilt.oracle.workers import process


@pytest.fixture
def pool(monkeypatch):
    """Build oracles that score in a pool of 2 processes; they are closed at the end."""
    monkeypatch.setattr(process, "FIRST", 1.0)  # nothing has to be imported here
    opened = []

    def make(reward, store=None, *, workers=2, run_id="run", max_calls=None, max_unscored=1.0, **limits):
        backend = build_backend("pool", reward, workers=workers, **limits)
        oracle = oracle_of(
            reward, store, backend=backend, run_id=run_id, max_calls=max_calls, max_unscored=max_unscored
        )
        opened.append(oracle)
        return oracle

    yield make
    for oracle in opened:
        oracle.close()
