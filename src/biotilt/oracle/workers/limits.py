"""What a design may cost."""

from __future__ import annotations

from dataclasses import dataclass

from biotilt.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What one design may cost.

    `time_limit`, in seconds, of scoring one design; its worker is killed and replaced. `memory_limit`, in MB (10^6
    bytes), that scoring may allocate beyond what the loaded reward takes. `retries`: further attempts at a design
    whose worker died or that met a transient fault. `chunk`: designs that a worker is given at a time; None sizes
    chunks by measured latency.

    Raises `ConfigError` when one is out of range.
    """

    time_limit: float | None = None
    memory_limit: float | None = None
    retries: int = 1
    chunk: int | None = None

    def __post_init__(self) -> None:
        for key in ("time_limit", "memory_limit", "chunk"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ConfigError(f"oracle.{key} must be > 0, got {value}")
        if self.retries < 0:
            raise ConfigError(f"oracle.retries must be >= 0, got {self.retries}")
